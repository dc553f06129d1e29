//! Queries that are refused, and why; queries that fail while they run.

use std::sync::Arc;

use pgexport_api::job::{Csv, FormatType};
use pgexport_api::reason::Reason;
use pgexport_api::source::Postgres;
use pgexport_engine::plan::make;
use pgexport_engine::secret::Secret;
use pgexport_engine::source::{Connector, Holder};

use super::world::{World, drain, told};

#[tokio::test]
async fn what_is_not_one_query_that_reads_is_refused() {
    let world = World::with("refused", "CREATE TABLE t (a int, b text); CREATE TABLE mine (a int); CREATE SEQUENCE s; GRANT SELECT, INSERT, UPDATE, DELETE ON t TO exporter; GRANT USAGE ON s TO exporter").await;
    for (sql, reason, word) in [
        ("SELEC 1", Reason::InvalidQuery, "syntax error at or near \"SELEC\""),
        ("", Reason::InvalidQuery, "empty"),
        (" ; -- nothing", Reason::InvalidQuery, "empty"),
        ("SELECT 1; SELECT 2", Reason::InvalidQuery, "data set of its own"),
        ("SELECT 1; DROP TABLE t", Reason::InvalidQuery, "data set of its own"),
        ("1) TO PROGRAM 'id' --", Reason::InvalidQuery, "syntax error"),
        ("SELECT 1) TO PROGRAM 'id' --", Reason::InvalidQuery, "syntax error at or near \")\""),
        ("1) TO PROGRAM 'id > f' --", Reason::InvalidQuery, "syntax error"),
        ("SELECT 1) TO PROGRAM $$id$$ --\n", Reason::InvalidQuery, "syntax error"),
        ("(SELECT 1) TO PROGRAM 'id'", Reason::InvalidQuery, "syntax error"),
        ("SELECT $$1$$; SELECT $a$;$a$", Reason::InvalidQuery, "data set of its own"),
        ("SELECT 1 /* ; */; DELETE FROM t -- ;", Reason::InvalidQuery, "data set of its own"),
        ("SELECT $$1", Reason::InvalidQuery, "unterminated dollar-quoted string"),
        ("SELECT 1 AS \"a", Reason::InvalidQuery, "unterminated quoted identifier"),
        ("BEGIN", Reason::InvalidQuery, "no query"),
        ("DO $$ BEGIN NULL; END $$", Reason::InvalidQuery, "no query"),
        ("CALL p()", Reason::InvalidQuery, ""),
        ("LISTEN x", Reason::InvalidQuery, "no query"),
        ("SELECT 1) q; DROP TABLE t; --", Reason::InvalidQuery, "syntax error"),
        ("SELECT '", Reason::InvalidQuery, "unterminated quoted string"),
        ("SELECT 1 /*", Reason::InvalidQuery, "unterminated"),
        ("SELECT", Reason::InvalidQuery, "no columns"),
        ("VACUUM t", Reason::InvalidQuery, "no query"),
        ("SHOW work_mem", Reason::InvalidQuery, "no query"),
        ("EXPLAIN SELECT 1", Reason::InvalidQuery, "no query"),
        ("SET work_mem = '1MB'", Reason::InvalidQuery, "no query"),
        ("COPY t TO PROGRAM 'id'", Reason::InvalidQuery, "no query"),
        ("EXECUTE s0", Reason::InvalidQuery, ""),
        ("CREATE TABLE u AS SELECT 1", Reason::InvalidQuery, "no query"),
        ("SELECT * INTO u FROM t", Reason::InvalidQuery, "no query"),
        ("DECLARE c CURSOR FOR SELECT 1", Reason::InvalidQuery, "no query"),
        ("DELETE FROM t RETURNING *", Reason::QueryWrites, "READ ONLY"),
        ("DELETE FROM t", Reason::QueryWrites, "READ ONLY"),
        ("INSERT INTO t VALUES (1) RETURNING a", Reason::QueryWrites, "READ ONLY"),
        ("WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", Reason::QueryWrites, "READ ONLY"),
        ("DELETE FROM mine RETURNING *", Reason::QueryWrites, "READ ONLY"),
        ("UPDATE mine SET a = 1", Reason::QueryWrites, "READ ONLY"),
        ("WITH d AS (UPDATE mine SET a = 1 RETURNING *) SELECT * FROM d", Reason::QueryWrites, "READ ONLY"),
        ("SELECT * FROM t FOR UPDATE", Reason::QueryWrites, "locks rows"),
        ("SELECT * FROM nowhere", Reason::InvalidQuery, "\"nowhere\" does not exist"),
        ("SELECT nope FROM t", Reason::InvalidQuery, "\"nope\" does not exist"),
        ("SELECT t.aa FROM t", Reason::InvalidQuery, "t.a"),
        ("SELECT $1::int", Reason::InvalidQuery, ":name"),
        ("SELECT :foo", Reason::InvalidParameter, ":foo"),
        ("SELECT 1 WHERE :chunk", Reason::ChunkingRefused, "strategy Table"),
    ] {
        let failure = world.refusal(sql).await;
        assert_eq!(failure.reason, reason, "{sql}: {failure:?}");
        let told = format!("{} {}", failure.message, failure.hint.unwrap_or_default());
        assert!(told.contains(word) && told.contains("data set rows"), "{sql}: {word:?} is not in {told:?}");
    }
    let rows: i64 = world
        .admin
        .query_one("SELECT count(*) FROM pg_class WHERE relname IN ('t', 'u')", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(rows, 1, "nothing was dropped or made");
    world.done().await;
}

#[tokio::test]
async fn a_query_may_end_as_it_likes() {
    let world = World::new("endings").await;
    for sql in [
        "SELECT 1 AS a;",
        "SELECT 1 AS a ; ;\n-- done",
        "SELECT 1 AS a -- )",
        "SELECT 1 AS a /* ( */",
        "SELECT $$) TO PROGRAM 'id' --$$ AS a",
        "SELECT $q$; SELECT 2$q$ AS a; /* ; */ -- ;",
        "-- first\nSELECT 1 AS a--",
        "VALUES (1)",
        "WITH x(a) AS (SELECT 1) TABLE x",
        "TABLE pg_catalog.pg_am",
        "(SELECT 1 AS a) UNION SELECT 2 ORDER BY a",
    ] {
        let order = world.order(sql, FormatType::Ndjson);
        let holder = world.holder().await;
        let plan = make(&holder, &order).await.unwrap();
        assert!(!world.read(&holder, &order, &plan).await.concat().is_empty(), "{sql}");
        holder.finish().await;
    }
    world.done().await;
}

#[tokio::test]
async fn columns_are_described_as_the_server_writes_their_types() {
    let world = World::with(
        "columns",
        "CREATE DOMAIN posint AS int CHECK (VALUE > 0); CREATE TYPE mood AS ENUM ('ok')",
    )
    .await;
    let sql = "SELECT 1::numeric(10,2) AS n, 'a'::varchar(5) AS v, 1 AS same, 'b'::text AS same, now() AS t, ARRAY[1]::int[] AS a,
               1::posint AS d, 'ok'::mood AS \"Mood \"\"x\"\"\", NULL AS u, '1 day'::interval(3) AS i, 'c'::char(3) AS c";
    let plan = world.plan(&world.order(sql, FormatType::Csv)).await.unwrap();
    let columns: Vec<_> = plan.datasets[0]
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.column_type.as_str()))
        .collect();
    assert_eq!(
        columns,
        [
            ("n", "numeric(10,2)"),
            ("v", "character varying(5)"),
            ("same", "integer"),
            ("same", "text"),
            ("t", "timestamp with time zone"),
            ("a", "integer[]"),
            ("d", "integer"),
            ("Mood \"x\"", "mood"),
            ("u", "text"),
            ("i", "interval(3)"),
            ("c", "character(3)"),
        ]
    );
    assert_eq!(
        plan.datasets[0].csv_header.as_deref(),
        Some("n,v,same,same,t,a,d,\"Mood \"\"x\"\"\",u,i,c\n")
    );
    world.done().await;
}

#[tokio::test]
async fn csv_options_are_proved_before_anything_runs() {
    let world = World::new("csv_options").await;
    for (csv, word) in [
        (Csv { force_quote: vec!["nope".to_owned()], ..Csv::default() }, "nope"),
        (Csv { delimiter: Some(";".to_owned()), null: Some(";".to_owned()), ..Csv::default() }, "format.csv"),
        (Csv { header: false, delimiter: Some("\"".to_owned()), ..Csv::default() }, "format.csv"),
    ] {
        let mut order = world.order("SELECT 1 AS a", FormatType::Csv);
        order.format.csv = Some(csv);
        let failure = told(&world.plan(&order).await.unwrap_err());
        assert_eq!(failure.reason, Reason::InvalidSpec, "{failure:?}");
        assert!(failure.message.contains(word), "{failure:?}");
    }
    let mut order = world.order("SELECT 1 AS a, 2 AS \"b;\"", FormatType::Csv);
    order.format.csv =
        Some(Csv { delimiter: Some(";".to_owned()), quote: Some("'".to_owned()), ..Csv::default() });
    let plan = world.plan(&order).await.unwrap();
    assert_eq!(plan.datasets[0].csv_header.as_deref(), Some("a;'b;'\n"));
    order.format.csv = Some(Csv { header: false, ..Csv::default() });
    assert_eq!(world.plan(&order).await.unwrap().datasets[0].csv_header, None);
    world.done().await;
}

#[tokio::test]
async fn what_the_login_may_not_read_is_named() {
    let world = World::with("denied", "CREATE TABLE secrets (a int)").await;
    let role = world.database.name.clone();
    world.admin.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await.unwrap();
    let postgres = Postgres { user: role.clone(), ..world.postgres() };
    let mut secrets = world.secrets();
    secrets.insert("login", "password", Secret::new(b"secret".to_vec()));
    let holder = Holder::begin(&Connector::new(&postgres, Arc::new(secrets)), "denied").await.unwrap();
    let failure =
        told(&make(&holder, &world.order("SELECT * FROM secrets", FormatType::Csv)).await.unwrap_err());
    assert_eq!(failure.reason, Reason::PermissionDenied, "{failure:?}");
    assert!(failure.message.contains("table secrets") && failure.message.contains(&role), "{failure:?}");
    holder.finish().await;
    world.admin.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
    world.done().await;
}

#[tokio::test]
async fn failures_while_running_tell_no_values() {
    let world = World::with(
        "running",
        "CREATE TABLE t AS SELECT i, 'hunter' || i AS secret FROM generate_series(1, 1000) i;
         CREATE SEQUENCE s; GRANT USAGE ON s TO exporter;
         CREATE FUNCTION blame(text) RETURNS int LANGUAGE plpgsql VOLATILE AS $$ BEGIN RAISE EXCEPTION 'bad %', $1 USING DETAIL = $1, HINT = $1; END $$;
         CREATE FUNCTION dynamic(text) RETURNS int LANGUAGE plpgsql VOLATILE AS $$ BEGIN EXECUTE 'SELECT ' || $1; RETURN 1; END $$",
    )
    .await;
    for (sql, reason, sql_state, word) in [
        ("SELECT 1 / (i - 900) FROM t", Reason::DataError, "22012", "division_by_zero"),
        ("SELECT secret::int FROM t", Reason::DataError, "22P02", "invalid_text_representation"),
        ("SELECT blame(secret) FROM t", Reason::DataError, "P0001", "raise_exception"),
        ("SELECT dynamic(secret) FROM t", Reason::InvalidQuery, "42703", "invalid statement"),
        (
            "SELECT (SELECT x.secret FROM t x WHERE x.i >= t.i) FROM t",
            Reason::DataError,
            "21000",
            "more than one row",
        ),
        ("SELECT nextval('s'), secret FROM t", Reason::QueryWrites, "25006", "read-only transaction"),
        // Four GB of a text: the server makes 1 GB at the most.
        (
            "SELECT repeat('xx', 1000000 * length(i || 'hunter') * 300) FROM t LIMIT 1",
            Reason::RowTooLarge,
            "54000",
            "too large",
        ),
    ] {
        for format in [FormatType::Csv, FormatType::Ndjson] {
            let holder = world.holder().await;
            let order = world.order(sql, format);
            let plan = make(&holder, &order).await.unwrap();
            let query = pgexport_engine::plan::chunk_query(&order, &plan, &plan.chunks[0]).unwrap();
            let mut importer = world.importer(&holder).await;
            let error = drain(&mut importer, &query, &order.format, &plan.datasets[0]).await.unwrap_err();
            let failure = told(&error);
            assert_eq!(
                (failure.reason, failure.sql_state.as_deref()),
                (reason, Some(sql_state)),
                "{sql}: {failure:?}"
            );
            assert!(failure.message.contains(word), "{sql}: {failure:?}");
            assert!(!format!("{error:?} {failure:?}").contains("hunter"), "{sql}: {error:?}");
            assert_eq!(
                drain(&mut importer, "SELECT 1", &order.format, &plan.datasets[0])
                    .await
                    .unwrap_err()
                    .reason(),
                Reason::InternalError
            );
            holder.finish().await;
        }
    }
    world.done().await;
}

#[tokio::test]
async fn a_query_cannot_change_how_the_next_one_is_read() {
    let world = World::with(
        "pins",
        "CREATE TABLE t AS SELECT timestamptz '2026-01-02 03:04:05+00' AS t, 0.1::float8 + 0.2 AS f",
    )
    .await;
    let order = world.order(
        "SELECT set_config('DateStyle', 'German', false), set_config('extra_float_digits', '-5', false), set_config('standard_conforming_strings', 'off', false)",
        FormatType::Csv,
    );
    let holder = world.holder().await;
    let mut importer = world.importer(&holder).await;
    world.drain(&holder, &mut importer, &order.datasets[0].sql, &order.format).await.unwrap();
    let sql = "SELECT t, f, '\\' AS b, ROW(t, f, '\\'::text) AS r FROM t";
    let rows = world.drain(&holder, &mut importer, sql, &order.format).await.unwrap();
    assert_eq!(
        String::from_utf8(rows).unwrap(),
        "2026-01-02 03:04:05+00,0.30000000000000004,\\,\"(\"\"2026-01-02 03:04:05+00\"\",0.30000000000000004,\"\"\\\\\"\")\"\n"
    );
    importer.finish().await;
    holder.finish().await;
    world.done().await;
}
