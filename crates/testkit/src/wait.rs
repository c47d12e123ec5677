//! Waiting for a condition: what a test does in place of sleeping.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The pause between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(50);

/// Looks at `condition` until it gives something.
pub async fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        match tokio::time::timeout(limit.saturating_sub(began.elapsed()).max(INTERVAL), condition()).await {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Ok(None)) if began.elapsed() < limit => tokio::time::sleep(INTERVAL).await,
            Ok(Err(error)) => return Err(error.context(format!("waiting for {what}"))),
            Ok(Ok(None)) | Err(_) => bail!("{what}: not within {:.1} s", limit.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wait_for_ends_at_its_limit() {
        let mut looks = 0;
        let limit = Duration::from_millis(200);
        let third = wait_for("the third look", limit, async || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(third.await.unwrap(), 3);
        let never = wait_for("never", limit, async || Ok(None::<()>)).await.unwrap_err();
        assert_eq!(never.to_string(), "never: not within 0.2 s");
        let stuck = wait_for("stuck", limit, async || std::future::pending::<Result<Option<()>>>().await).await;
        assert_eq!(stuck.unwrap_err().to_string(), "stuck: not within 0.2 s");
    }
}
