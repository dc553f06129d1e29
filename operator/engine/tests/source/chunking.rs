//! Chunks: together they are the whole, or they are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pgexport_api::job::{DatasetChunking, FormatType};
use pgexport_api::reason::Reason;
use pgexport_engine::plan::{Rows, make};

use super::world::{World, by_column, by_table, multiset, parameter, told};

/// Plans, reads all chunks, and compares their union with the query as one COPY; gives the sizes of the chunks in rows.
async fn assert_whole(world: &World, sql: &str, chunking: DatasetChunking) -> Vec<usize> {
    let mut order = world.order(sql, FormatType::Csv);
    order.datasets[0].chunking = chunking.clone();
    let holder = world.holder().await;
    let plan = make(&holder, &order).await.unwrap();
    let chunks = world.read(&holder, &order, &plan).await;
    let whole = world
        .reference(
            &holder,
            &format!(
                "COPY ({}\n) TO STDOUT (FORMAT csv)",
                sql.replace(":chunk", "true").trim_end_matches(';')
            ),
        )
        .await;
    holder.finish().await;
    let (parts, whole) = (multiset(&chunks), multiset([&whole]));
    let differing = parts.iter().zip(&whole).find(|(part, whole)| part != whole);
    let differing =
        differing.map(|(part, whole)| (String::from_utf8_lossy(part), String::from_utf8_lossy(whole)));
    assert!(parts == whole, "{sql} by {chunking:?}: {} and {} rows, {differing:?}", parts.len(), whole.len());
    chunks.iter().map(|chunk| chunk.split_inclusive(|byte| *byte == b'\n').count()).collect()
}

async fn refusal(world: &World, sql: &str, chunking: DatasetChunking) -> String {
    let mut order = world.order(sql, FormatType::Csv);
    order.datasets[0].chunking = chunking;
    match world.plan(&order).await {
        Ok(plan) => panic!("{sql} was planned: {plan:?}"),
        Err(error) => {
            let failure = told(&error);
            assert_eq!(failure.reason, Reason::ChunkingRefused, "{sql}: {failure:?}");
            failure.message
        }
    }
}

#[tokio::test]
async fn ranges_of_any_ordered_column_are_the_whole() {
    let world = World::with(
        "by_column",
        "CREATE COLLATION ignoring (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
         CREATE DOMAIN positive AS int;
         CREATE TABLE t AS
         SELECT i, (ARRAY['NaN', 'Infinity', '-Infinity', '-0', '0', NULL, '1e300', '0.1'])[1 + i % 8]::float8 AS f,
                (ARRAY['NaN', 'Infinity', '-Infinity', NULL, '1.0', '1.00', '-5'])[1 + i % 7]::numeric AS n,
                (ARRAY['a', 'A', 'ä', 'Z', '', ' ', E'\\\\', '''', 'é', NULL])[1 + i % 10] || (i % 3) AS s,
                md5(i::text)::uuid AS u,
                CASE i % 50 WHEN 0 THEN 'infinity' WHEN 1 THEN '-infinity' WHEN 2 THEN NULL WHEN 3 THEN '0044-03-15 BC'::timestamptz ELSE timestamptz '2026-01-01 12:00+02' + i * interval '17.123456 s' END AS ts,
                CASE WHEN i % 5 = 0 THEN NULL ELSE make_interval(secs => i) END AS iv,
                decode(md5(i::text), 'hex') AS b, i % 2 = 0 AS flag, (ARRAY['sad', 'ok', 'happy'])[1 + i % 3]::mood AS m,
                (i % 9)::positive AS d, ('10.0.0.0'::inet + i) AS ip, left(md5(i::text), 2)::char(4) AS c, i::oid AS o, 7 AS same,
                NULL::int AS nothing, to_jsonb(i % 11) AS j, (i % 4)::money AS cash, i::bit(12) AS bits, int4range(i, i + 2) AS r
         FROM generate_series(1, 2000) i;
         ALTER TABLE t ALTER s TYPE text COLLATE \"en-US-x-icu\", ADD s2 text COLLATE ignoring; UPDATE t SET s2 = s",
    )
    .await;
    for column in [
        "i", "f", "n", "s", "s2", "u", "ts", "iv", "b", "flag", "m", "d", "ip", "c", "o", "same", "nothing",
        "j", "cash", "bits", "r",
    ] {
        let sizes = assert_whole(&world, "SELECT * FROM t", by_column(column, 7)).await;
        let wanted = match column {
            "flag" => 2..=3,
            "same" => 2..=2,
            "nothing" => 1..=1,
            "m" => 3..=4,
            _ => 4..=7,
        };
        assert!(wanted.contains(&sizes.len()), "{column}: {sizes:?}");
    }
    let sizes = assert_whole(&world, "SELECT * FROM t WHERE false", by_column("i", 7)).await;
    assert_eq!(sizes, [0]);
    let sizes = assert_whole(&world, "SELECT i FROM t", by_column("i", 4)).await;
    assert!(sizes.iter().all(|size| (490..=510).contains(size)), "quantiles make equal parts: {sizes:?}");
    assert_eq!(assert_whole(&world, "SELECT i FROM t", by_column("i", 1)).await, [2000]);
    assert_whole(&world, "SELECT count(*) AS \"N\"\"x\", s FROM t GROUP BY s -- end", by_column("N\"x", 3))
        .await;
    assert_whole(&world, "SELECT s COLLATE \"C\" AS s FROM t", by_column("s", 5)).await;
    world.done().await;
}

#[tokio::test]
async fn columns_without_an_order_are_refused() {
    let world = World::with("unordered", "CREATE TYPE pair AS (a int, b int); CREATE TABLE t AS SELECT i, '{}'::json AS j, point(1, 2) AS p, ARRAY[i] AS a, ROW(i, NULL)::pair AS c FROM generate_series(1, 10) i").await;
    for (sql, column, word) in [
        ("SELECT * FROM t", "j", "json has no order"),
        ("SELECT * FROM t", "p", "point has no order"),
        ("SELECT * FROM t", "a", "integer[]"),
        ("SELECT * FROM t", "c", "pair"),
        ("SELECT ROW(1, 2) AS r", "r", "record"),
        ("SELECT i FROM t", "nope", "the query returns i"),
        ("SELECT i, i FROM t", "i", "more than one"),
        ("SELECT i FROM t LIMIT 5", "i", "LIMIT"),
    ] {
        let message = refusal(&world, sql, by_column(column, 3)).await;
        assert!(message.contains(word) && message.contains(column), "{sql}: {message}");
    }
    world.done().await;
}

#[tokio::test]
async fn ranges_of_pages_are_the_whole() {
    let world = World::with_findings("by_table").await;
    world.admin.batch_execute("CREATE TABLE empty (a int); CREATE TABLE small AS SELECT 1 AS a; CREATE MATERIALIZED VIEW mv AS SELECT * FROM findings; CREATE TABLE \"Odd \"\"n\" AS SELECT * FROM small; GRANT SELECT ON ALL TABLES IN SCHEMA public TO exporter").await.unwrap();
    for (sql, chunking, chunks) in [
        ("SELECT * FROM findings WHERE :chunk", by_table("findings", None, 5), 5),
        (
            "SELECT f.* FROM findings f WHERE :chunk AND f.severity = 'high';",
            by_table("public.findings", Some("f"), 3),
            3,
        ),
        (
            "SELECT f.id, a.hostname FROM findings f JOIN assets a ON a.tenant_id = f.tenant_id AND :chunk",
            by_table("findings", Some("F"), 4),
            4,
        ),
        (
            "SELECT f.id, a.id AS asset FROM findings f LEFT JOIN assets a ON a.id = f.id WHERE :chunk ORDER BY f.seq",
            by_table("findings", Some("f"), 4),
            4,
        ),
        (
            "WITH w AS (SELECT * FROM findings f WHERE :chunk) SELECT id FROM w",
            by_table("findings", Some("f"), 4),
            4,
        ),
        (
            "SELECT f.id FROM findings f WHERE :chunk AND EXISTS (SELECT FROM assets a WHERE a.tenant_id = f.tenant_id)",
            by_table("findings", Some("f"), 4),
            4,
        ),
        (
            "SELECT id FROM findings f WHERE (f.severity = 'high' OR f.seq < 100) AND :chunk",
            by_table("findings", Some("f"), 4),
            4,
        ),
        (
            "SELECT f.id FROM findings f JOIN assets a ON a.tenant_id = f.tenant_id AND a.id <> f.id AND :chunk WHERE f.seq > 10",
            by_table("findings", Some("f"), 4),
            4,
        ),
        (
            "SELECT q.id FROM (SELECT * FROM findings f WHERE :chunk OFFSET 0) q WHERE q.severity = 'high'",
            by_table("findings", Some("f"), 4),
            4,
        ),
        ("SELECT * FROM mv WHERE :chunk", by_table("mv", None, 3), 3),
        ("SELECT * FROM empty WHERE :chunk", by_table("empty", None, 9), 1),
        ("SELECT * FROM small WHERE :chunk", by_table("small", None, 9), 1),
        ("SELECT * FROM \"Odd \"\"n\" WHERE :chunk", by_table("\"Odd \"\"n\"", None, 9), 1),
        ("SELECT * FROM findings WHERE :chunk AND false", by_table("findings", None, 5), 1),
        ("SELECT * FROM findings WHERE :chunk", by_table("findings", None, 1), 1),
    ] {
        let sizes = assert_whole(&world, sql, chunking).await;
        assert_eq!(sizes.len(), chunks, "{sql}: {sizes:?}");
    }
    world.done().await;
}

#[tokio::test]
async fn tables_and_places_that_cannot_be_split_are_refused() {
    let world = World::with(
        "unsplittable",
        "CREATE TABLE t AS SELECT i AS a FROM generate_series(1, 1000) i; CREATE TABLE u AS SELECT i AS a FROM generate_series(1, 10) i;
         CREATE VIEW v AS SELECT * FROM t; CREATE TABLE p (a int) PARTITION BY RANGE (a); CREATE TABLE p1 PARTITION OF p DEFAULT;
         CREATE TABLE parent (a int); CREATE TABLE child () INHERITS (parent); CREATE SEQUENCE s",
    )
    .await;
    let t = || by_table("t", None, 4);
    for (sql, chunking, word) in [
        ("SELECT * FROM t", t(), ":chunk"),
        ("SELECT * FROM t WHERE :chunk AND :chunk", t(), "2 times"),
        ("SELECT ':chunk' FROM t -- :chunk", t(), ":chunk"),
        ("SELECT * FROM v WHERE :chunk", by_table("v", None, 4), "view"),
        ("SELECT * FROM p WHERE :chunk", by_table("p", None, 4), "partitioned"),
        ("SELECT * FROM parent WHERE :chunk", by_table("parent", None, 4), "inherit"),
        ("SELECT * FROM s WHERE :chunk", by_table("s", None, 4), "neither"),
        ("SELECT * FROM t WHERE :chunk", by_table("nowhere", None, 4), "search path"),
        ("SELECT * FROM t WHERE :chunk", by_table("t t", None, 4), "table t t"),
        ("SELECT * FROM t WHERE :chunk", by_table("t", Some("a b"), 4), "not an alias"),
        ("SELECT * FROM t x WHERE :chunk", t(), "chunking.table.alias"),
        ("SELECT * FROM t WHERE :chunk LIMIT 5", t(), "Limit"),
        ("SELECT count(*) FROM t WHERE :chunk", t(), "Aggregate"),
        ("SELECT DISTINCT a FROM t WHERE :chunk", t(), ""),
        ("SELECT a, row_number() OVER () FROM t WHERE :chunk", t(), "WindowAgg"),
        ("SELECT a FROM t WHERE :chunk UNION ALL SELECT a FROM u", t(), "Append"),
        ("SELECT a FROM t WHERE :chunk EXCEPT SELECT a FROM u", t(), ""),
        ("SELECT u.a, t.a FROM u LEFT JOIN t ON t.a = u.a WHERE :chunk", t(), "may be missing"),
        ("SELECT u.a, t.a FROM u LEFT JOIN t ON t.a = u.a AND :chunk", t(), "may be missing"),
        (
            "SELECT u.a, x.a FROM u LEFT JOIN (SELECT * FROM t WHERE :chunk) x ON x.a = u.a",
            t(),
            "may be missing",
        ),
        ("SELECT u.a, t.a FROM u FULL JOIN t ON t.a = u.a WHERE :chunk", t(), "may be missing"),
        ("SELECT a FROM u WHERE NOT EXISTS (SELECT FROM t WHERE t.a = u.a AND :chunk)", t(), "looked up"),
        ("SELECT a, (SELECT max(t.a) FROM t WHERE :chunk) FROM u", t(), ""),
        ("SELECT a, :chunk FROM t", t(), "WHERE"),
        ("SELECT a FROM t WHERE a = 1 OR a = 2 AND :chunk", t(), "OR or NOT"),
        ("SELECT a FROM t WHERE :chunk OR a > 500", t(), "OR or NOT"),
        ("SELECT a FROM t WHERE NOT :chunk", t(), "OR or NOT"),
        ("SELECT a FROM t WHERE (:chunk) IS DISTINCT FROM (a > 500)", t(), "OR or NOT"),
        ("SELECT t.a FROM t JOIN u ON t.a = u.a OR :chunk", t(), ""),
        (
            "SELECT t.a, x.a FROM t JOIN t t_1 ON t_1.a = t.a JOIN u x ON true WHERE :chunk",
            t(),
            "more than once",
        ),
    ] {
        let message = refusal(&world, sql, chunking).await;
        assert!(message.contains(word), "{sql}: {word:?} is not in {message:?}");
    }
    world.done().await;
}

/// Eight chunks of a table, while others update, delete and insert.
#[tokio::test]
async fn chunks_stay_the_whole_while_others_write() {
    let world = World::with_findings("others_write").await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let (stop, database) = (Arc::clone(&stop), world.database.clone());
            tokio::spawn(async move {
                let client = database.admin().await.unwrap();
                let (mut round, mut writes) = (writer, 0);
                while !stop.load(Relaxed) {
                    round += 2;
                    let sql = format!(
                        "UPDATE findings SET status = 'changed', seen_at = now() WHERE seq % 97 = {round} % 97;
                         DELETE FROM findings WHERE seq % 501 = {round} % 501;
                         INSERT INTO findings SELECT gen_random_uuid(), 1000000 + {round} * 100 + i, tenant_id, severity, 'new', title, description, score, cost, tags, ports, attributes, raw, first_seen, seen_at, due, fixed, cvss, risk, fingerprint, source_ip
                         FROM findings, generate_series(1, 50) i WHERE seq = 17"
                    );
                    // Two writers may meet and make a deadlock; that is not what is tested.
                    writes += i32::from(client.batch_execute(&sql).await.is_ok());
                }
                writes
            })
        })
        .collect();
    for (sql, chunking) in [
        ("SELECT * FROM findings f WHERE :chunk AND f.seen_at >= :since", by_table("findings", Some("f"), 8)),
        ("SELECT * FROM findings f WHERE f.seen_at >= :since", by_column("seen_at", 8)),
    ] {
        let mut order = world.order(sql, FormatType::Csv);
        order.datasets[0].chunking = chunking;
        order.parameters.push(parameter("since", "timestamptz", Some("2026-01-01T00:00:00Z")));
        let holder = world.holder().await;
        let plan = make(&holder, &order).await.unwrap();
        assert_eq!(plan.chunks.len(), 8, "{sql}");
        assert!(plan.chunks.iter().all(|chunk| chunk.rows != Rows::All));
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let chunks = world.read(&holder, &order, &plan).await;
        let whole = "COPY (SELECT * FROM findings f WHERE f.seen_at >= '2026-01-01T00:00:00Z') TO STDOUT (FORMAT csv)";
        let whole = world.reference(&holder, whole).await;
        assert!(multiset(&chunks) == multiset([&whole]), "{sql}");
        holder.finish().await;
    }
    stop.store(true, Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 2, "others did write");
    }
    world.done().await;
}
