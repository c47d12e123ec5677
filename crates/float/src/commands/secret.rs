//! `float secret`.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use mooring_api::Client;
use mooring_api::view::SecretSetRequest;

use crate::parse;
use crate::printer::Printer;

/// The arguments of `float secret`.
#[derive(Debug, Args)]
#[command(after_help = "\
Jobs refer to a secret by name: `float submit -e 'TOKEN={secret:github}' ...`. Only the job's environment has the
value; it is not in the job's record or in logs. A secret belongs to one user.")]
pub(crate) struct SecretArgs {
    #[command(subcommand)]
    command: SecretCommand,
}

#[derive(Debug, Subcommand)]
enum SecretCommand {
    /// create or replace a secret
    #[command(after_help = "\
Examples:
  float secret set github ghp_16C7e42F292c6912E7
  float secret set deploy-key --file ~/.ssh/deploy
  pass show github | float secret set github --file -")]
    Set {
        /// secret name: 1 to 63 letters, digits, `.`, `_` or `-`
        name: String,
        /// value; other users of this machine may see it in the process list
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        value: Option<String>,
        /// file with the value, `-` for stdin; a line end at the end of a single line is removed
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// print only the value of a secret
    #[command(after_help = "\
Example:
  float secret get github")]
    Get {
        /// secret name
        name: String,
    },
    /// list the names of your secrets
    #[command(visible_alias = "list")]
    #[command(after_help = "\
Example:
  float secret ls -F table")]
    Ls,
    /// remove a secret; jobs that already have its value keep it
    #[command(after_help = "\
Example:
  float secret unset github")]
    Unset {
        /// secret name
        name: String,
    },
}

/// Runs a subcommand of `float secret`.
pub(crate) async fn secret(args: SecretArgs, client: &Client, printer: &Printer) -> Result<()> {
    match args.command {
        SecretCommand::Set { name, value, file } => {
            let value = match file {
                Some(file) => read(&file)?,
                None => value.unwrap_or_default(),
            };
            printer.object(&client.secret_set(parse::secret(&name)?, &SecretSetRequest { value }).await?)
        }
        SecretCommand::Get { name } => printer.line(&client.secret_get(parse::secret(&name)?).await?.value),
        SecretCommand::Ls => printer.list(&client.secret_list().await?),
        SecretCommand::Unset { name } => {
            client.secret_unset(parse::secret(&name)?).await?;
            printer.note(&format!("secret {name} removed"));
            Ok(())
        }
    }
}

/// Reads a file, without the line end that editors add.
fn read(file: &Path) -> Result<String> {
    let mut text = if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text).context("can't read the secret from stdin")?;
        text
    } else {
        fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?
    };
    let end = text.trim_end_matches(['\r', '\n']).len();
    // A key with several lines needs its last line end.
    if !text[..end].contains('\n') {
        text.truncate(end);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_file_loses_single_line_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        for (held, value) in
            [("abc\n", "abc"), ("abc", "abc"), ("abc\r\n", "abc"), ("a\nb\n", "a\nb\n"), (" a \n", " a ")]
        {
            fs::write(&file, held).unwrap();
            assert_eq!(read(&file).unwrap(), value, "{held:?}");
        }
        assert!(read(&directory.path().join("none")).is_err());
    }
}
