//! The built-in templates.
//!
//! | template | port | needs |
//! |---|---|---|
//! | `jupyter` | 8888 | a virtual environment of the hosts, or an image with JupyterLab (`-i`, or OpCenter's `--jupyter-image`) |
//! | `rstudio` | 8787 | its image; `-e PASSWORD=…` or `-e DISABLE_AUTH=true` |
//! | `shiny` | 3838 | R with the package shiny on the hosts; `-e SHINY_APP=<directory>` for an app of one's own |
//! | `code-server` | 8989 | code-server in [`INSTALL_PREFIX`]; `-e PASSWORD=…` |
//! | `ssh` | 22 | sshd on the hosts; `-e AUTHORIZED_KEY=<public key>` |
//!
//! All but `rstudio` run on the files of the host; their writes go to the job's upper layer.

use std::path::{Path, PathBuf};

use mooring_api::submission::Environment;
use mooring_api::{ErrorCode, Submission};
use mooring_types::job::Image;

use super::pattern::{Pattern, TOKEN_PLACEHOLDER};
use crate::config::Config;
use crate::error::{ApiError, ApiResult, At};
use crate::usecase::parse;

/// The directory into which `scripts/setup` installs programs for templates.
const INSTALL_PREFIX: &str = "/opt/mooring";
/// The program below its directory, for each way to install it.
const CODE_SERVER_PATHS: [&str; 2] = ["code-server/bin/code-server", "code-server/node_modules/.bin/code-server"];
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A built-in template.
#[derive(Debug, Clone)]
pub(crate) struct BuiltIn {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) pattern: Pattern,
    /// A variable that a submission has to set, with its meaning.
    needs: Option<(&'static str, &'static str)>,
    /// A file that is missing, with the way to get it.
    lacks: Option<(PathBuf, &'static str)>,
}

/// Returns all built-in templates.
pub(crate) fn all(config: &Config) -> ApiResult<Vec<BuiltIn>> {
    Ok(vec![code_server(Path::new(INSTALL_PREFIX))?, jupyter(config)?, rstudio()?, shiny()?, ssh()?])
}

impl BuiltIn {
    /// Returns the request that a submission stands for, if the template's needs are met.
    pub(crate) fn complete(self, given: &Submission, token: &str) -> ApiResult<(Submission, String)> {
        if let (Some((path, hint)), true) = (&self.lacks, given.command.is_empty()) {
            let message = format!("template `{}` needs {}, which is not there", self.name, path.display());
            return Err(ApiError::new(ErrorCode::NotFound, message).hint(*hint).at("template"));
        }
        let pattern = self.in_image(given).pattern.with_token(token);
        let access_path = pattern.access_path.clone();
        let job = pattern.complete(given)?;
        if let Some((key, what)) = self.needs
            && job.env.0.get(key).is_none_or(String::is_empty)
        {
            return Err(ApiError::invalid(format!("template `{}` needs the variable {key}", self.name))
                .hint(format!("give `-e {key}=…` with {what}"))
                .at("env"));
        }
        Ok((job, access_path))
    }

    /// Replaces the host's JupyterLab by the image's own, if the submission names an image.
    fn in_image(&self, given: &Submission) -> Self {
        let mut own = self.clone();
        match &given.image {
            Some(image) if own.name == JUPYTER_NAME && !matches!(image, Image::Directory(_)) => {
                own.pattern = in_image_of(image).unwrap_or(own.pattern);
            }
            _ => {}
        }
        own
    }
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).into()
}

// jupyter

const JUPYTER_NAME: &str = "jupyter";

/// Nothing ends because it was not used: a job that slept for days counts as not used.
const JUPYTER_KEEPS: &str = "--MappingKernelManager.cull_idle_timeout=0 --TerminalManager.cull_inactive_timeout=0 \
--ServerApp.shutdown_no_activity_timeout=0";

/// `$0` is the directory of the virtual environment, `$1` the token. Files are in the job's upper
/// layer.
const JUPYTER_SCRIPT: &str = "mkdir -p /root/work && cd /root/work && exec \"$0/bin/python\" -m jupyter lab --no-browser --allow-root --ip=0.0.0.0 --port=8888 \
--IdentityProvider.token=\"$1\" --ServerApp.root_dir=/root/work --ServerApp.allow_remote_access=True \
--ZMQChannelsWebsocketConnection.iopub_msg_rate_limit=0 --ZMQChannelsWebsocketConnection.iopub_data_rate_limit=0 \
--LabApp.news_url= --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate";

/// `$0` is the token. The working directory is the home of the image's user.
const JUPYTER_IN_IMAGE_SCRIPT: &str = "cd \"${HOME:-/}\" && exec jupyter lab --no-browser --allow-root --ip=0.0.0.0 --port=8888 \
--IdentityProvider.token=\"$0\" --ServerApp.allow_remote_access=True \
--ZMQChannelsWebsocketConnection.iopub_msg_rate_limit=0 --ZMQChannelsWebsocketConnection.iopub_data_rate_limit=0 \
--LabApp.news_url= --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate";

const JUPYTER_PATH: &str = "/lab?token={token}";

fn jupyter(config: &Config) -> ApiResult<BuiltIn> {
    let environment = config.jupyter.display();
    let script = format!("{JUPYTER_SCRIPT} {JUPYTER_KEEPS}");
    let on_host = Submission {
        image: Some(parse("dir:/")?),
        command: texts(["/bin/sh", "-c", &script, &environment.to_string(), "{token}"]),
        env: Environment::from([
            ("PATH", format!("{environment}/bin:{DEFAULT_PATH}").as_str()),
            ("HOME", "/root"),
            ("SHELL", "/bin/bash"),
        ]),
        publish: vec![parse("8888")?],
        mem_gb: Some(2.0),
        ..Submission::default()
    };
    let pattern = match &config.jupyter_image {
        Some(image) => in_image_of(&parse(image)?)?,
        None => Pattern::new(&on_host, JUPYTER_PATH)?,
    };
    Ok(BuiltIn {
        name: JUPYTER_NAME,
        description: "JupyterLab; its URL has its token",
        pattern,
        needs: None,
        lacks: None,
    })
}

fn in_image_of(image: &Image) -> ApiResult<Pattern> {
    let script = format!("{JUPYTER_IN_IMAGE_SCRIPT} {JUPYTER_KEEPS}");
    let job = Submission {
        image: Some(image.clone()),
        command: texts(["/bin/sh", "-c", &script, "{token}"]),
        publish: vec![parse("8888")?],
        mem_gb: Some(2.0),
        ..Submission::default()
    };
    Pattern::new(&job, JUPYTER_PATH)
}

// rstudio

/// R sessions that are not used are ended after two hours of the wall clock, which goes on while a
/// job is suspended. `/init` is the image's own first process.
const RSTUDIO_SCRIPT: &str = r"conf=/etc/rstudio/rsession.conf
grep -qs '^session-timeout-minutes=' $conf || { mkdir -p /etc/rstudio && echo session-timeout-minutes=0 >>$conf; }
exec /init";

fn rstudio() -> ApiResult<BuiltIn> {
    let job = Submission {
        image: Some(parse("docker.io/rocker/rstudio:latest")?),
        command: texts(["/bin/sh", "-c", RSTUDIO_SCRIPT]),
        publish: vec![parse("8787")?],
        mem_gb: Some(4.0),
        ..Submission::default()
    };
    Ok(BuiltIn {
        name: "rstudio",
        description: "RStudio Server from its image, user `rstudio`; give `-e PASSWORD=...` or `-e DISABLE_AUTH=true`, without \
            either the job's output has a password. Not verified: its software was not at hand",
        pattern: Pattern::new(&job, "/")?,
        needs: None,
        lacks: None,
    })
}

// shiny

/// The app is in `$SHINY_APP`. The demo counts in its session, which a migration must preserve.
const SHINY_SCRIPT: &str = r#"command -v R >/dev/null || { echo 'shiny: R is not installed: install the packages r-base-core and r-cran-shiny on the hosts' >&2; exit 127; }
if [ -z "$SHINY_APP" ]; then
  SHINY_APP=/root/shiny-demo; export SHINY_APP
  mkdir -p "$SHINY_APP" && cat >"$SHINY_APP/app.R" <<'APP' || exit 1
library(shiny)
ui <- fluidPage(
  titlePanel("Shiny"),
  p("Set SHINY_APP to the directory of an app of your own."),
  actionButton("more", "More"),
  textOutput("count"),
  sliderInput("points", "Points", min = 10, max = 500, value = 100),
  plotOutput("plot")
)
server <- function(input, output, session) {
  count <- reactiveVal(0)
  observeEvent(input$more, count(count() + 1))
  output$count <- renderText(paste("count:", count()))
  output$plot <- renderPlot(plot(cumsum(rnorm(input$points)), type = "l", xlab = "", ylab = ""))
}
shinyApp(ui, server)
APP
fi
exec R --no-echo --no-restore --no-save -e 'shiny::runApp(Sys.getenv("SHINY_APP"), host = "0.0.0.0", port = 3838, launch.browser = FALSE)'"#;

fn shiny() -> ApiResult<BuiltIn> {
    let job = Submission {
        image: Some(parse("dir:/")?),
        command: texts(["/bin/sh", "-c", SHINY_SCRIPT]),
        env: Environment::from([("PATH", DEFAULT_PATH), ("HOME", "/root"), ("LANG", "C.UTF-8")]),
        publish: vec![parse("3838")?],
        mem_gb: Some(1.0),
        ..Submission::default()
    };
    Ok(BuiltIn {
        name: "shiny",
        description: "a Shiny app: the directory that `-e SHINY_APP=...` names on the hosts, else a small demo",
        pattern: Pattern::new(&job, "/")?,
        needs: None,
        lacks: None,
    })
}

// code-server

/// `$0` is the program, `$1` the generated password. A given password is not printed. A page that
/// was away, as its job was, finds its terminals and extensions for a month.
const CODE_SERVER_SCRIPT: &str = r#"mkdir -p /root/work && cd /root/work || exit 1
[ "$PASSWORD" != "$1" ] || echo "code-server: the password is $PASSWORD"
exec "$0" --bind-addr 0.0.0.0:8989 --auth password --disable-telemetry --disable-update-check --disable-getting-started-override --reconnection-grace-time 2592000 /root/work"#;

fn code_server(prefix: &Path) -> ApiResult<BuiltIn> {
    let places = CODE_SERVER_PATHS.map(|place| prefix.join(place));
    let found = places.iter().find(|place| place.exists());
    let hint =
        "`scripts/setup test` installs it there, as `npm install --prefix /opt/mooring/code-server code-server` does";
    let lacks = found.is_none().then(|| (prefix.join("code-server"), hint));
    let program = found.unwrap_or(&places[0]);
    // The Node of this installation may be beside the program.
    let beside = program.parent().unwrap_or(prefix).display();
    let job = Submission {
        image: Some(parse("dir:/")?),
        command: texts(["/bin/sh", "-c", CODE_SERVER_SCRIPT, &program.display().to_string(), "{token}"]),
        env: Environment::from([
            ("PATH", format!("{beside}:{DEFAULT_PATH}").as_str()),
            ("HOME", "/root"),
            ("SHELL", "/bin/bash"),
            ("PASSWORD", TOKEN_PLACEHOLDER),
        ]),
        publish: vec![parse("8989")?],
        mem_gb: Some(3.0),
        ..Submission::default()
    };
    Ok(BuiltIn {
        name: "code-server",
        description: "VS Code in the browser; give `-e PASSWORD=...`, without it the job's output has a password",
        pattern: Pattern::new(&job, "/?folder=/root/work")?,
        needs: None,
        lacks,
    })
}

// ssh

/// The host key is generated in the job's upper layer, and migrates with it.
const SSH_SCRIPT: &str = r#"umask 077
at=/root/.mooring-ssh
mkdir -p "$at" /run/sshd || exit 1
[ -f "$at/host_key" ] || ssh-keygen -q -t ed25519 -N '' -C '' -f "$at/host_key" || exit 1
printf '%s\n' "$AUTHORIZED_KEY" >"$at/authorized_keys"
cat >"$at/sshd_config" <<CONFIG
HostKey $at/host_key
AuthorizedKeysFile $at/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
CONFIG
echo "ssh: the host key is $(cat "$at/host_key.pub")"
exec /usr/sbin/sshd -D -e -p 22 -f "$at/sshd_config""#;

fn ssh() -> ApiResult<BuiltIn> {
    let job = Submission {
        image: Some(parse("dir:/")?),
        command: texts(["/bin/sh", "-c", SSH_SCRIPT]),
        env: Environment::from([("PATH", DEFAULT_PATH), ("HOME", "/root"), ("SHELL", "/bin/bash")]),
        publish: vec![parse("22")?],
        mem_gb: Some(1.0),
        ..Submission::default()
    };
    Ok(BuiltIn {
        name: "ssh",
        description: "an SSH server for `root`; give the public key that may log in as `-e AUTHORIZED_KEY=...`. Its host key is in the \
            job's output",
        pattern: Pattern::new(&job, "/")?,
        needs: Some(("AUTHORIZED_KEY", "your public key, like the line in ~/.ssh/id_ed25519.pub")),
        lacks: None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn given(env: &[&str]) -> Submission {
        serde_json::from_value(serde_json::json!({"env": env})).unwrap()
    }

    fn image(job: &Submission) -> String {
        job.image.as_ref().unwrap().to_string()
    }

    #[test]
    fn code_server_is_looked_for_where_it_may_be() {
        let prefix = tempfile::tempdir().unwrap();
        let refused = code_server(prefix.path()).unwrap().complete(&given(&[]), "t").unwrap_err();
        assert_eq!(refused.0.error_code(), ErrorCode::NotFound);
        assert!(refused.0.hint.unwrap().contains("npm install"));
        let program = prefix.path().join("code-server/node_modules/.bin/code-server");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, "").unwrap();
        let (job, path) = code_server(prefix.path()).unwrap().complete(&given(&[]), "t0").unwrap();
        assert_eq!(job.command[3..], [program.display().to_string(), "t0".into()]);
        assert_eq!(job.env.0["PASSWORD"], "t0");
        assert_eq!(path, "/?folder=/root/work");
        let (job, _) = code_server(prefix.path()).unwrap().complete(&given(&["PASSWORD={secret:p}"]), "t0").unwrap();
        assert_eq!(job.env.0["PASSWORD"], "{secret:p}");
    }

    #[test]
    fn ssh_needs_a_key() {
        for env in [&[][..], &["AUTHORIZED_KEY="], &["AUTHORIZED_KEYS=ssh-ed25519 x"]] {
            let refused = ssh().unwrap().complete(&given(env), "t").unwrap_err();
            assert_eq!(refused.0.message, "template `ssh` needs the variable AUTHORIZED_KEY");
        }
        assert!(ssh().unwrap().complete(&given(&["AUTHORIZED_KEY=ssh-ed25519 x"]), "t").is_ok());
    }

    #[test]
    fn jupyter_in_an_image_is_the_image_s_own() {
        let config = Config { jupyter: "/venv".into(), ..Config::new("/nowhere") };
        let (job, path) = jupyter(&config).unwrap().complete(&given(&[]), "t0").unwrap();
        assert_eq!((image(&job).as_str(), job.command[3].as_str(), path.as_str()), ("dir:/", "/venv", "/lab?token=t0"));
        let notebook = "jupyter/base-notebook".parse::<Image>().unwrap();
        let in_image = Submission { image: Some(notebook.clone()), ..Submission::default() };
        let (job, _) = jupyter(&config).unwrap().complete(&in_image, "t0").unwrap();
        assert_eq!((job.image.as_ref(), job.command[3].as_str()), (Some(&notebook), "t0"));
        assert!(job.env.0.is_empty(), "{job:?}");
        let config = Config { jupyter_image: Some("r.example/lab:1".into()), ..config };
        let (job, _) = jupyter(&config).unwrap().complete(&given(&[]), "t0").unwrap();
        assert_eq!(image(&job), "r.example/lab:1");
    }
}
