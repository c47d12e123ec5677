//! Flags of the original's `submit` that scripts always give: taken, or of no effect here.

use anyhow::Result;
use clap::Args;
use mooring_api::Submission;
use mooring_types::job::{Image, Volume};

use crate::error::Usage;
use crate::printer::Printer;

/// The heading of the flags in the help.
const HEADING: &str = "Accepted for scripts";

/// The flags.
#[derive(Debug, Args)]
pub(crate) struct AcceptedFlags {
    /// same as the tag in `--image name:tag`
    #[arg(long, value_name = "TAG", help_heading = HEADING)]
    tag: Option<String>,
    /// same as `--dataVolume`, for a directory of the host; repeatable
    #[arg(long = "dirMap", value_name = "PATH:MOUNT", help_heading = HEADING)]
    dir_map: Vec<Volume>,
    /// no effect: volumes grow as they need
    #[arg(long = "imageVolSize", value_name = "GB", help_heading = HEADING)]
    image_vol_size: Option<String>,
    /// no effect: volumes grow as they need
    #[arg(long = "rootVolSize", value_name = "GB", help_heading = HEADING)]
    root_vol_size: Option<String>,
    /// no effect: hosts have no instance types; use `--host`, or `-c` and `-m`
    #[arg(long = "allowList", value_name = "[TYPE,...]", help_heading = HEADING)]
    allow_list: Vec<String>,
    /// no effect: hosts have no instance types; use `--host`, or `-c` and `-m`
    #[arg(long = "denyList", value_name = "[TYPE,...]", help_heading = HEADING)]
    deny_list: Vec<String>,
}

impl AcceptedFlags {
    /// Adds what the flags say to a submission, and tells which of them have no effect.
    pub(crate) fn add_to(self, submission: &mut Submission, printer: &Printer) -> Result<()> {
        if let Some(tag) = &self.tag {
            tagged(submission, tag)?;
        }
        submission.data_volumes.extend(self.dir_map);
        let is_given = |value: &Option<String>| value.is_some();
        if is_given(&self.image_vol_size) || is_given(&self.root_vol_size) {
            printer.note("note: the size of the image's and the root volume has no effect: volumes grow as they need");
        }
        if !self.allow_list.is_empty() || !self.deny_list.is_empty() {
            printer
                .note("note: a list of instance types has no effect, hosts have none: use `--host`, or `-c` and `-m`");
        }
        Ok(())
    }
}

/// Joins a tag to the image.
fn tagged(submission: &mut Submission, tag: &str) -> Result<()> {
    let Some(image) = &submission.image else {
        return Err(Usage::new("`--tag` without an image", "give both: `-i name --tag TAG`, or `-i name:TAG`").into());
    };
    let (whole, is_of_registry) = (image.to_string(), matches!(image, Image::Registry(_)));
    // An image that is given without a tag has this one.
    let image = whole.strip_suffix(":latest").unwrap_or(&whole);
    let name = image.rsplit_once('/').map_or(image, |(_, name)| name);
    let may_be_joined = is_of_registry && !name.contains([':', '@']);
    let joined = if !may_be_joined { None } else { format!("{image}:{tag}").parse().ok() };
    let Some(joined) = joined else {
        return Err(Usage::new(
            format!("`--tag {tag}` can't be joined to the image `{image}`"),
            "give the image as `name:tag`, without `--tag`",
        )
        .into());
    };
    submission.image = Some(joined);
    Ok(())
}
