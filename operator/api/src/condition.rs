//! Conditions as `kubectl wait` and kstatus (Flux, Argo CD, `helm --wait`) read them.

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// The types of conditions that pgexport writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The ExportJob is understood, and what it refers to exists and is ready.
    Accepted,
    /// All chunks are exported.
    Exported,
    /// All files, the manifest and `_SUCCESS` are at the location.
    Delivered,
    /// The ExportJob ended well.
    Complete,
    /// The ExportJob ended badly, or was cancelled.
    Failed,
    /// What the run has left is removed.
    CleanedUp,
    /// The receiver of notifications was told that the run has failed.
    Notified,
    /// kstatus: the object is as its spec wants it.
    Ready,
    /// kstatus: work is under way.
    Reconciling,
    /// kstatus: nothing goes on until somebody acts.
    Stalled,
}

impl ConditionType {
    /// The condition's `type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Exported => "Exported",
            Self::Delivered => "Delivered",
            Self::Complete => "Complete",
            Self::Failed => "Failed",
            Self::CleanedUp => "CleanedUp",
            Self::Notified => "Notified",
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

/// A condition's `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// `True`
    True,
    /// `False`
    False,
    /// `Unknown`
    Unknown,
}

impl Truth {
    /// The condition's `status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Finds a condition by type.
#[must_use]
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

/// Whether a condition is there with status `True`.
#[must_use]
pub fn is_true(conditions: &[Condition], kind: ConditionType) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == Truth::True.as_str())
}

/// Sets a condition; `lastTransitionTime` moves only when its status changes, so that setting the same twice changes
/// nothing. `message` is cut to the 32,768 bytes that the API allows.
pub fn set(
    conditions: &mut Vec<Condition>,
    kind: ConditionType,
    status: Truth,
    reason: &str,
    message: &str,
    generation: i64,
    now: Timestamp,
) {
    let kept = find(conditions, kind)
        .filter(|old| old.status == status.as_str())
        .map(|old| old.last_transition_time.clone());
    let condition = Condition {
        type_: kind.as_str().to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_owned(),
        message: crate::report::truncate(message, 32_768).to_owned(),
        observed_generation: Some(generation),
        last_transition_time: kept.unwrap_or(Time(now)),
    };
    match conditions.iter_mut().find(|old| old.type_ == kind.as_str()) {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

/// Removes a condition: kstatus reads Reconciling and Stalled by their absence.
pub fn remove(conditions: &mut Vec<Condition>, kind: ConditionType) {
    conditions.retain(|condition| condition.type_ != kind.as_str());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let [first, second, third] = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]
            .map(|time| time.parse::<Timestamp>().unwrap());
        let mut conditions = Vec::new();
        set(&mut conditions, ConditionType::Ready, Truth::False, "A", "a", 1, first);
        set(&mut conditions, ConditionType::Ready, Truth::False, "B", "b", 2, second);
        let ready = find(&conditions, ConditionType::Ready).unwrap();
        assert_eq!((ready.reason.as_str(), ready.last_transition_time.0), ("B", first));
        set(&mut conditions, ConditionType::Ready, Truth::True, "C", "c", 2, third);
        assert_eq!(find(&conditions, ConditionType::Ready).unwrap().last_transition_time.0, third);
        assert!(is_true(&conditions, ConditionType::Ready));
        remove(&mut conditions, ConditionType::Ready);
        assert!(conditions.is_empty());
    }
}
