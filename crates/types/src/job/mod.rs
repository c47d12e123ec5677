//! What a job is: what a user asked for ([`JobSpec`]), where its files come from ([`Image`]), and
//! the statuses that it goes through ([`JobStatus`]). What is to happen to it by itself is its
//! [policy](crate::policy::JobPolicy).

mod image;
mod output;
mod remote;
mod status;
mod volume;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use image::{Image, InvalidImage};
pub use output::{OUTPUT_MAX, OutputFile, RESULTS_MAX, UnknownOutput};
pub use remote::{Bucket, Export};
pub use status::{Action, Category, JobStatus, Refused, UnknownStatus};
pub use volume::{InvalidVolume, Volume, VolumeMode, VolumeSource};

use crate::host::Resources;
use crate::port::{InvalidPort, parse_port};
use crate::{Name, Port};

/// What a user asked to have run.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// The name that its users see.
    pub name: Name,
    /// Where its root file system comes from.
    pub image: Image,
    /// The command and its arguments; empty for the image's own.
    pub command: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// The working directory inside the container.
    pub working_dir: PathBuf,
    /// Its share of a host.
    pub resources: Resources,
    /// The ports it publishes.
    pub publish: Vec<Publish>,
    /// What follows `http://address:port` in an access URL, with path and token; `/` where nothing
    /// is known.
    pub access_path: String,
    /// What its job script holds; where there is one it is run in place of the command.
    #[serde(default)]
    pub script: Option<String>,
    /// Whether it runs as root, whatever user its image names.
    #[serde(default)]
    pub with_root: bool,
    /// The data that it finds under paths of its own.
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
    /// Neither arguments nor values of the environment: they may be secrets.
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

/// A port of the container that others may reach, written `host:container` or as one number for
/// both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Publish {
    /// The port of the host that carries the job, by which gateways know it as well.
    pub host: Port,
    /// The port that the job listens on.
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
