//! How a source logs in.

use super::Refusal;
use crate::reason::Reason;
use crate::source::{Login, Postgres, TlsMode};

/// What the CRD's rules say of the login too; `pgexport run` has no API server.
pub(super) fn check_login(source: &str, postgres: &Postgres) -> Result<(), Refusal> {
    let invalid = |why: &str| {
        Err(Refusal::new(Reason::SourceNotReady, format!("ExportSource {source}: spec.postgres{why}")))
    };
    match postgres.login() {
        None => invalid(": name exactly one of passwordSecretRef and iamAuth"),
        Some(Login::Iam(_)) if postgres.tls.mode == TlsMode::Disable => invalid(
            ".tls.mode Disable does not go with iamAuth, whose tokens a server takes over TLS only: choose VerifyFull",
        ),
        Some(_) if postgres.tls.ca_secret_ref.is_some() && postgres.tls.ca_config_map_ref.is_some() => {
            invalid(".tls: name at most one of caSecretRef and caConfigMapRef")
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fixture::merge;
    use super::*;

    #[test]
    fn a_source_says_one_way_to_log_in_and_tokens_go_over_tls() {
        let check = |with: Value| {
            let mut postgres = json!({"host": "h", "database": "d", "user": "u"});
            merge(&mut postgres, with);
            check_login("db", &serde_json::from_value(postgres).unwrap()).map_err(|refusal| refusal.message)
        };
        let key = json!({"name": "s", "key": "k"});
        let iam = json!({"region": "eu-west-1"});
        assert_eq!(check(json!({"passwordSecretRef": key})), Ok(()));
        assert_eq!(check(json!({"iamAuth": iam, "tls": {"caConfigMapRef": key}})), Ok(()));
        for (with, wanted) in [
            (json!({}), "exactly one of passwordSecretRef and iamAuth"),
            (
                json!({"passwordSecretRef": key, "iamAuth": iam}),
                "exactly one of passwordSecretRef and iamAuth",
            ),
            (json!({"iamAuth": iam, "tls": {"mode": "Disable"}}), "over TLS only"),
            (json!({"iamAuth": iam, "tls": {"caConfigMapRef": key, "caSecretRef": key}}), "at most one of"),
        ] {
            let refused = check(with).unwrap_err();
            assert!(refused.contains("ExportSource db") && refused.contains(wanted), "{refused}");
        }
    }
}
