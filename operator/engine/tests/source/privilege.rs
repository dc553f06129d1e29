//! What a login may do, and which ones are refused.

use std::sync::Arc;

use pgexport_api::order::NamedSource;
use pgexport_api::reason::Reason;
use pgexport_api::source::Limits;
use pgexport_engine::Result;
use pgexport_engine::probe::source::{Probed, probe};
use pgexport_engine::secret::Secret;

use super::world::{World, told};

struct Login {
    world: World,
    role: String,
}

impl Login {
    /// A role of the test's own, which may log in.
    async fn new(hint: &str) -> Self {
        let world = World::new(hint).await;
        let role = world.database.name.clone();
        let login = Self { world, role };
        login.sql(&format!("CREATE ROLE {} LOGIN PASSWORD 'secret'", login.role)).await;
        login
    }

    async fn sql(&self, sql: &str) {
        self.world.admin.batch_execute(&sql.replace("$me", &self.role)).await.unwrap();
    }

    async fn probe(&self, allowed: bool, settings: &[(&str, &str)]) -> Result<Probed> {
        let mut postgres = self.world.postgres();
        postgres.user.clone_from(&self.role);
        postgres.settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut secrets = self.world.secrets();
        secrets.insert("login", "password", Secret::new(b"secret".to_vec()));
        let source = NamedSource {
            name: "findings-db".to_owned(),
            postgres,
            allow_privileged_login: allowed,
            limits: Limits::default(),
            method: pgexport_api::source::Method::Copy,
            kms_key_id: None,
            run_ledger: None,
        };
        probe(&source, Arc::new(secrets)).await
    }

    async fn done(self) {
        self.sql("DROP OWNED BY $me; DROP ROLE $me").await;
        self.world.done().await;
    }
}

#[tokio::test]
async fn privileged_logins_are_refused_with_role_and_fix_unless_the_source_allows_them() {
    let login = Login::new("privileged").await;
    login.sql("CREATE ROLE $me_group NOINHERIT").await;
    login.probe(false, &[]).await.expect("an ordinary login is accepted");
    for (grant, revoke, role) in [
        ("ALTER ROLE $me SUPERUSER", "ALTER ROLE $me NOSUPERUSER", "is a superuser"),
        (
            "GRANT pg_execute_server_program TO $me",
            "REVOKE pg_execute_server_program FROM $me",
            "pg_execute_server_program",
        ),
        ("GRANT pg_read_server_files TO $me", "REVOKE pg_read_server_files FROM $me", "pg_read_server_files"),
        (
            "GRANT pg_write_server_files TO $me",
            "REVOKE pg_write_server_files FROM $me",
            "pg_write_server_files",
        ),
        // By way of another role, also where nothing is inherited.
        (
            "ALTER ROLE $me NOINHERIT; GRANT $me_group TO $me; GRANT pg_read_server_files TO $me_group",
            "REVOKE pg_read_server_files FROM $me_group",
            "pg_read_server_files",
        ),
        ("ALTER ROLE $me_group SUPERUSER", "ALTER ROLE $me_group NOSUPERUSER", "_group, a superuser"),
    ] {
        login.sql(grant).await;
        // Another role by the settings does not hide who logged in.
        for settings in [&[][..], &[("role", login.role.as_str())][..]] {
            let failure = told(&login.probe(false, settings).await.unwrap_err());
            assert_eq!(failure.reason, Reason::PrivilegedLogin, "{grant}: {failure:?}");
            assert!(failure.message.contains(&login.role) && failure.message.contains(role), "{failure:?}");
            let hint = failure.hint.unwrap_or_default();
            assert!(hint.contains("allowPrivilegedLogin of ExportSource findings-db"), "{hint}");
        }
        let allowed = login.probe(true, &[]).await.unwrap();
        assert!(!allowed.login_may.is_empty(), "{grant}: what it may is told all the same");
        login.sql(revoke).await;
    }
    login.probe(false, &[]).await.expect("what was revoked does not count any more");
    login.sql("DROP ROLE $me_group").await;
    login.done().await;
}

#[tokio::test]
async fn an_aws_master_user_is_refused() {
    let login = Login::new("rds").await;
    // The role is the whole server's: other tests may make it too.
    login.sql("DO $do$ BEGIN CREATE ROLE rds_superuser; EXCEPTION WHEN duplicate_object THEN NULL; END $do$; GRANT rds_superuser TO $me").await;
    let failure = told(&login.probe(false, &[]).await.unwrap_err());
    assert_eq!(failure.reason, Reason::PrivilegedLogin);
    assert!(failure.message.contains("rds_superuser"), "{failure:?}");
    login.done().await;
}

#[tokio::test]
async fn the_probe_tells_what_a_login_may_do_beyond_reading() {
    let login = Login::new("beyond").await;
    login.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE SCHEMA app; CREATE TABLE app.t (a int, b int); CREATE TABLE app.u (a int);
               GRANT SELECT ON app.t TO $me").await;
    let may = async || login.probe(false, &[]).await.unwrap().login_may;
    assert!(may().await.is_empty(), "reading is not told");
    for (grant, wanted) in [
        (
            "GRANT USAGE ON SCHEMA app TO $me; GRANT UPDATE (b) ON app.t TO $me",
            vec!["write tables in schema app"],
        ),
        ("GRANT TRUNCATE ON app.u TO $me", vec!["write tables in schema app"]),
        (
            "GRANT CREATE ON SCHEMA app TO $me",
            vec!["create objects in schema app", "write tables in schema app"],
        ),
    ] {
        login.sql(grant).await;
        assert_eq!(may().await, wanted, "{grant}");
    }
    login.sql("REVOKE ALL ON ALL TABLES IN SCHEMA app FROM $me; REVOKE ALL ON SCHEMA app FROM $me; REVOKE UPDATE (b) ON app.t FROM $me").await;
    login
        .sql("ALTER ROLE $me CREATEROLE CREATEDB REPLICATION BYPASSRLS; GRANT CREATE ON DATABASE $me TO $me")
        .await;
    assert_eq!(
        may().await,
        [
            "bypass row-level security".to_owned(),
            "create databases".to_owned(),
            "create roles".to_owned(),
            "replicate the server".to_owned(),
            format!("create schemas in database {}", login.role),
        ]
    );
    login.sql("DO $do$ BEGIN FOR i IN 10..40 LOOP EXECUTE format('CREATE SCHEMA s%s; GRANT CREATE ON SCHEMA s%1$s TO $me', i); END LOOP; END $do$").await;
    let may = may().await;
    assert_eq!((may.len(), may.last().map(String::as_str)), (12, Some("25 more of the kind")), "{may:?}");
    login.done().await;
}
