//! Waiting for what a cluster does in its own time.

use std::time::{Duration, Instant};

use pgexport_api::condition::{self, Condition, ConditionType};

const POLL: Duration = Duration::from_millis(250);

/// Asks again and again until there is an answer, or `within` has passed.
pub async fn eventually<T>(within: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return Some(answer);
        }
        if start.elapsed() > within {
            return None;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A condition's status, reason and message.
#[must_use]
pub fn condition(conditions: &[Condition], kind: ConditionType) -> Option<(&str, &str, &str)> {
    condition::find(conditions, kind)
        .map(|condition| (condition.status.as_str(), condition.reason.as_str(), condition.message.as_str()))
}

/// What a Ready condition of status False says: `reason: message`.
#[must_use]
pub fn ready_message(conditions: &[Condition]) -> Option<String> {
    let (status, reason, message) = condition(conditions, ConditionType::Ready)?;
    (status == "False" && condition::is_true(conditions, ConditionType::Stalled))
        .then(|| format!("{reason}: {message}"))
}
