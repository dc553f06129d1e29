//! The Kubernetes Jobs of an ExportJob, and their names: derived, so that none is ever made twice.

use pgexport_api::job::ChildKind;
use pgexport_api::naming;

/// How often a Job that ended well without a word is run again: its workers find their work done, and say so.
pub const MAX_RERUNS: u32 = 2;

/// Which of an ExportJob's Jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Child {
    /// What it does.
    pub kind: ChildKind,
    /// The attempt to export; of a cleanup and a notification, its own number.
    pub attempt: u32,
    /// The attempt to transfer; 0 for the others.
    pub transfer: u32,
    /// The number of the rerun; 0 for the first run.
    pub rerun: u32,
}

impl Child {
    /// The first run of an attempt's export.
    #[must_use]
    pub const fn export(attempt: u32) -> Self {
        Self { kind: ChildKind::Export, attempt, transfer: 0, rerun: 0 }
    }

    /// The first run of a transfer of what this attempt exported.
    #[must_use]
    pub const fn transfer(attempt: u32, transfer: u32) -> Self {
        Self { kind: ChildKind::Transfer, attempt, transfer, rerun: 0 }
    }

    /// An attempt to remove what all attempts have left.
    #[must_use]
    pub const fn cleanup(number: u32) -> Self {
        Self { kind: ChildKind::Cleanup, attempt: number, transfer: 0, rerun: 0 }
    }

    /// An attempt to tell that the run has failed.
    #[must_use]
    pub const fn notification(number: u32) -> Self {
        Self { kind: ChildKind::Notification, attempt: number, transfer: 0, rerun: 0 }
    }

    /// Whether a Job of this name tells that the run has failed: it touches nothing of what others work on.
    #[must_use]
    pub fn is_notification(job: &str, owner: &str, owner_uid: &str) -> bool {
        job.strip_prefix(&prefix(owner, owner_uid)).is_some_and(|rest| rest.starts_with('n'))
    }

    /// A rerun of it.
    #[must_use]
    pub const fn rerun(self, rerun: u32) -> Self {
        Self { rerun, ..self }
    }

    /// It and its reruns.
    pub fn runs(self) -> impl DoubleEndedIterator<Item = Self> {
        (0..=MAX_RERUNS).map(move |rerun| self.rerun(rerun))
    }

    /// The Job's name. Pods of an Indexed Job have it in their host name, which admits no dot.
    #[must_use]
    pub fn name(self, owner: &str, owner_uid: &str) -> String {
        let prefix = prefix(owner, owner_uid);
        let number = match self.kind {
            ChildKind::Export => format!("e{}", self.attempt),
            ChildKind::Transfer => format!("t{}-{}", self.attempt, self.transfer),
            ChildKind::Cleanup => format!("c{}", self.attempt),
            ChildKind::Notification => format!("n{}", self.attempt),
        };
        let rerun = if self.rerun == 0 { String::new() } else { format!("-r{}", self.rerun) };
        format!("{prefix}{number}{rerun}")
    }
}

/// What the names of an ExportJob's Jobs begin with.
fn prefix(owner: &str, owner_uid: &str) -> String {
    format!("{}-{}-", owner.replace('.', "-"), naming::short_uid(owner_uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_attempts_transfers_and_reruns_apart() {
        let uid = "0b0c1d2e-0000-0000-0000-000000000000";
        assert_eq!(Child::export(2).name("acme", uid), "acme-0b0c1d2e-e2");
        assert_eq!(Child::transfer(2, 3).name("acme", uid), "acme-0b0c1d2e-t2-3");
        assert_eq!(Child::cleanup(2).name("acme", uid), "acme-0b0c1d2e-c2");
        assert_eq!(Child::notification(2).name("n", uid), "n-0b0c1d2e-n2");
        assert!(Child::is_notification("n-0b0c1d2e-n2", "n", uid));
        assert!(!Child::is_notification("n-0b0c1d2e-c2", "n", uid));
        assert_eq!(Child::export(1).rerun(1).name("acme.eu", uid), "acme-eu-0b0c1d2e-e1-r1");
    }

    #[test]
    fn the_longest_name_leaves_room_for_a_pods_host_name() {
        let name = Child::export(9_999).rerun(2).name(&"x".repeat(40), "0b0c1d2e-");
        assert!(format!("{name}-63").len() <= 63, "{name}");
    }
}
