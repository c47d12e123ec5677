//! The steps of a host that a test holds or lets fail.

use std::collections::{BTreeMap, BTreeSet};

use mooring_types::migration::Phase;

/// A step that a host takes to obey an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Starts a job.
    Start,
    /// Destination: makes image, root file system and network ready.
    Prepare,
    /// Source: sends changed files ahead.
    PreCopy,
    /// Source: checkpoints the job.
    Freeze,
    /// Source: sends the checkpoint and its seal, or stores it.
    Transfer,
    /// Destination: restores the job.
    Restore,
    /// Destination: checks that the restored job lives.
    Verify,
    /// Source: lets the job execute again after a failed migration.
    Rollback,
    /// Destination: removes what it has of a failed migration.
    Abort,
    /// Source: removes what it still has of a migrated job.
    Retire,
    /// Ends a job.
    Stop,
}

impl Step {
    /// The phase in whose name a failure of the step is reported.
    #[must_use]
    pub fn phase(self) -> Phase {
        match self {
            Self::Start | Self::Prepare => Phase::Prepare,
            Self::PreCopy => Phase::PreCopy,
            Self::Freeze => Phase::Freeze,
            Self::Transfer => Phase::Transfer,
            Self::Restore => Phase::Restore,
            Self::Verify => Phase::Verify,
            Self::Rollback | Self::Abort | Self::Retire | Self::Stop => Phase::Retire,
        }
    }
}

/// The outcome of an attempt to take a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attempt {
    Succeeds,
    Fails(String),
    Held,
}

/// The behaviour of a host: every step succeeds at once unless the test says otherwise.
#[derive(Debug, Clone, Default)]
pub(crate) struct Behaviour {
    failures: BTreeMap<Step, String>,
    held: BTreeSet<Step>,
    durations: BTreeMap<Step, f64>,
}

impl Behaviour {
    /// Says how many seconds a step takes.
    pub(crate) fn take(&mut self, step: Step, seconds: f64) {
        self.durations.insert(step, seconds);
    }

    /// Returns how many seconds a step takes, if that was said.
    pub(crate) fn duration(&self, step: Step) -> Option<f64> {
        self.durations.get(&step).copied()
    }

    /// Lets the next attempt of a step fail.
    pub(crate) fn fail(&mut self, step: Step, reason: &str) {
        self.failures.insert(step, reason.to_owned());
    }

    pub(crate) fn forgive(&mut self, step: Step) {
        self.failures.remove(&step);
    }

    /// Holds a step until [`Behaviour::release`].
    pub(crate) fn hold(&mut self, step: Step) {
        self.held.insert(step);
    }

    pub(crate) fn release(&mut self, step: Step) {
        self.held.remove(&step);
    }

    pub(crate) fn attempt(&mut self, step: Step) -> Attempt {
        if self.held.contains(&step) {
            return Attempt::Held;
        }
        self.failures.remove(&step).map_or(Attempt::Succeeds, Attempt::Fails)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_happen_once_and_holds_last() {
        let mut behaviour = Behaviour::default();
        assert_eq!(behaviour.attempt(Step::Freeze), Attempt::Succeeds);
        behaviour.fail(Step::Freeze, "no memory");
        assert_eq!(behaviour.attempt(Step::Freeze), Attempt::Fails("no memory".into()));
        behaviour.hold(Step::Freeze);
        assert_eq!([(); 2].map(|()| behaviour.attempt(Step::Freeze)), [Attempt::Held, Attempt::Held]);
        behaviour.release(Step::Freeze);
        assert_eq!(behaviour.attempt(Step::Freeze), Attempt::Succeeds);
    }
}
