//! Extends the Content Security Policy of a page by the least that allows the additions (CSP
//! Level 3).
//!
//! The names of cookies are an inline script. The widget is one script of the page's own origin, a
//! WebSocket and a frame to it. A policy that forbids one of them gets an addition:
//!
//! | | directive that decides | addition |
//! |---|---|---|
//! | script | `script-src-elem`, `script-src`, `default-src` | the nonce, unless it would disable `'unsafe-inline'` |
//! | WebSocket | `connect-src`, `default-src` | `'self'` |
//! | frame | `frame-src`, `child-src`, `default-src` | `'self'` |
//!
//! Scripts of the page's own origin are never allowed: what people upload to a job could be one.
//! Where inline scripts are allowed and those of the origin are not, the widget is inline.
//!
//! If a more general directive decides, a copy of it under the first name gets the addition. Styles
//! need no addition: the widget makes them by script.

/// The directives that decide about scripts, the first one that exists.
const SCRIPTS: [&str; 3] = ["script-src-elem", "script-src", "default-src"];

/// A policy, as its directives in order.
#[derive(Debug)]
struct Policy<'a>(Vec<(&'a str, Vec<&'a str>)>);

/// Returns the policies of a header or a `meta` element, with an inline script allowed and the
/// widget, if it is added.
#[must_use]
pub(super) fn allow(policies: &str, nonce: &str, widget: bool) -> String {
    let nonce = format!("'nonce-{nonce}'");
    let allowed = policies.split(',').map(|text| {
        let mut policy = Policy::read(text);
        policy.allow(&SCRIPTS, |sources| script_source(sources, &nonce));
        if widget {
            policy.allow(&["connect-src", "default-src"], own_origin);
            policy.allow(&["frame-src", "child-src", "default-src"], own_origin);
        }
        policy.write()
    });
    allowed.collect::<Vec<String>>().join(", ")
}

/// Returns whether the widget has to be an inline script. Then one of the policies has no place for
/// a nonce, and forbids files of the page's own origin.
#[must_use]
pub(super) fn takes_inline_alone(policies: &str) -> bool {
    policies.split(',').any(|text| {
        let policy = Policy::read(text);
        let decides = SCRIPTS.iter().find_map(|name| policy.find(name));
        decides.is_some_and(|at| {
            let sources = &policy.0[at].1;
            script_source(sources, "").is_none() && !has(sources, "'self'")
        })
    })
}

/// Returns whether the page is in a sandbox without scripts or without the page's own origin.
#[must_use]
pub(super) fn shuts_out(policies: &str) -> bool {
    policies.split(',').any(|text| {
        let policy = Policy::read(text);
        let needed = ["allow-scripts", "allow-same-origin"];
        policy.find("sandbox").is_some_and(|at| needed.iter().any(|token| !has(&policy.0[at].1, token)))
    })
}

impl<'a> Policy<'a> {
    fn read(text: &'a str) -> Self {
        let directives = text.split(';').filter_map(|directive| {
            let mut words = directive.split_ascii_whitespace();
            Some((words.next()?, words.collect()))
        });
        Self(directives.collect())
    }

    fn write(&self) -> String {
        let directives = self.0.iter().map(|(name, values)| [&[*name], values.as_slice()].concat().join(" "));
        directives.collect::<Vec<String>>().join("; ")
    }

    /// The index of a directive; the first of several with one name counts.
    fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(other, _)| other.eq_ignore_ascii_case(name))
    }

    /// Adds a source to the directive that decides: the first of `names` that exists.
    fn allow<'b: 'a>(&mut self, names: &[&'b str], addition: impl Fn(&[&'a str]) -> Option<&'b str>) {
        let Some(at) = names.iter().find_map(|name| self.find(name)) else { return };
        let Some(source) = addition(&self.0[at].1) else { return };
        let mut sources = self.0[at].1.clone();
        sources.retain(|source| !source.eq_ignore_ascii_case("'none'"));
        sources.push(source);
        if self.0[at].0.eq_ignore_ascii_case(names[0]) {
            self.0[at].1 = sources;
        } else {
            self.0.push((names[0], sources));
        }
    }
}

/// Returns the nonce, unless it would disable inline scripts that are allowed.
fn script_source<'b>(sources: &[&str], nonce: &'b str) -> Option<&'b str> {
    let starts = |source: &&str| {
        let source = source.to_ascii_lowercase();
        ["'nonce-", "'sha256-", "'sha384-", "'sha512-"].iter().any(|kind| source.starts_with(kind))
    };
    if has(sources, "'strict-dynamic'") || sources.iter().any(starts) {
        return Some(nonce);
    }
    (!has(sources, "'unsafe-inline'")).then_some(nonce)
}

fn own_origin<'b>(sources: &[&str]) -> Option<&'b str> {
    (!has(sources, "'self'")).then_some("'self'")
}

fn has(sources: &[&str], source: &str) -> bool {
    sources.iter().any(|other| other.eq_ignore_ascii_case(source))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn policy_allows_widget() {
        for (policy, allowed) in [
            ("frame-ancestors 'self'; report-uri /x", "frame-ancestors 'self'; report-uri /x"),
            (
                "default-src 'none'",
                "default-src 'none'; script-src-elem 'nonce-N'; connect-src 'self'; frame-src 'self'",
            ),
            ("script-src 'self'", "script-src 'self'; script-src-elem 'self' 'nonce-N'"),
            ("script-src-elem 'nonce-x' 'strict-dynamic'", "script-src-elem 'nonce-x' 'strict-dynamic' 'nonce-N'"),
            // A nonce would forbid the page's own inline scripts, and `'self'` allow uploaded
            // files.
            ("script-src 'unsafe-inline' https:", "script-src 'unsafe-inline' https:"),
            ("script-src 'self' 'unsafe-inline'", "script-src 'self' 'unsafe-inline'"),
            ("connect-src wss:, connect-src 'self'", "connect-src wss: 'self', connect-src 'self'"),
            ("CHILD-SRC a.example;; img-src *", "CHILD-SRC a.example; img-src *; frame-src a.example 'self'"),
            ("", ""),
        ] {
            assert_eq!(allow(policy, "N", true), allowed, "{policy}");
        }
    }

    #[test]
    fn widget_is_inline_where_no_file_is_allowed() {
        for (policy, is_inline) in [
            ("script-src 'unsafe-inline'", true),
            ("default-src 'unsafe-inline' https:", true),
            ("img-src *, script-src 'unsafe-inline'", true),
            ("script-src 'self' 'unsafe-inline'", false),
            ("script-src 'nonce-x' 'unsafe-inline'", false),
            ("script-src 'none'", false),
            ("script-src 'self'", false),
            ("img-src 'unsafe-inline'", false),
            ("", false),
        ] {
            assert_eq!(takes_inline_alone(policy), is_inline, "{policy}");
        }
    }

    #[test]
    fn sandbox_excludes_widget() {
        for (policy, out) in [
            ("sandbox", true),
            ("sandbox allow-forms", true),
            ("sandbox allow-forms allow-scripts", true),
            ("sandbox allow-same-origin allow-scripts", false),
            ("default-src 'none'", false),
            ("img-src *, sandbox", true),
        ] {
            assert_eq!(shuts_out(policy), out, "{policy}");
        }
    }

    proptest! {
        #[test]
        fn allowing_is_additive_and_idempotent(
            directives in prop::collection::vec(
                ("(default-src|script-src|script-src-elem|connect-src|frame-src|child-src|img-src|sandbox)",
                 prop::collection::vec("('self'|'none'|'unsafe-inline'|'nonce-a'|https:|\\*)", 0..4)),
                0..6),
        ) {
            let text: Vec<String> = directives.iter().map(|(name, values)| format!("{name} {}", values.join(" "))).collect();
            let text = text.join(";");
            let allowed = allow(&text, "N", true);
            let (before, after) = (Policy::read(&text), Policy::read(&allowed));
            for (name, values) in &before.0 {
                let at = after.find(name).expect("it stays");
                if before.find(name).map(|at| &before.0[at].1) != Some(values) {
                    continue;
                }
                let stays = |value: &&&str| **value != "'none'";
                for value in values.iter().filter(stays) {
                    prop_assert!(after.0[at].1.contains(value), "{} lost {} in {}", text, value, allowed);
                }
            }
            let again = allow(&allowed, "N", true);
            let (once, twice) = (Policy::read(&allowed), Policy::read(&again));
            prop_assert_eq!(once.0.len(), twice.0.len());
        }

        #[test]
        fn any_policy_is_read(text in ".*") {
            let _ = (allow(&text, "N", true), shuts_out(&text));
        }
    }
}
