//! The tabs of the job's files: the output as it is written, and the attachments.
//!
//! The page only says which file is followed. The script `output.js` watches it: OpCenter pushes
//! each piece as the job's host sends it. The script shows the pieces as text.

use askama::Template;
use mooring_api::paths::{self, fill};
use mooring_types::JobId;
use mooring_types::job::OutputFile;

use crate::web::ui;

/// The name of both streams together.
const BOTH_STREAMS: &str = "output";

/// A file that the tab can show.
struct Choice {
    name: String,
    label: String,
    is_chosen: bool,
}

/// The tab of the output.
#[derive(Template)]
#[template(path = "job/output.html")]
pub(super) struct OutputTab {
    job: JobId,
    files: Vec<Choice>,
    chosen: String,
    /// The address of the watch, without the file.
    watch: String,
    /// The address of the list of files.
    listed: String,
    download: String,
}

impl OutputTab {
    /// Returns the tab with a file, or with both streams if there is no such file.
    pub(super) fn new(job: &JobId, files: &[(OutputFile, u64)], chosen: &str) -> Self {
        let known = files.iter().find(|(file, _)| file.to_string() == chosen);
        let chosen = known.map_or_else(|| BOTH_STREAMS.to_owned(), |(file, _)| file.to_string());
        let streams = [
            (BOTH_STREAMS.to_owned(), "Output and errors".to_owned()),
            (OutputFile::Stdout.to_string(), "Output".to_owned()),
            (OutputFile::Stderr.to_string(), "Errors".to_owned()),
        ];
        let results = files.iter().filter_map(|(file, _)| match file {
            OutputFile::Result(name) => Some((file.to_string(), name.clone())),
            OutputFile::Stdout | OutputFile::Stderr => None,
        });
        let choice = |(name, label): (String, String)| Choice { is_chosen: name == chosen, name, label };
        Self {
            job: job.clone(),
            files: streams.into_iter().chain(results).map(choice).collect(),
            watch: fill(paths::JOB_LOG_WATCH, &[job.as_str()]),
            listed: fill(paths::JOB_LOGS, &[job.as_str()]),
            download: download(job, &chosen),
            chosen,
        }
    }
}

/// Returns the address from which a file is downloaded.
fn download(job: &JobId, file: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("name", file).finish();
    format!("{}?{query}", fill(paths::JOB_FILES, &[job.as_str()]))
}

/// A file to download.
struct Attachment {
    name: String,
    about: &'static str,
    size: u64,
    download: String,
}

/// The tab of the attachments.
#[derive(Template)]
#[template(path = "job/attachments.html")]
pub(super) struct AttachmentsTab {
    files: Vec<Attachment>,
}

impl AttachmentsTab {
    pub(super) fn new(job: &JobId, files: &[(OutputFile, u64)]) -> Self {
        let attachment = |(file, size): &(OutputFile, u64)| {
            let about = match file {
                OutputFile::Stdout => "standard output",
                OutputFile::Stderr => "standard error",
                OutputFile::Result(_) => "result",
            };
            Attachment { name: file.to_string(), about, size: *size, download: download(job, &file.to_string()) }
        };
        Self { files: files.iter().map(attachment).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::job::sample;

    fn files() -> Vec<(OutputFile, u64)> {
        vec![(OutputFile::Stdout, 12), (OutputFile::Stderr, 0), (OutputFile::Result("a+b.tar.gz".into()), 1_530_000)]
    }

    #[test]
    fn templates_render() {
        let job = sample::job().id;
        let text = OutputTab::new(&job, &files(), "results/a+b.tar.gz").render().unwrap();
        assert!(
            text.contains("data-file=\"results/a+b.tar.gz\"") && text.contains("name=results%2Fa%2Bb.tar.gz"),
            "{text}"
        );
        assert_eq!(text.matches("aria-current=\"true\"").count(), 1);
        let text = AttachmentsTab::new(&job, &files()).render().unwrap();
        assert!(text.contains("1.53 MB") && text.contains("standard error"), "{text}");
    }

    #[test]
    fn unknown_files_are_both_streams() {
        let tab = OutputTab::new(&sample::job().id, &files(), sample::MARKUP);
        assert_eq!(tab.chosen, BOTH_STREAMS);
        assert!(!tab.render().unwrap().contains(sample::MARKUP));
    }
}
