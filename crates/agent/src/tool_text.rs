//! The text of a tool that failed.
//!
//! Users read the reasons of failures, and a tool speaks to its developers. Its text names source
//! files and process ids of the host, on several lines. Of that a reason has one short line. The
//! whole text goes to the log when the value is made, and nowhere else: the type has no way to it.

use std::fmt;

/// The most letters of a tool's text in a reason.
pub(crate) const SHOWN_MAX: usize = 200;
/// Process ids of a host are between these numbers; smaller ones are counts and descriptors.
const HOST_PIDS: std::ops::RangeInclusive<u64> = 300..=4_194_304;

/// The text of a tool, of which users see one short line.
#[derive(Clone, PartialEq, Eq)]
pub struct ToolText(String);

impl ToolText {
    /// Keeps the short line, and logs the whole text.
    pub(crate) fn new(tool: &str, text: &str) -> Self {
        tracing::warn!(tool, text, "`{tool}` failed");
        Self(shown(text))
    }
}

impl fmt::Display for ToolText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            "" => f.write_str("it did not say why"),
            text => f.write_str(text),
        }
    }
}

impl fmt::Debug for ToolText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

fn shown(text: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for line in text.lines().map(line) {
        if !line.is_empty() && !parts.contains(&line) {
            parts.push(line);
        }
    }
    let all = parts.join("; ");
    let mut letters = all.chars();
    let mut shown: String = letters.by_ref().take(SHOWN_MAX).collect();
    if letters.next().is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// Returns the message of a line, without its time, level and source file.
fn line(line: &str) -> String {
    let of_criu = line.split_once("Error (").and_then(|(_, rest)| rest.split_once("): ")).map(|(_, message)| message);
    let message = match of_criu {
        Some("Dumping FAILED." | "Restoring FAILED.") => "",
        Some(message) => return without_pids(message),
        // runc writes JSON, or words with a key.
        None if line.starts_with('{') => {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            return one_line(entry["msg"].as_str().unwrap_or_default());
        }
        None => line.split_once(" msg=").map_or(line, |(_, message)| message.trim_matches('"')),
    };
    one_line(message)
}

fn one_line(text: &str) -> String {
    let clean: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Leaves out numbers that may be process ids of the host.
fn without_pids(text: &str) -> String {
    let is_pid = |digits: &str| digits.parse().is_ok_and(|number: u64| HOST_PIDS.contains(&number));
    let mut clean = String::new();
    let mut digits = String::new();
    for letter in one_line(text).chars().chain(['\n']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        clean.push_str(if is_pid(&digits) { "…" } else { &digits });
        digits.clear();
        clean.push(letter);
    }
    clean.pop();
    clean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_of_a_tool_is_short_and_names_no_source_file() {
        for (text, expected) in [
            (
                "(00.016144) Error (criu/seize.c:335): zombie 17710 (comm server) found while seizing\n\
                 (00.116370) Error (criu/seize.c:335): zombie 17710 (comm server) found while seizing\n\
                 (10.016276) Error (criu/cr-dump.c:1975): Dumping FAILED.",
                "zombie … (comm server) found while seizing",
            ),
            (
                "(00.1) Error (criu/namespaces.c:460): Can't dump nested user namespace for 18392\n\
                 (00.1) Error (criu/namespaces.c:754): Can't make userns id",
                "Can't dump nested user namespace for …; Can't make userns id",
            ),
            (
                "(00.1) Error (criu/files-reg.c:1): Can't dump ghost file /x of 314572800 size, increase limit",
                "Can't dump ghost file /x of 314572800 size, increase limit",
            ),
            (r#"{"level":"error","msg":"no such\ndirectory","time":"2026"}"#, "no such directory"),
            (r#"time="2026" level=error msg="criu failed""#, "criu failed"),
            ("tar: x: Cannot open: No space left on device\n", "tar: x: Cannot open: No space left on device"),
            ("", "it did not say why"),
        ] {
            assert_eq!(ToolText::new("tool", text).to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_short_line(text in "(?s).{0,600}", message in "[^\n]{0,300}") {
            let criu = format!("(00.1) Error (criu/sk-inet.c:12): {message}");
            for text in [text, criu] {
                let shown = ToolText::new("tool", &text).to_string();
                prop_assert!(shown.chars().count() <= SHOWN_MAX && !shown.chars().any(char::is_control));
                prop_assert!(!shown.contains("(criu/sk-inet.c"));
            }
        }
    }
}
