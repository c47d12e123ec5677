//! The data volumes of a job, from a submission.

use mooring_types::job::{Volume, VolumeSource};
use mooring_types::mounts::Scheme;

use crate::error::{ApiError, ApiResult, At};

/// Refuses data volumes that no host can mount.
pub(super) fn volumes(given: &[Volume]) -> ApiResult<Vec<Volume>> {
    let mut volumes: Vec<Volume> = Vec::new();
    for volume in given {
        if let Some(reason) = volume.unsupported() {
            return Err(ApiError::invalid(format!("volume `{}` can't be mounted: {reason}", volume.redacted()))
                .hint(alternative(volume))
                .at("dataVolumes"));
        }
        if let Some(other) = volumes.iter().find(|other| other.mount == volume.mount) {
            let mount = other.mount.display();
            return Err(ApiError::invalid(format!("two volumes are mounted at `{mount}`")).at("dataVolumes"));
        }
        volumes.push(volume.clone());
    }
    Ok(volumes)
}

/// Returns a hint: what to write in place of a volume that can't be mounted.
fn alternative(volume: &Volume) -> &'static str {
    match &volume.source {
        VolumeSource::Existing(_) => {
            "use a fresh volume that lives with the job, `[size=10]:/mount`, a path that all hosts have, `/path:/mount`, or a bucket, `s3://bucket/prefix:/mount`"
        }
        VolumeSource::Remote { scheme: Scheme::S3, .. } => {
            "write it as `[mode=rw,endpoint=https://…,accessKey=…,secret=…]s3://bucket/prefix:/mount`"
        }
        VolumeSource::Remote { scheme: Scheme::Nfs, .. } => {
            "write it as `[opts=\"vers=4.2\"]nfs://server/export:/mount`"
        }
        _ => "mount it on every host, and give the path: `--dataVolume /path:/mount`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: &ApiError) -> String {
        error.0.message.clone()
    }

    #[test]
    fn unmountable_volumes_are_refused_without_their_secrets() {
        let volumes = |texts: &[&str]| volumes(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>());
        assert_eq!(volumes(&["/data:/data:ro", "[size=1]:/scratch"]).unwrap().len(), 2);
        let error = volumes(&["[secret=SK]s3://bucket:/mnt"]).unwrap_err();
        let told_of = told(&error);
        assert!(
            told_of.starts_with("volume `[secret=********]s3://bucket:/mnt` can't be mounted: it takes"),
            "{told_of}"
        );
        let error = volumes(&["vol-0a1b:/mnt"]).unwrap_err();
        let told_of = told(&error);
        assert!(told_of.ends_with("can't be mounted: hosts have no volumes that exist apart from jobs"), "{told_of}");
        let error = volumes(&["/a:/x", "/b:/x"]).unwrap_err();
        assert_eq!(told(&error), "two volumes are mounted at `/x`");
    }
}
