//! The directive of one job, as it changes.

use mooring_api::watch::{JobDirective, JobOrder};
use mooring_types::MigrationId;
use tokio::sync::watch;

/// The watch of a job's directive, and the directive that its driver follows.
#[derive(Debug)]
pub(crate) struct Directives {
    watch: watch::Receiver<Option<JobDirective>>,
    current: Option<JobDirective>,
}

impl Directives {
    pub(crate) fn new(watch: watch::Receiver<Option<JobDirective>>) -> Self {
        Self { watch, current: None }
    }

    /// Takes the newest directive as the one to follow, and returns it.
    pub(crate) fn follow(&mut self) -> Option<JobDirective> {
        self.current.clone_from(&self.watch.borrow_and_update());
        self.current.clone()
    }

    /// Resolves when there is a newer directive than the one that is followed.
    ///
    /// # Errors
    /// The jobs of this host are closed: no directive will come.
    pub(crate) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.watch.changed().await
    }

    /// Resolves when another order, or another generation, takes the place of what is followed.
    pub(crate) async fn replaced(&self) {
        let current = self.current.as_ref();
        let differs = |newest: &JobDirective| {
            current.is_none_or(|current| current.generation != newest.generation || current.order != newest.order)
        };
        let mut watch = self.watch.clone();
        // Closed jobs follow no directive either.
        let _ = watch.wait_for(|newest| newest.as_ref().is_some_and(differs)).await;
    }

    /// Resolves when another order takes the place of a migration. A directive that is withdrawn
    /// leaves the migration alone.
    pub(crate) async fn superseded(&self, migration: &MigrationId) {
        let mut watch = self.watch.clone();
        let differs = |newest: &Option<JobDirective>| match newest.as_ref().map(|newest| &newest.order) {
            Some(JobOrder::MigrateIn { migration: now, .. } | JobOrder::MigrateOut { migration: now, .. }) => {
                now != migration
            }
            Some(
                JobOrder::Run { .. }
                | JobOrder::Abort { .. }
                | JobOrder::Rollback { .. }
                | JobOrder::Retire { .. }
                | JobOrder::Stop,
            ) => true,
            None => false,
        };
        if watch.wait_for(differs).await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::policy::tests::directive;
    use super::*;

    async fn resolves(future: impl Future<Output = ()>) -> bool {
        tokio::time::timeout(Duration::from_millis(5), future).await.is_ok()
    }

    #[tokio::test]
    async fn migration_is_superseded_by_every_other_order() {
        let (ours, other) = (MigrationId::random(&mut rand::rng()), MigrationId::random(&mut rand::rng()));
        for (order, expected) in [
            (None, false),
            (
                Some(JobOrder::Rollback {
                    migration: ours.clone(),
                    connections: mooring_api::watch::Connections::Kept,
                }),
                true,
            ),
            (Some(JobOrder::Abort { migration: ours.clone() }), true),
            (Some(JobOrder::Run { begun: true }), true),
            (Some(JobOrder::Stop), true),
        ] {
            let (_sender, watch) = watch::channel(order.clone().map(|order| directive(1, order)));
            let directives = Directives::new(watch);
            assert_eq!(resolves(directives.superseded(&ours)).await, expected, "{order:?}");
            assert_eq!(resolves(directives.superseded(&other)).await, expected, "{order:?}");
        }
    }

    #[tokio::test]
    async fn directive_is_replaced_by_another_order_or_generation() {
        let (sender, watch) = watch::channel(Some(directive(1, JobOrder::Run { begun: false })));
        let mut directives = Directives::new(watch);
        directives.follow();
        assert!(!resolves(directives.replaced()).await);
        sender.send_replace(None);
        assert!(!resolves(directives.replaced()).await, "a withdrawn directive replaces none");
        sender.send_replace(Some(directive(2, JobOrder::Run { begun: false })));
        assert!(resolves(directives.replaced()).await);
        directives.follow();
        assert!(!resolves(directives.replaced()).await);
        sender.send_replace(Some(directive(2, JobOrder::Stop)));
        assert!(resolves(directives.replaced()).await);
    }
}
