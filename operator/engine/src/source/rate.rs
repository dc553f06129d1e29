//! A limit of what is read from a database in a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What may be read at once after a pause: so many seconds' worth.
const BURST: f64 = 0.25;

/// A token bucket for all connections of a worker. What is read is paid for afterwards: a reader takes what has come, and then
/// reads nothing until it is paid. The server waits as soon as the connection's buffers are full.
#[derive(Debug)]
pub struct RateLimit {
    per_second: f64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Bytes that may be read; below zero, those that are not paid for.
    bytes: f64,
    at: Instant,
}

impl RateLimit {
    /// A limit of so many bytes a second, at least one.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "a rate needs no more digits")]
        let per_second = bytes_per_second.max(1) as f64;
        let bucket = Bucket { bytes: per_second * BURST, at: Instant::now() };
        Self { per_second, bucket: Mutex::new(bucket) }
    }

    /// Takes bytes that were read, and waits until they are paid for.
    pub async fn pay(&self, bytes: u64) {
        let wait = self.take(bytes, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn take(&self, bytes: u64, now: Instant) -> Duration {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.at = bucket.at.max(now);
        #[allow(clippy::cast_precision_loss, reason = "a batch has few bytes")]
        let bytes = bytes as f64;
        bucket.bytes = (bucket.bytes + passed * self.per_second).min(self.per_second * BURST) - bytes;
        Duration::try_from_secs_f64(-bucket.bytes / self.per_second).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_read_is_paid_for_afterwards() {
        let limit = RateLimit::new(1000);
        let start = limit.bucket.lock().unwrap().at;
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert_eq!(limit.take(250, at(0)), Duration::ZERO, "the first burst is free");
        assert_eq!(limit.take(500, at(0)), Duration::from_millis(500));
        assert_eq!(limit.take(500, at(0)), Duration::from_secs(1), "another connection waits behind it");
        assert_eq!(limit.take(0, at(1000)), Duration::ZERO);
        assert_eq!(limit.take(250, at(60_000)), Duration::ZERO, "a pause is worth one burst");
        assert_eq!(limit.take(100, at(60_000)), Duration::from_millis(100), "and no more");
    }

    proptest! {
        #[test]
        fn no_more_than_the_rate_passes(
            rate in 1_u64..1_000_000_000, batches in prop::collection::vec(0_u64..1_000_000, 1..200),
        ) {
            let limit = RateLimit::new(rate);
            let start = limit.bucket.lock().unwrap().at;
            let mut now = start;
            let mut sum = 0;
            for bytes in &batches {
                sum += bytes;
                now += limit.take(*bytes, now);
            }
            #[allow(clippy::cast_precision_loss, reason = "a bound needs no more digits")]
            let least = sum as f64 / rate as f64 - BURST - 0.001;
            prop_assert!((now - start).as_secs_f64() >= least);
        }
    }
}
