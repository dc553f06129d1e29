//! Logging in, and each way in which it fails.

use std::net::Ipv4Addr;
use std::sync::Arc;

use pgexport_api::order::NamedSource;
use pgexport_api::reason::Reason;
use pgexport_api::report::Failure;
use pgexport_api::source::{Limits, Postgres, ServerRole, Tls, TlsMode};
use pgexport_engine::Result;
use pgexport_engine::probe::{self, source::Probed};
use pgexport_engine::secret::{MemorySecrets, Secret};
use pgexport_peers::Peers;
use pgexport_peers::server::{self, Listen, Validity};
use pgexport_peers::state::StateFolder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::world::{World, key, told};

async fn probe(postgres: &Postgres, secrets: MemorySecrets) -> Result<Probed> {
    let source = NamedSource {
        name: "source".to_owned(),
        postgres: postgres.clone(),
        allow_privileged_login: false,
        limits: Limits::default(),
        method: pgexport_api::source::Method::Copy,
        kms_key_id: None,
        run_ledger: None,
    };
    probe::source::probe(&source, Arc::new(secrets)).await
}

async fn refused(postgres: &Postgres, secrets: MemorySecrets) -> Failure {
    match probe(postgres, secrets).await {
        Ok(found) => panic!("the probe found {found:?}"),
        Err(error) => told(&error),
    }
}

#[track_caller]
fn assert_tells(failure: &Failure, reason: Reason, words: &[&str]) {
    assert_eq!(failure.reason, reason, "{failure:?}");
    let told = format!("{} {}", failure.message, failure.hint.as_deref().unwrap_or_default());
    for word in words {
        assert!(told.contains(word), "{word:?} is not in {told:?}");
    }
}

/// Passes connections on from an address that is not in the server's certificate.
async fn forward_from_another_address(world: &World) -> Postgres {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = world.peers.postgres.host;
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(server).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    Postgres { host: "127.0.0.2".to_owned(), port, ..world.postgres() }
}

#[tokio::test]
async fn the_probe_finds_version_and_role() {
    let world = World::new("probe").await;
    let server = probe(&world.postgres(), world.secrets()).await.unwrap().server;
    assert_eq!(server.role, ServerRole::Primary);
    assert!(
        server.version.chars().all(|character| character.is_ascii_digit() || character == '.'),
        "{server:?}"
    );
    world.done().await;
}

#[tokio::test]
async fn a_wrong_password_names_the_secret() {
    let world = World::new("password").await;
    let mut secrets = world.secrets();
    secrets.insert("login", "password", Secret::new(b"hunter2".to_vec()));
    let failure = refused(&world.postgres(), secrets).await;
    assert_tells(&failure, Reason::AuthenticationFailed, &["exporter", "Secret login", "key password"]);
    assert_eq!(failure.sql_state.as_deref(), Some("28P01"));
    assert!(!format!("{failure:?}").contains("hunter2"));
    world.done().await;
}

#[tokio::test]
async fn an_unknown_database_is_named() {
    let world = World::new("database").await;
    let postgres = Postgres { database: "nowhere".to_owned(), ..world.postgres() };
    let failure = refused(&postgres, world.secrets()).await;
    assert_tells(&failure, Reason::DatabaseNotFound, &["\"nowhere\"", "spec.postgres.database"]);
    world.done().await;
}

#[tokio::test]
async fn a_missing_secret_and_a_missing_key_are_named() {
    let world = World::new("secret").await;
    for (reference, words) in [(key("none", "password"), "Secret none"), (key("login", "none"), "key none")] {
        let postgres = Postgres { password_secret_ref: Some(reference), ..world.postgres() };
        assert_tells(&refused(&postgres, world.secrets()).await, Reason::SecretNotFound, &[words]);
    }
    world.done().await;
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let world = World::new("authority").await;
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let other = authority.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    for mode in [TlsMode::VerifyFull, TlsMode::VerifyCA] {
        let mut secrets = world.secrets();
        secrets.insert("login", "ca.crt", Secret::new(other.clone().into_bytes()));
        let mut postgres = world.postgres();
        postgres.tls.mode = mode;
        let failure = refused(&postgres, secrets).await;
        assert_tells(
            &failure,
            Reason::TlsFailed,
            &["not signed by an authority that is trusted", "caSecretRef"],
        );
        // Without an authority of its own: Mozilla's, who did not sign it either.
        postgres.tls.ca_secret_ref = None;
        assert_tells(
            &refused(&postgres, world.secrets()).await,
            Reason::TlsFailed,
            &["not signed by an authority"],
        );
    }
    world.done().await;
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_told_so() {
    // A server of its own: all who connect meanwhile are refused.
    let folder = tempfile::tempdir().unwrap();
    let folder = StateFolder::new(Some(folder.path().join("peers"))).unwrap();
    let listen = Listen::on(Ipv4Addr::LOCALHOST.into());
    let version = Peers::load().unwrap().postgres.version;
    let Peers { postgres: server, .. } = server::up(&folder, listen, version).await.unwrap();
    let secrets = || {
        let mut secrets = MemorySecrets::default();
        secrets.insert("login", "password", Secret::new(server.exporter.password.clone().into_bytes()));
        secrets.insert("login", "ca.crt", Secret::new(server.ca_pem.clone().into_bytes()));
        secrets
    };
    let mut postgres = Postgres {
        host: server.host.ip().to_string(),
        port: server.host.port(),
        database: "findings".to_owned(),
        user: server.exporter.user.clone(),
        password_secret_ref: Some(key("login", "password")),
        iam_auth: None,
        tls: Tls {
            mode: TlsMode::VerifyFull,
            ca_secret_ref: Some(key("login", "ca.crt")),
            ca_config_map_ref: None,
        },
        settings: std::collections::BTreeMap::default(),
    };
    server::certify(&folder, &server, Validity::Expired).await.unwrap();
    for mode in [TlsMode::VerifyFull, TlsMode::VerifyCA] {
        postgres.tls.mode = mode;
        let failure = refused(&postgres, secrets()).await;
        assert_tells(&failure, Reason::TlsFailed, &["has expired", "renew the server's certificate"]);
    }
    server::certify(&folder, &server, Validity::Now).await.unwrap();
    probe(&postgres, secrets()).await.unwrap();
    server::down(&folder, true).await.unwrap();
}

#[tokio::test]
async fn authorities_that_are_not_pem_are_refused() {
    let world = World::new("pem").await;
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in ["not PEM", "", damaged] {
        let mut secrets = world.secrets();
        secrets.insert("login", "ca.crt", Secret::new(text.as_bytes().to_vec()));
        assert_tells(
            &refused(&world.postgres(), secrets).await,
            Reason::SecretInvalid,
            &["key ca.crt of Secret login"],
        );
    }
    world.done().await;
}

#[tokio::test]
async fn only_verify_full_looks_at_the_hosts_name() {
    let world = World::new("hostname").await;
    let mut postgres = forward_from_another_address(&world).await;
    let failure = refused(&postgres, world.secrets()).await;
    assert_tells(&failure, Reason::TlsFailed, &["127.0.0.2", "not for this host", "spec.postgres.host"]);
    postgres.tls.mode = TlsMode::VerifyCA;
    probe(&postgres, world.secrets()).await.unwrap();
    postgres.tls.mode = TlsMode::Require;
    postgres.tls.ca_secret_ref = None;
    probe(&postgres, world.secrets()).await.unwrap();
    postgres.host = "localhost".to_owned();
    postgres.port = world.peers.postgres.host.port();
    postgres.tls = world.postgres().tls;
    probe(&postgres, world.secrets()).await.unwrap();
    world.done().await;
}

#[tokio::test]
async fn a_server_without_tls_is_not_talked_to() {
    let world = World::new("no_tls").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        // SSLRequest, and the answer of a server that was built or configured without TLS.
        client.read_exact(&mut [0; 8]).await.unwrap();
        client.write_all(b"N").await.unwrap();
        let mut more = Vec::new();
        client.read_to_end(&mut more).await.unwrap();
        more
    });
    let mut postgres = Postgres { port, ..world.postgres() };
    postgres.tls.mode = TlsMode::Require;
    postgres.tls.ca_secret_ref = None;
    let failure = refused(&postgres, world.secrets()).await;
    assert_tells(&failure, Reason::TlsFailed, &["the server has no TLS", "Disable"]);
    assert!(served.await.unwrap().is_empty(), "nothing, and no password, was sent in the clear");
    world.done().await;
}

#[tokio::test]
async fn a_server_that_insists_on_tls_refuses_disable() {
    let world = World::new("disable").await;
    let mut postgres = world.postgres();
    postgres.tls.mode = TlsMode::Disable;
    postgres.tls.ca_secret_ref = None;
    assert_tells(&refused(&postgres, world.secrets()).await, Reason::AuthenticationFailed, &["pg_hba.conf"]);
    world.done().await;
}

#[tokio::test]
async fn an_address_where_nothing_answers_is_named() {
    let world = World::new("unreachable").await;
    let postgres = Postgres { port: 1, ..world.postgres() };
    let failure = refused(&postgres, world.secrets()).await;
    assert_tells(&failure, Reason::DatabaseUnreachable, &["127.0.0.1:1", "refused", "NetworkPolicies"]);
    let postgres = Postgres { host: "nowhere.invalid".to_owned(), ..world.postgres() };
    let failure = refused(&postgres, world.secrets()).await;
    assert_tells(&failure, Reason::DatabaseUnreachable, &["nowhere.invalid", "DNS"]);
    world.done().await;
}

#[tokio::test]
async fn settings_are_made_and_bad_ones_are_named() {
    let world = World::new("settings").await;
    for (name, value, words) in [
        ("datestyle", "German", "datestyle is pinned"),
        ("TimeZone", "Europe/Berlin", "TimeZone is pinned"),
        ("application_name", "mine", "application_name is pinned"),
        ("no_such_setting", "1", "no_such_setting"),
        ("work_mem", "lots", "work_mem"),
        ("shared_buffers", "1GB", "shared_buffers"),
    ] {
        let mut postgres = world.postgres();
        postgres.settings.insert(name.to_owned(), value.to_owned());
        assert_tells(&refused(&postgres, world.secrets()).await, Reason::InvalidSetting, &[words]);
    }
    let mut postgres = world.postgres();
    postgres.settings.insert("statement_timeout".to_owned(), "2h".to_owned());
    probe(&postgres, world.secrets()).await.unwrap();
    world.done().await;
}

#[tokio::test]
async fn a_login_without_connections_left_is_told_so() {
    let world = World::new("limit").await;
    let role = world.database.name.clone();
    world
        .admin
        .batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret' CONNECTION LIMIT 0"))
        .await
        .unwrap();
    let postgres = Postgres { user: role.clone(), ..world.postgres() };
    let mut secrets = world.secrets();
    secrets.insert("login", "password", Secret::new(b"secret".to_vec()));
    assert_tells(&refused(&postgres, secrets).await, Reason::TooManyConnections, &[&role]);
    world.admin.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
    world.done().await;
}

#[tokio::test]
async fn a_database_without_an_encoding_is_refused() {
    let world = World::new("ascii").await;
    let name = format!("{}_sql_ascii", world.database.name);
    let create =
        format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    world.admin.batch_execute(&create).await.unwrap();
    let postgres = Postgres { database: name.clone(), ..world.postgres() };
    assert_tells(
        &refused(&postgres, world.secrets()).await,
        Reason::UnsupportedServer,
        &["SQL_ASCII", "UTF8"],
    );
    world.admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    world.done().await;
}

#[tokio::test]
async fn a_dropped_session_leaves_no_backend() {
    let world = World::new("dropped").await;
    let label = world.label("session");
    let session = world.connector().connect(&label).await.unwrap();
    let count = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{label}'");
    world.eventually("the session is there", &count, "1").await;
    drop(session);
    world.eventually("the session is gone", &count, "0").await;
    world.done().await;
}
