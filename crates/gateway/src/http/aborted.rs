//! The end of a request without a response.

/// The reason why a request ends without a whole response.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub enum Aborted {
    #[error("the job was replaced")]
    JobReplaced,
    #[error("the job broke off its response")]
    JobBroke,
    #[error("the client has left")]
    ClientLeft,
    /// No rule admits the client behind a proxy any more.
    #[error("no rule allows the client any more")]
    Refused,
    /// The widget could not be added to a page.
    #[error("the page can't be rewritten")]
    Page,
}
