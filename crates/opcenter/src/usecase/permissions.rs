//! The limits of users: volumes, migrations and reruns that they may request.

use std::path::PathBuf;

use mooring_api::ErrorCode;
use mooring_store::JobRow;
use mooring_types::Role;
use mooring_types::job::{Bucket, Image, Volume, VolumeSource};
use mooring_types::mounts::Scheme;
use mooring_types::policy::{Moves, Rerun};

use crate::error::{ApiError, ApiResult};

/// Checks that a user's job may mount its volumes: root on a path of a host is root on the host.
pub(super) fn may_mount(role: Role, allowed: &[PathBuf], volumes: &[Volume]) -> ApiResult<()> {
    if role != Role::Admin {
        volumes.iter().try_for_each(may_reach)?;
    }
    let refused = volumes.iter().find_map(|volume| match &volume.source {
        VolumeSource::HostPath(path) if !allowed.iter().any(|allowed| path.starts_with(allowed)) => Some(path),
        _ => None,
    });
    match refused {
        Some(path) if role != Role::Admin => {
            let hint = match allowed {
                [] => "an admin can".to_owned(),
                allowed => format!("you can below {}", listed(allowed)),
            };
            Err(ApiError::new(ErrorCode::PermissionDenied, format!("you can't mount `{}` of a host", path.display()))
                .hint(hint))
        }
        _ => Ok(()),
    }
}

/// Checks that a user's job may use an image from a path of the host. The job reads everything
/// below the path as root.
pub(super) fn may_use(role: Role, allowed: &[PathBuf], image: &Image) -> ApiResult<()> {
    match image.host_path() {
        Some(path) if role != Role::Admin && !allowed.iter().any(|allowed| path.starts_with(allowed)) => {
            let message = format!("the image `{image}` of a host takes the role `admin`");
            Err(ApiError::new(ErrorCode::PermissionDenied, message).hint(match allowed {
                [] => "use an image of a registry, or ask an admin".to_owned(),
                allowed => format!("use an image of a registry, or one below {}", listed(allowed)),
            }))
        }
        _ => Ok(()),
    }
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Checks that a host may connect to the server of a volume in a user's name.
///
/// An NFS server trusts the host that asks. Services on a host's network that speak plain HTTP,
/// like the metadata service of a cloud, trust everyone who reaches them.
fn may_reach(volume: &Volume) -> ApiResult<()> {
    let refused = |what: &str, hint: &str| Err(ApiError::new(ErrorCode::PermissionDenied, what.to_owned()).hint(hint));
    match volume.scheme() {
        Some(Scheme::Nfs) => refused("NFS volumes take the role `admin`", "an admin can"),
        Some(Scheme::S3) if Bucket::of(volume).is_ok_and(|bucket| bucket.endpoint.starts_with("http://")) => {
            refused("S3 services without TLS take the role `admin`", "give an endpoint `https://…`, or ask an admin")
        }
        _ => Ok(()),
    }
}

/// Checks that a user may migrate a job.
pub(super) fn may_migrate(job: &JobRow) -> ApiResult<()> {
    match job.policy.moves {
        Moves::Allowed => Ok(()),
        Moves::Disabled => Err(ApiError::new(ErrorCode::WrongStatus, "the job was submitted with `--disableMigrate`")
            .hint("it stays where it is until it ends")),
    }
}

/// Checks that a job may be submitted again.
pub(super) fn may_rerun(job: &JobRow) -> ApiResult<()> {
    if job.spec.image == Image::External {
        return Err(ApiError::new(ErrorCode::WrongStatus, "the job runs under another scheduler")
            .hint("start it there, and register it with `float job register`"));
    }
    match job.policy.rerun {
        Rerun::Allowed => Ok(()),
        Rerun::Disabled => {
            Err(ApiError::new(ErrorCode::PermissionDenied, "the job was submitted with `--disableRerun`")
                .hint("submit it with `float submit`; `inputArgs` of `float show` has the arguments"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usecase::volumes::volumes;

    fn message(error: &ApiError) -> String {
        error.0.message.clone()
    }

    #[test]
    fn host_images_take_an_admin_or_an_allowed_directory() {
        let allowed = [PathBuf::from("/srv/images")];
        for (text, everybody) in [
            ("dir:/srv/images/debian", true),
            ("oci-archive:/srv/images/debian.tar", true),
            ("docker.io/library/debian:13", true),
            ("dir:/", false),
            ("dir:/srv/images-of-others", false),
            ("oci:/var/lib/mooring", false),
            ("oci-archive:/root/image.tar", false),
        ] {
            let image: Image = text.parse().unwrap();
            may_use(Role::Admin, &[], &image).unwrap();
            assert_eq!(may_use(Role::User, &allowed, &image).is_ok(), everybody, "{text}");
        }
    }

    #[test]
    fn host_paths_take_an_admin_or_an_allowed_directory() {
        let allowed = [PathBuf::from("/srv/data")];
        let may = |role, text: &str| may_mount(role, &allowed, &volumes(&[text.parse().unwrap()]).unwrap());
        for (text, everybody) in [
            ("/srv/data:/x", true),
            ("/srv/data/set:/x:ro", true),
            ("[size=1]:/x", true),
            ("/srv/database:/x", false),
            ("/srv:/x:ro", false),
            ("/:/x", false),
            ("s3://bucket/a:/x", true),
            ("[endpoint=https://minio:9000]s3://bucket/a:/x", true),
            ("[endpoint=http://169.254.169.254]s3://latest/meta-data:/x", false),
            ("nfs://server/a:/x", false),
        ] {
            may(Role::Admin, text).unwrap();
            assert_eq!(may(Role::User, text).is_ok(), everybody, "{text}");
        }
        assert_eq!(message(&may(Role::User, "/etc:/x").unwrap_err()), "you can't mount `/etc` of a host");
    }
}
