//! The question before something is destroyed.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, Result};

use crate::error::Local;

/// Asks on stderr and reads one line of stdin; whatever is not `yes` or `y` stops the command. Scripts pipe `yes`.
pub(crate) fn confirm(question: &str) -> Result<()> {
    // Without a stderr the answer alone counts. Who types ends the line; who pipes does not.
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
            Err(Local::new("not confirmed, nothing was changed", "answer `yes`, or skip the question with `-f`").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::read_yes;

    #[test]
    fn only_yes_is_yes() {
        for yes in ["yes\n", "y\n", "YES", " yes \nno\n"] {
            assert!(read_yes(&mut yes.as_bytes()).is_ok(), "{yes:?}");
        }
        for no in ["", "\n", "no\n", "yesterday\n", "1\n"] {
            assert!(read_yes(&mut no.as_bytes()).is_err(), "{no:?}");
        }
    }
}
