//! The scripts that run before those of a job, as `web/gateway` has them.

use std::sync::LazyLock;

use super::CookieNames;

/// The marker in the script's source.
const MARKER: &str = "'__m_'";

static COOKIES: LazyLock<String> = LazyLock::new(|| shortened(include_str!("../../../../web/gateway/cookies.js")));
static WORKER: LazyLock<String> = LazyLock::new(|| shortened(include_str!("../../../../web/gateway/worker.js")));

/// Returns the script that shows a job's names of its cookies to the job's scripts.
pub(crate) fn cookies(names: &CookieNames) -> String {
    COOKIES.replace(MARKER, &format!("'{}'", names.marker()))
}

/// Returns the script that has page loads pass a service worker.
pub(crate) fn worker() -> &'static str {
    &WORKER
}

/// Returns a source without its comments of whole lines and without indentation.
fn shortened(source: &str) -> String {
    let (mut lines, mut in_comment) = (Vec::new(), false);
    for line in source.lines().map(str::trim) {
        in_comment |= line.starts_with("/*");
        if !in_comment && !line.is_empty() {
            lines.push(line);
        }
        in_comment &= !line.ends_with("*/");
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use mooring_types::ConnectionId;

    use super::*;

    #[test]
    fn scripts_are_whole_and_short() {
        let names = CookieNames::of(&ConnectionId::random(&mut rand::rng()));
        let script = cookies(&names);
        assert!(script.starts_with("(marker => {") && script.ends_with(&format!("}})('{}');", names.marker())));
        for script in [script.as_str(), worker()] {
            assert!(!script.contains("/*") && !script.contains("*/") && !script.contains("</"), "{script}");
            assert!(!script.contains("<!--") && script.is_ascii(), "{script}");
        }
        assert!(worker().starts_with("(() => {") && worker().ends_with("})();"));
    }
}
