//! The queue before a database: pure, fair over namespaces, and strict, so that nobody starves.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pgexport_api::source::Limits;

use super::claim::{Claim, Standing};

/// Whether an ExportJob may begin an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Admitted,
    /// Its turn has not come.
    Queued {
        /// Its place among those that wait, from 1.
        place: usize,
        /// How many wait.
        of: usize,
        /// What is used up.
        why: String,
    },
    /// It asks for more than the limits admit at all.
    TooLarge {
        /// Connections that it needs.
        needs: u32,
        /// Connections that there may be.
        limit: u32,
    },
    /// Another ExportJob that has not ended delivers to its location.
    LocationInUse {
        /// The other one: `namespace/name`.
        by: String,
    },
}

/// Judges `candidate` among `others`, which have not ended.
#[must_use]
pub fn judge(candidate: &Claim, others: &[Claim]) -> Admission {
    let others: Vec<&Claim> = others.iter().filter(|other| other.uid != candidate.uid).collect();
    // Whoever told its location first has it; that is done in the step that this judgement belongs to. Of two that have, by
    // a sink that was changed, the older one goes on.
    let user = others.iter().find(|other| {
        let is_there = match (&other.place, &candidate.place) {
            (Some(other), Some(wanted)) => other.may_be(wanted),
            _ => false,
        };
        is_there && (!candidate.is_told || age(other) < age(candidate))
    });
    if let Some(user) = user {
        return Admission::LocationInUse { by: user.id() };
    }
    let here: Vec<&Claim> = others
        .into_iter()
        .filter(|other| other.database.is_some() && other.database == candidate.database)
        .collect();
    let limits = smallest(here.iter().copied().chain([candidate]).map(|claim| claim.limits));
    if let Some(limit) = limits.max_connections.filter(|limit| candidate.connections > *limit) {
        return Admission::TooLarge { needs: candidate.connections, limit };
    }
    let running: Vec<&Claim> =
        here.iter().copied().filter(|other| other.standing == Standing::Exporting).collect();
    let waiting =
        here.iter().copied().filter(|other| other.standing == Standing::Waiting).chain([candidate]).collect();
    let line = in_line(waiting, &running);
    let place = line.iter().position(|claim| claim.uid == candidate.uid).unwrap_or_default() + 1;
    match used_up(candidate, &running, limits) {
        None if place == 1 => Admission::Admitted,
        // Those before it are about to begin, or wait for more than it does: whoever passed them would starve them.
        why => Admission::Queued {
            place,
            of: line.len(),
            why: why.unwrap_or_else(|| "others are before it".to_owned()),
        },
    }
}

/// Those who wait, in the order of their turns: each namespace in turn gets one, counting what it has running; within a
/// namespace, and between namespaces that are even, the older one is first.
#[must_use]
pub fn in_line<'a>(mut waiting: Vec<&'a Claim>, running: &[&Claim]) -> Vec<&'a Claim> {
    let mut rounds: BTreeMap<&str, usize> = BTreeMap::new();
    for claim in running {
        *rounds.entry(&claim.namespace).or_default() += 1;
    }
    waiting.sort_by(|a, b| age(a).cmp(&age(b)));
    let mut turns: Vec<(usize, &Claim)> = waiting
        .into_iter()
        .map(|claim| {
            let round = rounds.entry(&claim.namespace).or_default();
            *round += 1;
            (*round, claim)
        })
        .collect();
    // Stable: of one round, the older one stays first.
    turns.sort_by_key(|(round, _)| *round);
    turns.into_iter().map(|(_, claim)| claim).collect()
}

/// The older one has the smaller one.
fn age(claim: &Claim) -> (Timestamp, &str) {
    (claim.created, &claim.uid)
}

/// What keeps `candidate` from running beside `running`.
fn used_up(candidate: &Claim, running: &[&Claim], limits: Limits) -> Option<String> {
    if let Some(limit) = limits.max_running_jobs
        && running.len() >= limit as usize
    {
        return Some(format!("{} of {limit} ExportJobs export (limits.maxRunningJobs)", running.len()));
    }
    let used: u32 = running.iter().map(|claim| claim.connections).fold(0, u32::saturating_add);
    match limits.max_connections {
        Some(limit) if used.saturating_add(candidate.connections) > limit => Some(format!(
            "{used} of {limit} connections are taken, and it needs {} (limits.maxConnections)",
            candidate.connections
        )),
        _ => None,
    }
}

/// Where several sources name one login, the smallest of their limits counts.
pub fn smallest(limits: impl Iterator<Item = Limits>) -> Limits {
    let least = |a: Option<u32>, b: Option<u32>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    limits.fold(Limits::default(), |all, one| Limits {
        max_connections: least(all.max_connections, one.max_connections),
        max_running_jobs: least(all.max_running_jobs, one.max_running_jobs),
        ..Limits::default()
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use pgexport_api::order::Target;
    use pgexport_api::sink::S3;
    use proptest::prelude::*;

    use super::super::claim::{Database, Place};
    use super::*;

    fn claim(namespace: &str, number: i64, standing: Standing) -> Claim {
        let postgres =
            serde_json::from_value(serde_json::json!({"host": "DB.example.", "database": "d", "user": "u",
            "passwordSecretRef": {"name": "s", "key": "k"}}))
            .unwrap();
        Claim {
            namespace: namespace.to_owned(),
            name: format!("job-{number}"),
            uid: format!("{namespace}-{number:05}"),
            created: Timestamp::from_second(number).unwrap(),
            database: Some(Database::new(&postgres)),
            limits: Limits::default(),
            standing,
            connections: 5,
            place: None,
            is_told: false,
        }
    }

    fn limited(max_running_jobs: Option<u32>, max_connections: Option<u32>, claim: Claim) -> Claim {
        Claim { limits: Limits { max_connections, max_running_jobs, ..Limits::default() }, ..claim }
    }

    #[test]
    fn without_limits_nobody_waits() {
        let others: Vec<Claim> = (0..50).map(|number| claim("a", number, Standing::Exporting)).collect();
        assert_eq!(judge(&claim("a", 99, Standing::Waiting), &others), Admission::Admitted);
    }

    #[test]
    fn the_smallest_limit_of_any_source_counts() {
        let me = limited(Some(9), None, claim("a", 9, Standing::Waiting));
        let other = limited(Some(1), None, claim("b", 1, Standing::Exporting));
        let Admission::Queued { place, of, why } = judge(&me, std::slice::from_ref(&other)) else {
            panic!("it is admitted")
        };
        assert_eq!((place, of), (1, 1));
        assert!(why.contains("1 of 1 ExportJobs"), "{why}");
        let elsewhere = Claim { database: None, ..other };
        assert_eq!(judge(&me, &[elsewhere]), Admission::Admitted);
    }

    #[test]
    fn connections_add_up() {
        let me = limited(None, Some(11), claim("a", 9, Standing::Waiting));
        let running = |count: i64| -> Vec<Claim> {
            (0..count).map(|number| claim("b", number, Standing::Exporting)).collect()
        };
        assert_eq!(judge(&me, &running(1)), Admission::Admitted);
        assert!(matches!(judge(&me, &running(2)), Admission::Queued { .. }));
        let large = Claim { connections: 12, ..me };
        assert_eq!(judge(&large, &[]), Admission::TooLarge { needs: 12, limit: 11 });
    }

    #[test]
    fn a_small_one_does_not_pass_a_large_one() {
        let large = Claim { connections: 8, ..limited(None, Some(10), claim("a", 1, Standing::Waiting)) };
        let small = Claim { connections: 2, ..limited(None, Some(10), claim("a", 2, Standing::Waiting)) };
        let running = claim("b", 0, Standing::Exporting);
        assert!(matches!(
            judge(&large, &[small.clone(), running.clone()]),
            Admission::Queued { place: 1, .. }
        ));
        assert!(matches!(judge(&small, &[large, running]), Admission::Queued { place: 2, .. }));
    }

    #[test]
    fn namespaces_take_turns() {
        let waiting: Vec<Claim> = [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)]
            .into_iter()
            .map(|(namespace, number)| claim(namespace, number, Standing::Waiting))
            .collect();
        let names = |running: &[&Claim]| -> Vec<String> {
            in_line(waiting.iter().collect(), running).iter().map(|claim| claim.name.clone()).collect()
        };
        assert_eq!(names(&[]), ["job-1", "job-4", "job-5", "job-2", "job-6", "job-3"]);
        let running = claim("a", 0, Standing::Exporting);
        assert_eq!(names(&[&running]), ["job-4", "job-5", "job-1", "job-6", "job-2", "job-3"]);
    }

    #[test]
    fn a_location_is_one_deliverys_at_a_time() {
        let target = |endpoint: Option<&str>| {
            Target::S3(S3 { endpoint: endpoint.map(str::to_owned), ..S3::default() })
        };
        let at = |number: i64, endpoint: Option<&str>, location: &str| Claim {
            place: Some(Place::new("a", &target(endpoint), location)),
            is_told: true,
            ..claim("a", number, Standing::Elsewhere)
        };
        let me = at(2, None, "s3://acme/out/");
        assert_eq!(
            judge(&me, &[at(1, None, "s3://acme/out/")]),
            Admission::LocationInUse { by: "a/job-1".to_owned() }
        );
        assert_eq!(judge(&me, &[at(1, None, "s3://acme/out/b/")]), Admission::Admitted);
        assert_eq!(judge(&me, &[at(1, Some("https://minio"), "s3://acme/out/")]), Admission::Admitted);
        assert_eq!(judge(&me, std::slice::from_ref(&me)), Admission::Admitted, "it is not in its own way");
        let older = at(1, None, "s3://acme/out/");
        assert_eq!(judge(&older, &[me]), Admission::Admitted, "of two that were told the same, one goes on");
    }

    proptest! {
        /// However many wait: limits hold, each one's turn comes, and no namespace waits for another one's backlog.
        #[test]
        fn limits_hold_and_nobody_starves(
            jobs in proptest::collection::vec((0_usize..3, 1_u32..9), 1..40),
            max_running in 1_u32..5,
            max_connections in 8_u32..20,
            ends in proptest::collection::vec(any::<proptest::sample::Index>(), 1..40),
        ) {
            let mut claims: Vec<Claim> = (0_i64..)
                .zip(&jobs)
                .map(|(number, (namespace, connections))| Claim {
                    connections: *connections,
                    ..limited(Some(max_running), Some(max_connections), claim(["a", "b", "c"][*namespace], number, Standing::Waiting))
                })
                .collect();
            let mut ends = ends.iter().cycle();
            let mut rounds = 0;
            while !claims.is_empty() {
                rounds += 1;
                prop_assert!(rounds <= 2 * jobs.len(), "nobody is admitted any more");
                // As many as may begin, in any order of asking.
                loop {
                    let admitted = (0..claims.len()).rev().find(|index| {
                        claims[*index].standing == Standing::Waiting && judge(&claims[*index], &claims) == Admission::Admitted
                    });
                    let Some(admitted) = admitted else { break };
                    claims[admitted].standing = Standing::Exporting;
                }
                let running: Vec<usize> =
                    (0..claims.len()).filter(|index| claims[*index].standing == Standing::Exporting).collect();
                prop_assert!(!running.is_empty(), "all wait, and nothing runs");
                prop_assert!(running.len() <= max_running as usize);
                prop_assert!(running.iter().map(|index| claims[*index].connections).sum::<u32>() <= max_connections);
                let ended = ends.next().map_or(running[0], |end| running[end.index(running.len())]);
                claims.remove(ended);
            }
        }
    }
}
