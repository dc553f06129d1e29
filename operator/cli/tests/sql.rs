//! `pgexport sql`, as an administrator uses it, against a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::process::{Command, Output};

use pgexport_peers::{Login, Peers, TestDatabase};
use serde_json::json;

struct Desk {
    peers: Peers,
    database: TestDatabase,
    login: Login,
    folder: tempfile::TempDir,
}

impl Desk {
    async fn new(hint: &str) -> Self {
        let peers = Peers::load().unwrap();
        let database = peers.postgres.create_database(hint).await.unwrap();
        let login = peers.postgres.create_login(hint).await.unwrap();
        let desk = Self { peers, database, login, folder: tempfile::tempdir().unwrap() };
        let postgres = &desk.peers.postgres;
        let documents = [
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca"}, "stringData": {"ca.crt": postgres.ca_pem}}),
            json!({"apiVersion": "pgexport.dev/v1alpha1", "kind": "ExportSource", "metadata": {"name": "db"}, "spec": {"postgres": {
                "host": "a-replica.invalid", "port": postgres.host.port(), "database": desk.database.name,
                "user": desk.login.user, "passwordSecretRef": {"name": "my-db", "key": "password"},
                "tls": {"caSecretRef": {"name": "ca", "key": "ca.crt"}}, "settings": {"statement_timeout": "1ms"},
            }, "runLedger": {"hostOfWriter": postgres.host.ip().to_string()}}}),
        ];
        let text: Vec<String> = documents.iter().map(|document| format!("---\n{document}\n")).collect();
        std::fs::write(desk.folder.path().join("source.yaml"), text.concat()).unwrap();
        desk
    }

    /// As the administrator, or as the source's login. It is installed where `--host` says, and removed where the source says that
    /// the writer is.
    fn sql(&self, action: &str, as_admin: bool) -> Output {
        let postgres = &self.peers.postgres;
        let host = postgres.host.ip().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgexport"));
        command
            .current_dir(self.folder.path())
            .args(["sql", action, "--source", "source.yaml"])
            .env("PGEXPORT_SECRET_MY_DB_PASSWORD", &self.login.password);
        if action == "install" {
            command.args(["--host", &host]);
        }
        if as_admin {
            command.args(["--user", &postgres.admin.user]).env("PGPASSWORD", &postgres.admin.password);
        }
        command.output().unwrap()
    }

    fn well(&self, action: &str) -> String {
        let output = self.sql(action, true);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

#[tokio::test]
async fn the_schema_is_installed_again_and_removed() {
    let desk = Desk::new("cli_sql").await;
    // Roles belong to the server, and other tests install too.
    let server = desk.peers.postgres.admin("postgres").await.unwrap();
    server.execute("SELECT pg_advisory_lock($1)", &[&pgexport_peers::ROLES_LOCK]).await.unwrap();
    let refused = desk.sql("install", false);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(77), "{said}");
    assert!(said.contains("PermissionDenied") && said.contains("CREATEROLE"), "{said}");

    let first = desk.well("install");
    assert!(first.contains("version 2, is installed"), "{first}");
    assert!(first.contains(&format!("{} may use it", desk.login.user)), "{first}");
    assert!(first.contains("CREATE EXTENSION aws_s3 CASCADE"), "{first}");
    let again = desk.well("install");
    assert!(again.contains("is of version 2 already"), "{again}");
    let client = desk
        .peers
        .postgres
        .connect(&desk.database.name, &desk.login.user, &desk.login.password)
        .await
        .unwrap();
    let rows = client.query("SELECT * FROM pgexport.status()", &[]).await.unwrap();
    assert!(rows.is_empty());

    assert!(desk.well("uninstall").contains("version 2, is removed"));
    assert!(desk.well("uninstall").contains("there was no schema pgexport"));
    assert!(client.query("SELECT * FROM pgexport.status()", &[]).await.is_err());
    drop(client);
    desk.database.clone().drop_database().await.unwrap();
}

#[tokio::test]
async fn a_schema_of_somebody_else_is_left_alone() {
    let desk = Desk::new("cli_sql_foreign").await;
    let admin = desk.database.admin().await.unwrap();
    admin.batch_execute("CREATE SCHEMA pgexport; CREATE TABLE pgexport.theirs ()").await.unwrap();
    let server = desk.peers.postgres.admin("postgres").await.unwrap();
    server.execute("SELECT pg_advisory_lock($1)", &[&pgexport_peers::ROLES_LOCK]).await.unwrap();
    let refused = desk.sql("install", true);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(
        said.contains("does not belong to the role pgexport_owner") && said.contains("Somebody else made it"),
        "{said}"
    );
    admin.query("SELECT * FROM pgexport.theirs", &[]).await.unwrap();
    drop(admin);
    desk.database.clone().drop_database().await.unwrap();
}

#[test]
fn the_script_for_psql_is_printed() {
    for (arguments, wanted) in [
        (&["sql", "print"][..], include_str!("../../../sql/pgexport.sql")),
        (&["sql", "print", "--uninstall"], include_str!("../../../sql/uninstall.sql")),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_pgexport")).args(arguments).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted);
    }
}
