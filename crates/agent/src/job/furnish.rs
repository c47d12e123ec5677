//! The parts of a job that are made before it executes here: image, bundle, volumes and network.

use crate::disk;
use crate::error::{Error, Result};
use crate::job::directives::Directives;
use crate::job::held::HeldJob;
use crate::runtime::bundle::{self, HostPart};
use crate::runtime::image::Image;
use crate::runtime::own;
use crate::runtime::volume;

/// Checks that the disk has room for one more job.
///
/// # Errors
/// Less than the reserve is free.
pub(crate) fn check_disk(job: &HeldJob) -> Result<()> {
    disk::shortage(&job.host().config).map_or(Ok(()), |reason| Err(Error::NoRoom { reason }))
}

/// Makes the job's image ready, unless another order comes meanwhile. Reports tell the progress.
/// The record names the image by its digest from then on.
///
/// # Errors
/// The image can't be had, another order took the place of this one, or the agent stops.
pub(crate) async fn ready_image(job: &mut HeldJob, directives: &Directives) -> Result<Image> {
    let host = job.host();
    let image = tokio::select! {
        image = host.images.ready_with(&job.journal.spec.image, |progress| job.report_progress(progress)) => image,
        () = host.stop.cancelled() => Err(Error::Superseded),
        () = directives.replaced() => Err(Error::Superseded),
    };
    job.report_progress(String::new());
    let image = image?;
    if let Some(digest) = &image.digest {
        job.pin_image(digest)?;
    }
    Ok(image)
}

/// Writes the bundle, makes the volumes and the network.
///
/// # Errors
/// This host lacks something, or refuses.
pub(crate) async fn make_bundle(job: &HeldJob, image: &Image) -> Result<()> {
    let (host, spec, job_dir) = (job.host(), &job.journal.spec, job.job_dir());
    let trust = host.config.trust.to_string();
    let part = HostPart {
        job: job.id(),
        opcenter: &host.config.opcenter,
        trust: &trust,
        address: host.config.underlay,
        clock_offset_seconds: host.config.clock_offset_seconds,
        float: &host.config.float,
        state_dir: &host.config.state_dir,
        hook_socket: &host.hook_socket(),
    };
    volume::check(&spec.volumes, host.hidden())?;
    bundle::write(&job_dir, spec, image, &part)?;
    volume::make(&job_dir, &spec.volumes, &own::user(spec, image), host.hidden()).await?;
    let mtu = host.network.lock().await.mtu();
    job_dir.net(mtu).setup().await?;
    Ok(host.filter.admit(&job_dir)?)
}
