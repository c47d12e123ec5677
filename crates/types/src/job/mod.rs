//! Jobs: the request of a user ([`JobSpec`]), the source of its files ([`Image`]) and the status
//! ([`JobStatus`]). Automatic actions are part of its [policy](crate::policy::JobPolicy).

mod activity;
mod image;
mod output;
mod remote;
mod status;
mod unserved;
mod volume;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use activity::{Activity, BUSY_FILE, InUse, LISTED_MAX};
pub use image::{Image, InvalidImage};
pub use output::{OUTPUT_MAX, OutputFile, RESULTS_MAX, UnknownOutput};
pub use remote::{Bucket, Export};
pub use status::{Action, Category, JobStatus, Refused, UnknownCategory, UnknownStatus};
pub use unserved::Unserved;
pub use volume::{InvalidVolume, Volume, VolumeMode, VolumeSource};

use crate::host::Resources;
use crate::port::{InvalidPort, parse_port};
use crate::{Name, Port};

/// The program that a user wants to run, and its environment.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// The name, chosen by its user.
    pub name: Name,
    /// The source of the root file system.
    pub image: Image,
    /// The command with its arguments; the image's own where empty.
    pub command: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// The working directory inside the container.
    pub working_dir: PathBuf,
    /// The resources that it gets of a host.
    pub resources: Resources,
    /// The published ports.
    pub publish: Vec<Publish>,
    /// The part of an access URL after `http://address:port`, with path and token; `/` by default.
    pub access_path: String,
    /// The content of the job script, which runs in place of the command.
    #[serde(default)]
    pub script: Option<String>,
    /// `true` if the job runs as root instead of the image's user.
    #[serde(default)]
    pub with_root: bool,
    /// The data volumes.
    #[serde(default)]
    pub volumes: Vec<Volume>,
}

impl JobSpec {
    /// A job with one core and 1 GB that runs the image's own command and asks for nothing else.
    #[must_use]
    pub fn minimal(name: Name, image: Image) -> Self {
        Self {
            name,
            image,
            command: Vec::new(),
            env: BTreeMap::new(),
            working_dir: "/".into(),
            resources: Resources { cpu: 1, mem_gb: 1.0 },
            publish: Vec::new(),
            access_path: "/".to_owned(),
            script: None,
            with_root: false,
            volumes: Vec::new(),
        }
    }
}

impl fmt::Debug for JobSpec {
    /// Omits arguments and values of environment variables, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobSpec")
            .field("name", &self.name)
            .field("image", &self.image)
            .field("program", &self.command.first())
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("resources", &self.resources)
            .field("publish", &self.publish)
            .finish_non_exhaustive()
    }
}

/// A published port, written `host:container`, or as one number for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Publish {
    /// The port of the job's host, which is also the target port of gateways.
    pub host: Port,
    /// The port on which the job listens.
    pub container: Port,
}

impl FromStr for Publish {
    type Err = InvalidPort;

    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        let (host, container) = text.split_once(':').unwrap_or((text, text));
        Ok(Self { host: parse_port(host)?, container: parse_port(container)? })
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.container)
    }
}
