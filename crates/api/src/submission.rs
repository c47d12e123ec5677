//! The submission of a job, declared once: [`Submission`] and its [`FIELDS`].
//!
//! ```text
//!  flags of `float submit` ─┐                                  ┌─► JSON of the API, templates
//!  job file ────────────────┼─► read ─► Submission ─► write ───┤
//!  JSON of the API ─────────┘                                  └─► `inputArgs` (the flags again)
//! ```
//!
//! A row of the table below declares a field. The flags with their help, the keys of a job file,
//! `inputArgs` and the OpenAPI schema follow from the rows, and so do their tests. A new flag can't
//! be missing in one of them.
//!
//! Users may write a value in several ways, and all readers accept all of them. For example a list
//! or its only item, a text or a number, a map or `KEY=VALUE` items. What is written is always the
//! same: texts, lists of texts, numbers. An empty text stands for an absent value. Values that are
//! absent are not written. A value that becomes text is the text that was written, also where it
//! looks like a number: [`Written`].

mod field;
mod json;
mod values;
mod written;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use mooring_types::gateway::WakeOn;
use mooring_types::job::{Image, Publish, Volume};
use mooring_types::policy::{DumpMode, Egress, MigratePolicy, VmPolicy};
use mooring_types::{GatewayId, Name, Port, Reference, SecurityGroupId, TemplateName};
use serde_json::Value;

pub use field::{Field, Flag, InvalidSubmission, Section};
pub use values::{Environment, Tags};
pub use written::{Accepted, Content, Misplaced, Place, Written};

use values::FieldValue;
pub(crate) use values::text;
pub(crate) use written::optional;

/// Declares the submission: for each field its doc, name, type, JSON key, flag as the help shows
/// it, and an example.
///
/// The doc is a sentence for the API; the help shows it as a lower-case fragment.
macro_rules! submission {
    ($($section:ident { $($(#[doc = $doc:literal])+ $name:ident: $type:ty = $key:literal, $flag:literal, $example:tt;)+ })+) => {
        /// A job to be submitted.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Submission {
            $($($(#[doc = $doc])+ pub $name: $type,)+)+
        }

        /// The fields of a [`Submission`], in the order of the help.
        pub const FIELDS: &[Field] = &[$($(Field {
            key: $key,
            usage: $flag,
            doc: &[$($doc),+],
            section: Section::$section,
            is_list: <$type as FieldValue>::IS_LIST,
            set: |submission, value| {
                submission.$name = FieldValue::read(value)?;
                Ok(())
            },
            get: |submission| submission.$name.write(),
            words: |submission| submission.$name.words(),
            schema: <$type as FieldValue>::schema,
            example: || serde_json::json!($example),
        },)+)+];

        impl Submission {
            /// Takes over the values that the other submission has.
            fn take_over(&mut self, other: Self) {
                $($(self.$name.take_over(other.$name);)+)+
            }
        }
    };
}

submission! {
    Job {
        /// The image of the root file system: `name:tag` or `host:port/name:tag` from a registry,
        /// `dir:/path`, `oci:/path` (an image layout) or `oci-archive:/path.tar`.
        image: Option<Image> = "image", "-i --image <IMAGE>", "dir:/";
        /// The template: `name`, `name:tag` or `private::name:tag`. Other options override it.
        template: Option<TemplateName> = "template", "--template <TEMPLATE>", "private::lab:2";
        /// The job name: 1 to 63 letters, digits, `.`, `_` or `-` [default: generated].
        name: Option<Name> = "name", "-n --name <NAME>", "web";
        /// Cores, `min` or `min:max`: the job starts with `min`, a migration may give it up to
        /// `max` [default: from the template, else 1].
        cpu: Option<u32> = "cpu", "-c --cpu <CORES>", 2;
        /// The most cores that a migration may give the job.
        cpu_max: Option<u32> = "cpuMax", "", 4;
        /// Memory in GB, `min` or `min:max`: the job starts with `min`, a migration may give it up
        /// to `max` [default: from the template, else 2].
        mem_gb: Option<f64> = "memGB", "-m --mem <GB>", 0.5;
        /// The most memory in GB that a migration may give the job.
        mem_gb_max: Option<f64> = "memGBMax", "", 8.0;
        /// An environment variable; `{secret:NAME}` in the value stands for a secret; repeatable.
        env: Environment = "env", "-e --env <KEY=VALUE>", ["MODE=test"];
        /// A port to publish, `published:container` or one number for both; repeatable.
        publish: Vec<Publish> = "publish", "--publish <PORT[:PORT]>", ["8080:80"];
        /// A security group for connections to the published ports on the host, by id or name;
        /// repeatable [default: default].
        security_groups: Vec<Reference<SecurityGroupId>> = "securityGroups", "--securityGroup <GROUP>", ["campus"];
        /// The gateway to connect to, by id or name.
        gateway: Option<Reference<GatewayId>> = "gateway", "--gateway <GATEWAY>", "lab";
        /// A published port to connect; repeatable [default: all published ports].
        target_ports: Vec<Port> = "targetPorts", "--targetPort <PORT>", [8080];
        /// A volume: `/path:/mount` or `/path:/mount:ro` of the host (needed on every host of the
        /// job), `[size=10]:/mount` for a new one of 10 GB,
        /// `[accessKey=KEY,secret=SECRET]s3://bucket/prefix:/mount`, `nfs://server/export:/mount`;
        /// repeatable.
        data_volumes: Vec<Volume> = "dataVolumes", "--dataVolume <SOURCE:MOUNT>", ["/data:/data:ro"];
        /// The host to start on, by name [default: chosen by OpCenter].
        host: Option<Name> = "host", "--host <NAME>", "host-1";
        /// The working directory in the container [default: from the image].
        working_dir: Option<PathBuf> = "workingDir", "--workDir <DIR>", "/srv";
        /// Run as root instead of the image's user.
        with_root: bool = "withRoot", "--withRoot", true;
        /// The text of a job script, which runs in place of a command.
        script: Option<String> = "script", "", "python3 train.py";
        /// The command and its arguments [default: from the image].
        command: Vec<String> = "command", "", ["sh", "-c", "echo $MODE"];
    }
    Automatic {
        /// The kind of host, and how long the job waits for one [default: see below].
        vm_policy: Option<VmPolicy> = "vmPolicy", "--vmPolicy <POLICY>", "[onDemand=true,retryLimit=3,retryInterval=10m0s]";
        /// When the job migrates to another size because of its CPU and memory usage [default:
        /// never].
        migrate_policy: Option<MigratePolicy> = "migratePolicy", "-M --migratePolicy <POLICY>", "[disable=false,cpu.upperBoundRatio=80]";
        /// Cancel the job after this execution time, for example 3600s or 2h30m; waiting,
        /// migrations and suspension don't count [default: none].
        time_limit: Option<Duration> = "timeLimit", "--timeLimit <TIME>", "2h30m0s";
        /// Suspend the job after this time without client traffic and without noticeable CPU usage
        /// [default: never].
        idle: Option<Duration> = "idle", "--idle <TIME>", "30m0s";
        /// The longest time for which waiting connections, kernels and terminals alone keep an
        /// unused job awake; `0s` if they do not count [default: 4h].
        awake_limit: Option<Duration> = "awakeLimit", "--awakeLimit <TIME>", "8h0m0s";
        /// Resume the job when a client connects while it is suspended.
        resume_on_connect: bool = "resumeOnConnect", "--resumeOnConnect", true;
        /// The clients that do: a person who loads a `page`, also a program's `request`, or any
        /// `connection`, for servers that speak first [default: request].
        wake_on: Option<WakeOn> = "wakeOn", "--wakeOn <page|request|connection>", "page";
        /// The interval of snapshots, from which the job is recovered when its host is lost
        /// [default: none].
        snapshot_interval: Option<Duration> = "snapshotInterval", "--snapshotInterval <TIME>", "10m0s";
        /// The content of snapshots: changes since an earlier one, or everything [default:
        /// incremental].
        dump_mode: Option<DumpMode> = "dumpMode", "--dumpMode <incremental|full>", "full";
        /// The path to outside networks: through the `host`, or through the host of a `gateway`,
        /// where connections survive migrations [default: host].
        egress: Option<Egress> = "egress", "--egress <host|gateway>", "gateway";
        /// A tag; key and value have 1 to 63 letters, digits, emoji, `.`, `_` or `-`; repeatable.
        custom_tags: Tags = "customTags", "--customTag <KEY:VALUE>", {"project": "course-7"};
        /// Refuse `float rerun`.
        disable_rerun: bool = "disableRerun", "--disableRerun", true;
        /// Never migrate the job, not even by `float migrate`.
        disable_migrate: bool = "disableMigrate", "--disableMigrate", true;
    }
}

/// Other keys that older scripts use.
const ALIASES: [(&str, &str); 3] = [("envs", "env"), ("jobContent", "script"), ("dirMap", "dataVolumes")];

impl Submission {
    /// Reads a submission from JSON or YAML values. A key is the API's or the long name of a flag.
    ///
    /// # Errors
    /// A key is unknown or given twice, or a value is invalid.
    pub fn read(values: impl IntoIterator<Item = (String, Value)>) -> Result<Self, InvalidSubmission> {
        let mut submission = Self::default();
        let mut keys = BTreeSet::new();
        for (key, value) in values {
            let field = Field::find(&key).ok_or_else(|| InvalidSubmission::unknown_key(&key))?;
            let parts = field.split_range(value).map_err(|error| error.at(&key))?;
            for (field, value) in parts {
                if !keys.insert(field.key) {
                    return Err(InvalidSubmission::Twice { key: field.key.to_owned() });
                }
                (field.set)(&mut submission, &value).map_err(|error| error.at(&key))?;
            }
        }
        Ok(submission)
    }

    /// This submission with the values of another one on top. Variables and tags are joined by
    /// name. A command or script replaces both, and a size replaces the whole range.
    #[must_use]
    pub fn overridden_by(mut self, other: Self) -> Self {
        if !other.command.is_empty() || other.script.is_some() {
            (self.command, self.script) = (Vec::new(), None);
        }
        if other.cpu.is_some() {
            self.cpu_max = None;
        }
        if other.mem_gb.is_some() {
            self.mem_gb_max = None;
        }
        self.take_over(other);
        self
    }

    /// The arguments of `float submit` for the same job, quoted for a shell. A job script is
    /// expected on stdin.
    #[must_use]
    pub fn arguments(&self) -> String {
        let mut words = Vec::new();
        for field in FIELDS {
            let Some(flag) = field.flag() else { continue };
            let max = match field.key {
                "cpu" => self.cpu_max.map(|max| format!(":{max}")),
                "memGB" => self.mem_gb_max.map(|max| format!(":{max}")),
                _ => None,
            };
            for word in (field.words)(self) {
                words.push(flag.shortest());
                if flag.value.is_some() {
                    words.push(word + max.as_deref().unwrap_or_default());
                }
            }
        }
        if self.script.is_some() {
            words.extend(["-j".to_owned(), "-".to_owned()]);
        }
        if !self.command.is_empty() {
            words.push("--".into());
            words.extend(self.command.iter().cloned());
        }
        // A word with a NUL can't be quoted, and can't be an argument of a program either.
        let quoted = words.iter().map(|word| shlex::try_quote(word).unwrap_or_default());
        quoted.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests;
