//! The confirmation before a destructive command.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, Result};

use crate::error::Local;

/// Asks on stderr and reads one line of stdin. Any answer but `yes` or `y` stops the command.
/// Scripts pipe `yes`.
pub(crate) fn confirm(question: &str) -> Result<()> {
    // A missing stderr is ignored. On a terminal the user's Enter ends the line; a pipe needs a
    // line end here.
    let end = if io::stdin().is_terminal() { " " } else { "\n" };
    let _ = write!(io::stderr().lock(), "{question} [yes/no]{end}");
    read_yes(&mut io::stdin().lock())
}

fn read_yes(input: &mut impl BufRead) -> Result<()> {
    let mut answer = String::new();
    input.read_line(&mut answer).context("can't read the answer")?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "yes" | "y" => Ok(()),
        _ => {
            Err(Local::new("not confirmed; nothing changed", "answer `yes`, or skip the confirmation with `-f`").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::read_yes;

    #[test]
    fn only_yes_confirms() {
        for yes in ["yes\n", "y\n", "YES", " yes \nno\n"] {
            assert!(read_yes(&mut yes.as_bytes()).is_ok(), "{yes:?}");
        }
        for no in ["", "\n", "no\n", "yesterday\n", "1\n"] {
            assert!(read_yes(&mut no.as_bytes()).is_err(), "{no:?}");
        }
    }
}
