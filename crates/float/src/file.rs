//! Files named on the command line. The error text is one that scripts match:
//! `open abc.sh: no such file or directory`.

use std::io::{self, ErrorKind, Read};
use std::path::Path;

use anyhow::Result;

use crate::error::{Local, invalid};

/// The path that stands for stdin.
const STDIN: &str = "-";

/// Reads a text file; `-` is stdin.
pub(crate) fn text(path: &Path) -> Result<String> {
    let bytes = if path == Path::new(STDIN) { stdin() } else { std::fs::read(path) };
    let bytes = bytes.map_err(|error| {
        let message = format!("open {}: {}", path.display(), reason(&error));
        Local::new(message, "give the path of a readable file, or `-` for stdin")
    })?;
    String::from_utf8(bytes)
        .map_err(|_| invalid(format!("{} is not a text file", path.display()), "give a text file in UTF-8"))
}

fn stdin() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file or directory".into(),
        ErrorKind::PermissionDenied => "permission denied".into(),
        ErrorKind::IsADirectory => "is a directory".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_file_has_known_message() {
        let told = |path: &str| text(Path::new(path)).unwrap_err().to_string();
        assert_eq!(told("/nowhere/abc.sh"), "open /nowhere/abc.sh: no such file or directory");
        assert_eq!(told("/"), "open /: is a directory");
    }
}
