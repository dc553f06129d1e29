//! The running PostgreSQL peer keeps its promises: TLS, SCRAM, roles, databases, and the same rows everywhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

use pgexport_peers::{
    Peers, PeersError,
    findings::{self, Loaded},
};
use tokio_postgres::{Client, NoTls, error::SqlState};

/// Of the small findings and assets, in text form, in order. A change here is a change of the generator: raise its
/// version.
const SMALL_FINDINGS: &str = "5110dc529a1ee5f82959326fe4417ae0";
const SMALL_ASSETS: &str = "e17f4a77f82d82b1108510988fbfc948";

async fn text(client: &Client, query: &str) -> String {
    client.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn connections_are_encrypted_and_verified() {
    let peers = Peers::load().unwrap();
    let client = peers.postgres.exporter("findings").await.unwrap();
    let tls = text(&client, "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await;
    assert!(tls.starts_with("TLSv1."), "{tls}");

    let mut stranger = peers.postgres.clone();
    stranger.ca_pem = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem();
    assert!(stranger.exporter("findings").await.is_err(), "another CA's server must not be trusted");
}

#[tokio::test]
async fn plain_connections_and_wrong_passwords_are_refused() {
    let peers = Peers::load().unwrap();
    let plain = format!(
        "host={} port={} user={} password={} dbname=findings sslmode=disable",
        peers.postgres.host.ip(),
        peers.postgres.host.port(),
        peers.postgres.admin.user,
        peers.postgres.admin.password
    );
    let Err(refused) = tokio_postgres::connect(&plain, NoTls).await else {
        panic!("a plain connection got in")
    };
    assert_eq!(refused.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION));

    let wrong = peers.postgres.connect("findings", "exporter", "wrong").await;
    let Err(PeersError::Postgres { source, .. }) = wrong else { panic!("a wrong password got in") };
    assert_eq!(source.code(), Some(&SqlState::INVALID_PASSWORD));
}

#[tokio::test]
async fn exporter_reads_everything_and_changes_nothing() {
    let database = Peers::load().unwrap().postgres.create_findings_database("exporter reads").await.unwrap();
    let exporter = database.exporter().await.unwrap();
    assert_eq!(text(&exporter, "SELECT count(*)::text FROM findings").await, findings::SMALL.to_string());
    let privileged =
        "SELECT (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)::text
                      FROM pg_roles WHERE rolname = current_user";
    assert_eq!(text(&exporter, privileged).await, "false");
    for change in ["DELETE FROM findings", "UPDATE assets SET os = ''", "CREATE TABLE mine ()"] {
        let refused = exporter.batch_execute(change).await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{change}");
    }
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn databases_are_unique_and_go_even_while_in_use() {
    let postgres = Peers::load().unwrap().postgres;
    let (one, two) =
        tokio::try_join!(postgres.create_database("same hint"), postgres.create_database("same hint"))
            .unwrap();
    assert_ne!(one.name, two.name);
    let client = one.admin().await.unwrap();
    let name = one.name.clone();
    one.drop_database().await.unwrap();
    assert!(client.simple_query("SELECT 1").await.is_err());
    assert!(postgres.admin(&name).await.is_err());
    two.drop_database().await.unwrap();
}

#[tokio::test]
async fn generator_makes_the_same_rows_everywhere() {
    let database = Peers::load().unwrap().postgres.create_findings_database("same rows").await.unwrap();
    let client = database.admin().await.unwrap();
    client
        .batch_execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET bytea_output = hex")
        .await
        .unwrap();
    let findings =
        text(&client, "SELECT md5(string_agg(f::text, chr(10) ORDER BY seq)) FROM findings f").await;
    let assets =
        text(&client, "SELECT md5(string_agg(a::text, chr(10) ORDER BY hostname)) FROM assets a").await;
    assert_eq!((findings.as_str(), assets.as_str()), (SMALL_FINDINGS, SMALL_ASSETS));
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn a_bigger_table_begins_with_the_rows_of_a_smaller_one() {
    let database = Peers::load().unwrap().postgres.create_database("prefix").await.unwrap();
    let client = database.admin().await.unwrap();
    assert_eq!(findings::load(&client, "findings", 300).await.unwrap(), Loaded::Made);
    assert_eq!(findings::load(&client, "findings", 300).await.unwrap(), Loaded::AlreadyThere);
    assert_eq!(findings::load(&client, "odd \"name'", 700).await.unwrap(), Loaded::Made);
    let differing = "SELECT count(*)::text FROM
                     (SELECT f::text FROM findings f EXCEPT ALL SELECT g::text FROM \"odd \"\"name'\" g) d";
    assert_eq!(text(&client, differing).await, "0");
    assert_eq!(
        findings::load(&client, "findings", 20).await.unwrap(),
        Loaded::Made,
        "another size replaces it"
    );
    assert_eq!(text(&client, "SELECT count(*)::text FROM findings").await, "20");
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn every_odd_value_occurs_in_the_small_data_set() {
    let database = Peers::load().unwrap().postgres.create_findings_database("odd values").await.unwrap();
    let client = database.admin().await.unwrap();
    let mut missing = Vec::new();
    for condition in [
        "description IS NULL",
        "description = ''",
        r"description = '\N'",
        r"description = '\.'",
        r"description ~ '(^|\n)\\\.\n'",
        "description = 'NULL'",
        "description LIKE '%\"%'",
        r"description LIKE '%\\%'",
        r"description ~ '\t'",
        r"description ~ '[^\r]\n'",
        r"description ~ '\r[^\n]'",
        r"description ~ '\r\n'",
        "description LIKE '%,%'",
        "description LIKE '%漢%'",
        "description LIKE '%😀%'",
        r"description LIKE U&'%e\0301%'",
        r"description ~ '^\ufeff'",
        r"description ~ '\u2028'",
        r"description ~ '\x01'",
        "description LIKE '  %'",
        "length(description) > 2000",
        r"title ~ '\n'",
        "score IS NULL",
        "cost = 'NaN'",
        "cost > 1e30",
        "cost > 0 AND cost < 1e-30",
        "cost < 0",
        "cost = 0 AND scale(cost) > 0",
        "cost::text LIKE '%.%0'",
        "tags IS NULL",
        "tags = '{}'",
        "array_ndims(tags) = 2",
        "'' = ANY (tags)",
        "'NULL' = ANY (tags)",
        "array_position(tags, NULL) IS NOT NULL AND array_ndims(tags) = 1",
        "'with \"quotes\"' = ANY (tags)",
        "ports IS NULL",
        "ports = '{}'",
        "array_lower(ports, 1) = 0",
        "array_ndims(ports) = 2",
        "attributes ? ''",
        "attributes ->> 'note' = ''",
        r"attributes ->> 'note' ~ '\n'",
        "raw IS NULL",
        r"raw::text ~ '\n'",
        r"raw::text ~ '\r'",
        r"raw::text LIKE '%\\u0000%'",
        "raw::text ~ '\"twice\".*\"twice\"'",
        "raw::text = 'null'",
        "due IS NULL",
        "due = 'infinity'",
        "due = '-infinity'",
        "due < date '0001-01-01'",
        "due > date '9999-12-31' AND isfinite(due)",
        "fixed IS NULL",
        "fixed",
        "NOT fixed",
        "cvss IS NULL",
        "cvss = 'NaN'",
        "risk = 'NaN'",
        "risk = 'Infinity'",
        "risk = '-Infinity'",
        "risk::text = '-0'",
        "risk > 0 AND risk < 1e-200",
        "fingerprint IS NULL",
        "fingerprint = ''",
        "source_ip IS NULL",
        "family(source_ip) = 6",
        "family(source_ip) = 4 AND masklen(source_ip) < 32",
    ] {
        let query = format!("SELECT (EXISTS (SELECT FROM findings WHERE {condition}))::text");
        if text(&client, &query).await != "true" {
            missing.push(condition);
        }
    }
    assert!(missing.is_empty(), "no row has {missing:#?}");

    let tenants = "SELECT count(*) || ' ' || (max(share) > 0.3) || ' ' || (min(share) < 0.03) FROM
                   (SELECT count(*)::float8 / sum(count(*)) OVER () AS share FROM findings GROUP BY tenant_id) s";
    assert_eq!(text(&client, tenants).await, "20 true true", "twenty tenants of very different sizes");
    assert_eq!(text(&client, "SELECT count(DISTINCT severity)::text FROM findings").await, "5");
    database.drop_database().await.unwrap();
}
