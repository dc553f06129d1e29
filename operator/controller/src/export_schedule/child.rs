//! Names of ExportJobs: derived, so that no run is ever started twice.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// The name of the run for a scheduled time: the schedule's, and the minute since 1970, as a CronJob's Jobs have it.
#[must_use]
pub fn scheduled(schedule: &str, time: Timestamp) -> String {
    format!("{schedule}-{:08}", time.as_second().div_euclid(60))
}

/// The name of the run that a `runNow.token` asks for.
#[must_use]
pub fn asked_for(schedule: &str, token: &str) -> String {
    let hash = hex::encode(Sha256::digest(token));
    format!("{schedule}-r{}", &hash[..7])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_times_and_tokens_apart_and_fit() {
        let name = scheduled("nightly", "2026-11-25T20:00:00Z".parse().unwrap());
        assert_eq!(name, "nightly-29927280");
        assert_eq!(asked_for("nightly", "again"), asked_for("nightly", "again"));
        assert_ne!(asked_for("nightly", "again"), asked_for("nightly", "and again"));
        let longest = "x".repeat(31);
        let latest = "2159-12-31T23:59:00Z".parse().unwrap();
        assert_eq!(scheduled(&longest, latest).len(), 40);
        assert_eq!(asked_for(&longest, "token").len(), 40);
    }
}
