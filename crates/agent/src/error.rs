//! Errors of the agent.
//!
//! Users read most of them in the outcome of a migration, so each names its subject. That is the
//! job, this host, the other host, CRIU, a tool, the capsule or OpCenter.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use mooring_api::{ClientError, ErrorCode, watch};
use mooring_types::{GatewayId, MigrationId};

use crate::network::NetworkError;
use crate::tool_text::ToolText;

/// A result of this crate.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the agent, or of something that it attempted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, a socket or a process.
    #[error("can't {attempt}")]
    System {
        /// The attempt with its subject.
        attempt: String,
        #[source]
        source: io::Error,
    },
    /// Namespaces, mounts, links, control groups.
    #[error(transparent)]
    Linux(#[from] mooring_linux::Error),
    #[error("can't apply the overlay network's configuration")]
    Network(#[from] NetworkError),
    /// A join that OpCenter refuses for good, of a host that has nothing to keep.
    #[error("{}", join_refused(.0))]
    JoinRefused(#[source] Box<ClientError>),
    #[error("a request to OpCenter failed")]
    OpCenter(#[from] ClientError),
    /// A tool that ran and failed.
    #[error("{failure}: {text}")]
    Tool {
        /// The sentence on the failure.
        failure: String,
        /// The text of the tool.
        text: ToolText,
    },
    /// An image that can't be used.
    #[error("can't use image {image}: {reason}")]
    Image {
        image: String,
        /// The cause, with what to do.
        reason: String,
    },
    /// A disk that is too full for one more job.
    #[error("the host has no room for the job: {reason}")]
    NoRoom {
        /// The disk, with what to do.
        reason: String,
    },
    /// A volume that this host can't provide.
    #[error("can't mount volume {volume}: {reason}")]
    Volume { volume: String, reason: String },
    /// A volume whose source can't be read.
    #[error("the volume's source is malformed: {reason}")]
    VolumeSource { reason: String },
    /// The capsule store, or a capsule in it.
    #[error("can't use the capsule store")]
    Capsule(#[from] mooring_capsule::Error),
    #[error("OpCenter has named no capsule store")]
    NoStore,
    #[error("OpCenter has sent a malformed capsule key for the capsule store")]
    CapsuleKey,
    /// A certificate or a TLS connection.
    #[error("can't {attempt}: {reason}")]
    Tls { attempt: &'static str, reason: String },
    /// The frames of a capsule, between hosts or from the store.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A checkpoint or a restore.
    #[error(transparent)]
    Criu(#[from] CriuError),
    /// A job that can't be checkpointed, as the look before the freeze has found.
    #[error("{reason}")]
    Unmovable {
        /// The findings, which name their processes.
        reason: String,
    },
    /// Another order came while this one was carried out, or the agent was stopped.
    #[error("{}", watch::SUPERSEDED)]
    Superseded,
    /// An action for which the job is in the wrong state: a bug of the agent.
    #[error("can't {action} a job that is {state}")]
    WrongState { action: &'static str, state: &'static str },
    #[error("{0} took too long")]
    TimedOut(String),
    /// A gateway's process that did not live until it was on record.
    #[error("gateway {gateway} ended at once: its `gateway.log` says why")]
    GatewayEnded { gateway: GatewayId },
    /// Jobs that should be parked before the agent ends.
    #[error("these jobs could not be parked: {0}")]
    NotParked(String),
    /// A failpoint of a test.
    #[error(transparent)]
    Injected(#[from] mooring_ops::failpoint::Injected),
}

/// Tells what of a join OpCenter refuses.
pub(crate) fn join_refused(error: &ClientError) -> &'static str {
    match error.code() {
        Some(ErrorCode::Unauthenticated | ErrorCode::PermissionDenied) => "OpCenter refuses the join token",
        _ => "OpCenter refuses this host",
    }
}

/// A capsule that can't be sent or received.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error("{}", watch::OTHER_END_CLOSED)]
    Closed,
    #[error("the stream has bytes that are no frame")]
    NoFrame,
    #[error("the stream has a frame of {bytes} bytes, longer than any that is sent")]
    FrameTooLong { bytes: usize },
    #[error("the stream has a malformed frame of kind {kind}")]
    Malformed { kind: u8 },
    #[error("the stream has a frame where its kind may not be")]
    OutOfOrder,
    /// Source: an answer of the destination.
    #[error("the destination refused: {reason}")]
    Refused { reason: String },
    #[error("the destination sent another frame in place of its answer")]
    NoAnswer,
    /// Destination: a connection that does not begin with a hello.
    #[error("the connecting host did not name its migration")]
    NoHello,
    /// Destination: no migration is expected from the certificate.
    #[error("the connecting host has a certificate from which no migration is expected")]
    Stranger,
    #[error("the connecting host serves migration {migration}, which this host does not expect from it")]
    NotExpected { migration: MigrationId },
    #[error("the source connected after this host had given up migration {migration}")]
    TooLate { migration: MigrationId },
    #[error("the capsule's seal lists no images")]
    EmptySeal,
    #[error("the capsule has no seal")]
    NoSeal,
    #[error("the capsule has {received} bytes of {image}, and its seal lists {sealed}")]
    ImageSize { image: String, received: u64, sealed: u64 },
    #[error("the capsule has files after the end of its files")]
    LateFiles,
    #[error("the capsule names a file outside of the job: {}", path.display())]
    PathOutside { path: PathBuf },
    #[error("the capsule names an image `{name}`, which can't be a file's name")]
    ImageName { name: String },
    #[error("the capsule ends too early")]
    Truncated,
    #[error("the capsule has failed before and can't be read on")]
    Failed,
    /// Source: a stream to another host that should end as a capsule of the store.
    #[error("the migration does not lead into the capsule store")]
    NotIntoStore,
}

/// A checkpoint or a restore that failed, though the tools did not say so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CriuError {
    #[error("CRIU's hook made an unknown request: `{request}`")]
    UnknownHook { request: String },
    #[error("CRIU restored the job without its memory")]
    RestoredWithoutMemory,
    #[error("CRIU let the job execute before its files were read")]
    ThawedEarly,
    #[error("the job's memory did not arrive")]
    NoMemory,
    #[error("this host's attempt to freeze the job broke off")]
    FreezeAborted,
    #[error("the job ended at once after its restore")]
    EndedAtRestore,
    #[error("the job's first process {pid} is gone after its restore")]
    ProcessGone { pid: i32 },
    #[error("this host's attempt to complete the restored job broke off")]
    CompletionAborted,
    #[error("process {pid} of the job lost its lock on its descriptor {descriptor}: {reason}")]
    LockLost { pid: i32, descriptor: i32, reason: String },
    #[error("the restored job is not whole: {what}")]
    NotWhole { what: String },
    /// A restored process waits for something, like a lock that another process has.
    #[error("the restore made no progress for {} s", limit.as_secs())]
    RestoreStalled { limit: Duration },
    /// A process that the kernel keeps from CRIU.
    #[error("{process} could not be stopped for its checkpoint within {} s: it was stopped by a signal just then, or waits for a device or a file system; try again, or end it", limit.as_secs())]
    Unseizable { process: String, limit: Duration },
}

impl Error {
    pub(crate) fn system(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let attempt = attempt.into();
        move |source| Self::System { attempt, source }
    }

    /// The failure of a tool, with the text in its log or stderr.
    pub(crate) fn tool(tool: &str, status: ExitStatus, text: &str) -> Self {
        Self::Tool { failure: format!("`{tool}` failed ({status})"), text: ToolText::new(tool, text) }
    }

    /// The failure of a checkpoint or a restore, with the text in the log of the tool.
    pub(crate) fn job_tool(tool: &str, failure: &str, text: &str) -> Self {
        Self::Tool { failure: failure.to_owned(), text: ToolText::new(tool, text) }
    }

    /// Returns the error with its causes as one line, for a job's record.
    pub(crate) fn chain(&self) -> String {
        mooring_ops::log::chain(self).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use mooring_api::ErrorBody;

    use super::*;

    /// The place of each variant in [`examples`]: a variant that is added has to get an example.
    fn place(error: &Error) -> usize {
        match error {
            Error::System { .. } => 0,
            Error::Linux(_) => 1,
            Error::Network(_) => 2,
            Error::OpCenter(_) => 3,
            Error::JoinRefused(_) => 51,
            Error::Tool { .. } => 4,
            Error::Image { .. } => 5,
            Error::Volume { .. } => 6,
            Error::VolumeSource { .. } => 7,
            Error::Capsule(_) => 8,
            Error::NoStore => 9,
            Error::CapsuleKey => 10,
            Error::Tls { .. } => 11,
            Error::Superseded => 12,
            Error::WrongState { .. } => 13,
            Error::TimedOut(_) => 14,
            Error::GatewayEnded { .. } => 15,
            Error::NotParked(_) => 16,
            // Only a failpoint can make one; its text is its name.
            Error::Injected(_) => 52,
            Error::Unmovable { .. } => 47,
            Error::NoRoom { .. } => 50,
            Error::Stream(error) => match error {
                StreamError::Closed => 17,
                StreamError::NoFrame => 18,
                StreamError::FrameTooLong { .. } => 19,
                StreamError::Malformed { .. } => 20,
                StreamError::OutOfOrder => 21,
                StreamError::Refused { .. } => 22,
                StreamError::NoAnswer => 23,
                StreamError::NoHello => 24,
                StreamError::NotExpected { .. } => 25,
                StreamError::TooLate { .. } => 26,
                StreamError::EmptySeal => 27,
                StreamError::NoSeal => 28,
                StreamError::ImageSize { .. } => 29,
                StreamError::LateFiles => 30,
                StreamError::PathOutside { .. } => 31,
                StreamError::ImageName { .. } => 32,
                StreamError::Truncated => 33,
                StreamError::Failed => 34,
                StreamError::NotIntoStore => 35,
                StreamError::Stranger => 49,
            },
            Error::Criu(error) => match error {
                CriuError::UnknownHook { .. } => 36,
                CriuError::RestoredWithoutMemory => 37,
                CriuError::ThawedEarly => 38,
                CriuError::NoMemory => 39,
                CriuError::FreezeAborted => 40,
                CriuError::EndedAtRestore => 41,
                CriuError::ProcessGone { .. } => 42,
                CriuError::CompletionAborted => 43,
                CriuError::LockLost { .. } => 44,
                CriuError::RestoreStalled { .. } => 45,
                CriuError::Unseizable { .. } => 46,
                CriuError::NotWhole { .. } => 48,
            },
        }
    }

    /// An error of each variant, with its subject.
    fn examples() -> Vec<(Error, &'static str)> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let refused = mooring_linux::Error::Refused { attempt: "freeze the job".into(), reason: "it is busy".into() };
        let silent = ClientError::Silent { address: "http://127.0.0.1:8443".into() };
        let unknown_token = ErrorBody::new(ErrorCode::Unauthenticated, "the join token is unknown");
        let unknown_token = ClientError::Refused(unknown_token);
        let other = vec![
            (Error::system("run `tar`")(missing()), "can't run `tar`"),
            (Error::Linux(refused), "refusing to freeze the job"),
            (Error::Network(NetworkError::Prefix("%".into())), "can't apply the overlay network"),
            (Error::OpCenter(silent), "a request to OpCenter"),
            (Error::tool("tar", ExitStatus::from_raw(256), "no room"), "`tar` failed"),
            (Error::Image { image: "dir:/x".into(), reason: "it is missing".into() }, "can't use image dir:/x"),
            (Error::Volume { volume: "/a:/b".into(), reason: "it is missing".into() }, "can't mount volume /a:/b"),
            (Error::VolumeSource { reason: "it has no bucket".into() }, "the volume's source"),
            (
                Error::Capsule(mooring_capsule::Error::NotFound { capsule: "c".parse().unwrap() }),
                "can't use the capsule store",
            ),
            (Error::NoStore, "OpCenter"),
            (Error::CapsuleKey, "OpCenter"),
            (
                Error::Tls { attempt: "read this host's identity", reason: "no key".into() },
                "can't read this host's identity",
            ),
            (Error::Superseded, "another order"),
            (Error::WrongState { action: "freeze", state: "parked" }, "can't freeze a job that is parked"),
            (Error::TimedOut("`runc run`".into()), "`runc run`"),
            (Error::GatewayEnded { gateway: GatewayId::random(&mut rand::rng()) }, "gateway g"),
            (Error::NotParked("a, b".into()), "these jobs"),
        ];
        let stream = stream_examples().into_iter().map(|(error, subject)| (error.into(), subject));
        let criu = criu_examples().into_iter().map(|(error, subject)| (error.into(), subject));
        let unmovable = Error::Unmovable { reason: "process 12 (python3) is traced by strace (11): detach it".into() };
        other
            .into_iter()
            .chain(stream)
            .chain(criu)
            .chain([
                (unmovable, "process 12"),
                (CriuError::NotWhole { what: "process 7 (sh) is gone".into() }.into(), "the restored job"),
                (StreamError::Stranger.into(), "the connecting host"),
                (Error::NoRoom { reason: "its disk is full".into() }, "the host"),
                (Error::JoinRefused(Box::new(unknown_token)), "OpCenter refuses the join token"),
            ])
            .collect()
    }

    fn stream_examples() -> Vec<(StreamError, &'static str)> {
        let migration = || MigrationId::random(&mut rand::rng());
        vec![
            (StreamError::Closed, "the other host"),
            (StreamError::NoFrame, "the stream"),
            (StreamError::FrameTooLong { bytes: 9 }, "the stream"),
            (StreamError::Malformed { kind: 3 }, "the stream"),
            (StreamError::OutOfOrder, "the stream"),
            (StreamError::Refused { reason: "its disk is full".into() }, "the destination"),
            (StreamError::NoAnswer, "the destination"),
            (StreamError::NoHello, "the connecting host"),
            (StreamError::NotExpected { migration: migration() }, "the connecting host"),
            (StreamError::TooLate { migration: migration() }, "the source"),
            (StreamError::EmptySeal, "the capsule"),
            (StreamError::NoSeal, "the capsule"),
            (StreamError::ImageSize { image: "core-1.img".into(), received: 1, sealed: 2 }, "the capsule"),
            (StreamError::LateFiles, "the capsule"),
            (StreamError::PathOutside { path: "/etc".into() }, "the capsule"),
            (StreamError::ImageName { name: "../x".into() }, "the capsule"),
            (StreamError::Truncated, "the capsule"),
            (StreamError::Failed, "the capsule"),
            (StreamError::NotIntoStore, "the migration"),
        ]
    }

    fn criu_examples() -> Vec<(CriuError, &'static str)> {
        vec![
            (CriuError::UnknownHook { request: "post-dump".into() }, "CRIU"),
            (CriuError::RestoredWithoutMemory, "CRIU"),
            (CriuError::ThawedEarly, "CRIU"),
            (CriuError::NoMemory, "the job's memory"),
            (CriuError::FreezeAborted, "this host"),
            (CriuError::EndedAtRestore, "the job"),
            (CriuError::ProcessGone { pid: 7 }, "the job's first process"),
            (CriuError::CompletionAborted, "this host"),
            (CriuError::LockLost { pid: 7, descriptor: 3, reason: "it is gone".into() }, "process 7 of the job"),
            (CriuError::RestoreStalled { limit: Duration::from_secs(1) }, "the restore"),
            (
                CriuError::Unseizable { process: "process 7 (sh)".into(), limit: Duration::from_secs(5) },
                "process 7 (sh)",
            ),
        ]
    }

    #[test]
    fn every_error_names_its_subject() {
        let examples = examples();
        let places: Vec<usize> = examples.iter().map(|(error, _)| place(error)).collect();
        assert_eq!(places, (0..52).collect::<Vec<_>>(), "one example of each variant, in order");
        for (error, subject) in examples {
            let text = error.chain();
            assert!(text.starts_with(subject), "`{text}` is about {subject}");
            assert!(!text.ends_with('.') && !text.contains('\n'), "`{text}`");
        }
    }

    #[test]
    fn chain_has_each_cause_once() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let at = "http://127.0.0.1:9000".to_owned();
        let away = mooring_capsule::Error::Unreachable { at, source: Box::new(io::Error::other(refused())) };
        let through_a_stream: io::Error = away.into();
        let error = Error::system("send the capsule")(io::Error::other(through_a_stream));
        let expected =
            "can't send the capsule: the capsule store at http://127.0.0.1:9000 does not answer: connection refused";
        assert_eq!(error.chain(), expected);
        let capsule =
            Error::Capsule(mooring_capsule::Error::NotFound { capsule: "uqaj8l6a407u88v0106ol-2-1".parse().unwrap() });
        assert_eq!(capsule.chain(), "can't use the capsule store: there is no capsule uqaj8l6a407u88v0106ol-2-1");
    }
}
