//! Automatic migration by usage: `[cpu.upperBoundRatio=80,mem.disable=true,evadeOOM=false]`.
//!
//! CPU and memory are watched separately. Usage above the upper bound, for its duration, requests
//! `step` percent more. Usage below the lower bound requests `step` percent less, within the
//! limits. A job without a policy does not migrate automatically. A job with a policy does, unless
//! it says `disable=true`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::list::{Entry, InvalidPolicy, entries};
use crate::duration::{self, format_duration};
use crate::host::Resources;

const POLICY: &str = "migrate";
const KEYS: [&str; 20] = [
    "disable",
    "enable",
    "cpu.disable",
    "cpu.upperBoundRatio",
    "cpu.lowerBoundRatio",
    "cpu.upperBoundDuration",
    "cpu.lowerBoundDuration",
    "cpu.step",
    "cpu.limit",
    "cpu.lowerLimit",
    "mem.disable",
    "mem.upperBoundRatio",
    "mem.lowerBoundRatio",
    "mem.upperBoundDuration",
    "mem.lowerBoundDuration",
    "mem.step",
    "mem.limit",
    "mem.lowerLimit",
    "stepAuto",
    "evadeOOM",
];
const STEP_MAX: u32 = 1000;

/// The policy of automatic migration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigratePolicy {
    /// `true` if usage never causes a migration. [`Self::evade_oom`] is independent of it.
    pub disable: bool,
    /// The bounds of processor usage; limits in cores.
    pub cpu: Bounds<u32>,
    /// The bounds of memory usage; limits in GB.
    pub mem: Bounds<f64>,
    /// The choice of the next size.
    pub step: Step,
    /// `true` if the job migrates to more memory as soon as it lacks some.
    #[serde(rename = "evadeOOM")]
    pub evade_oom: bool,
}

/// The choice of the next size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// The steps of the bounds.
    #[default]
    Manual,
    /// The present usage, ignoring the steps of the bounds.
    Auto,
}

/// The bounds of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bounds<T> {
    /// `true` if this resource is ignored.
    pub disable: bool,
    /// The usage in percent above which the job needs more.
    pub upper_bound_ratio: u32,
    /// The usage in percent below which the job needs less.
    pub lower_bound_ratio: u32,
    /// The time of usage above the upper bound before a migration.
    #[serde(with = "duration::text")]
    pub upper_bound_duration: Duration,
    /// The time of usage below the lower bound before a migration.
    #[serde(with = "duration::text")]
    pub lower_bound_duration: Duration,
    /// The change of size in percent.
    pub step: u32,
    /// The largest size.
    pub limit: Option<T>,
    /// The smallest size.
    pub lower_limit: Option<T>,
}

impl<T> Bounds<T> {
    const fn initial() -> Self {
        Self {
            disable: false,
            upper_bound_ratio: 90,
            lower_bound_ratio: 5,
            upper_bound_duration: Duration::from_secs(30),
            lower_bound_duration: Duration::from_secs(300),
            step: 50,
            limit: None,
            lower_limit: None,
        }
    }
}

impl<T> Default for Bounds<T> {
    fn default() -> Self {
        Self::initial()
    }
}

/// The policy of a job without one.
impl Default for MigratePolicy {
    fn default() -> Self {
        Self { disable: true, evade_oom: false, ..Self::GIVEN }
    }
}

impl MigratePolicy {
    /// The defaults of a written policy.
    pub const GIVEN: Self =
        Self { disable: false, cpu: Bounds::initial(), mem: Bounds::initial(), step: Step::Manual, evade_oom: true };

    /// Says whether processor usage may cause a migration.
    #[must_use]
    pub fn watches_cpu(&self) -> bool {
        !self.disable && !self.cpu.disable
    }

    /// Says whether memory usage may cause a migration, apart from lack of memory.
    #[must_use]
    pub fn watches_mem(&self) -> bool {
        !self.disable && !self.mem.disable
    }
}

impl FromStr for MigratePolicy {
    type Err = InvalidPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidPolicy> {
        let mut read = Self::GIVEN;
        let entries = entries(POLICY, text, &KEYS)?;
        if let Some(given) = entries.iter().find(|entry| entry.key == "enable")
            && entries.iter().any(|entry| entry.key == "disable")
        {
            return Err(contradiction(format!("`{}` and `disable` say the same", given.key)));
        }
        for entry in entries {
            match entry.key.split_once('.') {
                Some(("cpu", key)) => read.cpu.set(key, &entry, &Resources::CPU_RANGE)?,
                Some((_, key)) => read.mem.set(key, &entry, &Resources::MEM_GB_RANGE)?,
                None => match entry.key {
                    "disable" => read.disable = entry.truth()?,
                    "enable" => read.disable = !entry.truth()?,
                    "evadeOOM" => read.evade_oom = entry.truth()?,
                    _ => read.step = if entry.truth()? { Step::Auto } else { Step::Manual },
                },
            }
        }
        read.cpu.check("cpu")?;
        read.mem.check("mem")?;
        Ok(read)
    }
}

impl<T: FromStr + PartialOrd + fmt::Display + Copy> Bounds<T> {
    fn set(&mut self, key: &str, entry: &Entry<'_>, limits: &RangeInclusive<T>) -> Result<(), InvalidPolicy> {
        match key {
            "disable" => self.disable = entry.truth()?,
            "upperBoundRatio" => self.upper_bound_ratio = entry.number(1, 100)?,
            "lowerBoundRatio" => self.lower_bound_ratio = entry.number(0, 99)?,
            "upperBoundDuration" => self.upper_bound_duration = entry.duration()?,
            "lowerBoundDuration" => self.lower_bound_duration = entry.duration()?,
            "step" => self.step = entry.number(1, STEP_MAX)?,
            "limit" => self.limit = Some(entry.number(*limits.start(), *limits.end())?),
            _ => self.lower_limit = Some(entry.number(*limits.start(), *limits.end())?),
        }
        Ok(())
    }

    fn check(&self, name: &str) -> Result<(), InvalidPolicy> {
        if self.lower_bound_ratio >= self.upper_bound_ratio {
            return Err(contradiction(format!(
                "`{name}.lowerBoundRatio` {} is not below `{name}.upperBoundRatio` {}",
                self.lower_bound_ratio, self.upper_bound_ratio
            )));
        }
        match (self.lower_limit, self.limit) {
            (Some(lower), Some(upper)) if lower > upper => {
                Err(contradiction(format!("`{name}.lowerLimit` {lower} is above `{name}.limit` {upper}")))
            }
            _ => Ok(()),
        }
    }

    /// Adds the values that differ from the defaults.
    fn write(&self, name: &str, parts: &mut Vec<String>) {
        let initial = Self::initial();
        if self.disable {
            parts.push(format!("{name}.disable=true"));
        }
        for (key, value, usual) in [
            ("upperBoundRatio", self.upper_bound_ratio, initial.upper_bound_ratio),
            ("lowerBoundRatio", self.lower_bound_ratio, initial.lower_bound_ratio),
            ("step", self.step, initial.step),
        ] {
            if value != usual {
                parts.push(format!("{name}.{key}={value}"));
            }
        }
        for (key, value, usual) in [
            ("upperBoundDuration", self.upper_bound_duration, initial.upper_bound_duration),
            ("lowerBoundDuration", self.lower_bound_duration, initial.lower_bound_duration),
        ] {
            if value != usual {
                parts.push(format!("{name}.{key}={}", format_duration(value)));
            }
        }
        for (key, value) in [("limit", self.limit), ("lowerLimit", self.lower_limit)] {
            if let Some(value) = value {
                parts.push(format!("{name}.{key}={value}"));
            }
        }
    }
}

fn contradiction(contradiction: String) -> InvalidPolicy {
    InvalidPolicy::Contradiction { policy: POLICY, contradiction }
}

impl fmt::Display for MigratePolicy {
    /// Writes `disable` and the values that differ from the defaults.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = vec![format!("disable={}", self.disable)];
        self.cpu.write("cpu", &mut parts);
        self.mem.write("mem", &mut parts);
        if self.step == Step::Auto {
            parts.push("stepAuto=true".into());
        }
        if !self.evade_oom {
            parts.push("evadeOOM=false".into());
        }
        write!(f, "[{}]", parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_scripts_write_is_read() {
        let read = |text: &str| text.parse::<MigratePolicy>().unwrap();
        assert_eq!(read("[disable=true,evadeOOM=false]"), MigratePolicy::default());
        assert_eq!(MigratePolicy::default().to_string(), "[disable=true,evadeOOM=false]");
        assert_eq!(read("[enable=true]"), MigratePolicy::GIVEN);
        assert_eq!(read(""), MigratePolicy::GIVEN);
        let policy = read("cpu.upperBoundDuration=5s");
        assert_eq!(policy.cpu.upper_bound_duration, Duration::from_secs(5));
        assert!(policy.watches_cpu() && policy.watches_mem() && policy.evade_oom);
        let policy = read("[cpu.disable=true,mem.upperBoundRatio=80,mem.lowerBoundRatio=20,mem.step=100,mem.limit=64]");
        assert!(!policy.watches_cpu());
        assert_eq!((policy.mem.upper_bound_ratio, policy.mem.lower_bound_ratio), (80, 20));
        assert_eq!((policy.mem.step, policy.mem.limit), (100, Some(64.0)));
    }

    #[test]
    fn what_is_no_migrate_policy_is_refused() {
        for (bad, sentence) in [
            ("[cpu.step=0]", "invalid migrate policy: `cpu.step=0`: a number from 1 to 1000"),
            ("[cpu.limit=1.5]", "invalid migrate policy: `cpu.limit=1.5`: a number from 1 to 4096"),
            ("[gpu.step=1]", "invalid migrate policy: it has no key `gpu.step`"),
            ("[mem.limit=nan]", "invalid migrate policy: `mem.limit=nan`: a number from 0.1 to 65536"),
            ("[enable=true,disable=false]", "invalid migrate policy: `enable` and `disable` say the same"),
            (
                "[cpu.upperBoundRatio=5]",
                "invalid migrate policy: `cpu.lowerBoundRatio` 5 is not below `cpu.upperBoundRatio` 5",
            ),
            ("[mem.limit=4,mem.lowerLimit=8]", "invalid migrate policy: `mem.lowerLimit` 8 is above `mem.limit` 4"),
        ] {
            assert_eq!(bad.parse::<MigratePolicy>().unwrap_err().to_string(), sentence);
        }
        assert!("[gpu.step=1]".parse::<MigratePolicy>().unwrap_err().hint().starts_with("did you mean `cpu.step`?"));
    }

    fn bounds<T: fmt::Debug + Copy>(limit: impl Strategy<Value = (T, T)>) -> impl Strategy<Value = Bounds<T>> {
        let ratios = (0_u32..50, 51_u32..=100);
        let durations = (0_u64..10_000_000, 0_u64..10_000_000);
        (any::<bool>(), ratios, durations, 1..=STEP_MAX, prop::option::of(limit)).prop_map(
            |(disable, (lower, upper), (below, above), step, limits)| Bounds {
                disable,
                upper_bound_ratio: upper,
                lower_bound_ratio: lower,
                upper_bound_duration: Duration::from_millis(above),
                lower_bound_duration: Duration::from_millis(below),
                step,
                limit: limits.map(|(_, most)| most),
                lower_limit: limits.map(|(least, _)| least),
            },
        )
    }

    fn policy() -> impl Strategy<Value = MigratePolicy> {
        let cpu = bounds((1_u32..100, 100..=*Resources::CPU_RANGE.end()));
        let mem = bounds(
            (1_u32..1000, 1000..=524_288).prop_map(|(least, most)| (f64::from(least) / 8.0, f64::from(most) / 8.0)),
        );
        (any::<bool>(), cpu, mem, any::<bool>(), any::<bool>()).prop_map(|(disable, cpu, mem, auto, evade_oom)| {
            let step = if auto { Step::Auto } else { Step::Manual };
            MigratePolicy { disable, cpu, mem, step, evade_oom }
        })
    }

    proptest! {
        #[test]
        fn a_migrate_policy_reads_back(policy in policy()) {
            prop_assert_eq!(policy.to_string().parse::<MigratePolicy>(), Ok(policy));
            let json = serde_json::to_string(&policy).unwrap();
            prop_assert_eq!(serde_json::from_str::<MigratePolicy>(&json).unwrap(), policy);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}|\\[[a-zA-Z.=,0-9]{0,40}\\]") {
            let _ = text.parse::<MigratePolicy>();
        }
    }
}
