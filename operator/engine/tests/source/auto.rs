//! Strategy Auto: what it splits is the whole, and what it cannot split is one chunk.

use pgexport_api::job::{Consistency, DatasetChunking, FormatType, Layout, Strategy};
use pgexport_api::order::RunOrder;
use pgexport_api::reason::Reason;
use pgexport_engine::plan::{Plan, chunk_query, lock, make};
use pgexport_engine::source::Importer;
use proptest::prelude::{any, prop};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::world::{World, multiset, parameter};

/// Two rows a page: so many make a table that is split.
const ROWS: u32 = 5000;
/// A column that fills half a page.
const PAD: &str = "pad char(3900) NOT NULL DEFAULT ''";

/// Plans, reads all chunks, and compares their union with the query as one COPY.
async fn assert_whole(world: &World, order: &RunOrder) -> Plan {
    let sql = &order.datasets[0].sql;
    let holder = world.holder().await;
    let plan = make(&holder, order).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let chunks = world.read(&holder, order, &plan).await;
    let whole = world.reference(&holder, &format!("COPY ({sql}\n) TO STDOUT (FORMAT csv)")).await;
    holder.finish().await;
    let (parts, whole) = (multiset(&chunks), multiset([&whole]));
    let reason = plan.datasets[0].reason.as_deref();
    assert!(parts == whole, "{sql}: {} and {} rows ({reason:?})", parts.len(), whole.len());
    plan
}

async fn padded(world: &World, statements: &str) {
    world.admin.batch_execute(statements).await.unwrap();
    world
        .admin
        .batch_execute("ANALYZE; GRANT SELECT ON ALL TABLES IN SCHEMA public TO exporter")
        .await
        .unwrap();
}

/// `t` is split, and so is `p` of three partitions, one of which is large and has its columns in another order.
async fn tables(world: &World) {
    padded(
        world,
        &format!(
            "CREATE TABLE t (gone int, id int PRIMARY KEY, grp int, s text, tags int[], {PAD});
             ALTER TABLE t ALTER pad SET STORAGE PLAIN, DROP gone;
             INSERT INTO t SELECT i, i % 7, CASE WHEN i % 5 > 0 THEN 'row ' || i END, ARRAY[i, i + 1] FROM generate_series(1, {ROWS}) i;
             CREATE TABLE small (id int, s text); INSERT INTO small VALUES (1, 'one'), (2, NULL);
             CREATE TABLE p (id int, grp int, s text, {PAD}) PARTITION BY LIST (grp);
             CREATE TABLE p0 PARTITION OF p FOR VALUES IN (0); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
             CREATE TABLE p2 (pad char(3900) NOT NULL, s text, gone int, grp int, id int); ALTER TABLE p2 DROP gone, ALTER pad SET STORAGE PLAIN;
             ALTER TABLE p ATTACH PARTITION p2 DEFAULT;
             INSERT INTO p SELECT id, CASE WHEN id < 50 THEN id % 2 ELSE 2 END, s, pad FROM t;
             CREATE TABLE parent (id int, s text, {PAD}); ALTER TABLE parent ALTER pad SET STORAGE PLAIN;
             CREATE TABLE child (extra int) INHERITS (parent); ALTER TABLE child ALTER pad SET STORAGE PLAIN;
             INSERT INTO parent SELECT id, s FROM t WHERE id <= 2500; INSERT INTO child SELECT id, s, pad, 1 FROM t WHERE id > 2500;
             CREATE TABLE u AS SELECT id, grp FROM t; ALTER TABLE u ADD PRIMARY KEY (id);
             CREATE VIEW v AS SELECT * FROM t; CREATE MATERIALIZED VIEW m AS SELECT id, s, pad FROM t WITH NO DATA;
             ALTER MATERIALIZED VIEW m ALTER pad SET STORAGE PLAIN; REFRESH MATERIALIZED VIEW m"
        ),
    )
    .await;
}

#[tokio::test]
async fn queries_over_one_table_are_split_by_its_pages_or_partitions() {
    let world = World::new("auto_splits").await;
    tables(&world).await;
    for (sql, chunks, word) in [
        ("SELECT * FROM t", 2, "public.t, by ranges of its pages"),
        ("SELECT id, s FROM public.t AS x WHERE x.grp = :grp AND s IS NOT NULL;", 2, "public.t"),
        ("SELECT T.*, upper(s) AS s2 FROM ONLY t -- end", 2, "public.t"),
        ("SELECT b FROM t x(a, b, c)", 2, "public.t"),
        ("SELECT unnest(tags), id FROM \"t\"", 2, "public.t"),
        ("WITH w AS (SELECT * FROM t WHERE grp > 2) SELECT id FROM w WHERE s <> 't'", 2, "public.t"),
        ("SELECT y.id FROM (SELECT id FROM t WHERE grp < 4 ORDER BY id) y", 2, "public.t"),
        ("SELECT id, s FROM m", 2, "public.m"),
        ("SELECT * FROM p", 3, "by its partitions, and large ones by ranges of their pages"),
        ("SELECT s, id FROM p q WHERE grp >= :grp", 2, "public.p"),
        ("SELECT * FROM parent*", 2, "public.parent, by its partitions"),
        ("SELECT * FROM ONLY parent WHERE id > 5", 1, "public.parent is small"),
    ] {
        let mut order = world.order(sql, FormatType::Csv);
        order.parameters.push(parameter("grp", "int", Some("1")));
        let holder = world.holder().await;
        let plan = make(&holder, &order).await.unwrap();
        let parts = world.read(&holder, &order, &plan).await;
        let whole = sql.trim_end_matches(';').replace(":grp", "1");
        let whole = world.reference(&holder, &format!("COPY ({whole}\n) TO STDOUT (FORMAT csv)")).await;
        holder.finish().await;
        let reason = plan.datasets[0].reason.clone().unwrap();
        assert!(multiset(&parts) == multiset([&whole]), "{sql}: {reason}");
        assert!(plan.chunks.len() >= chunks && (chunks > 1 || plan.chunks.len() == 1), "{sql}: {reason}");
        assert!(reason.contains(word), "{sql}: {reason}");
        let strategy = if chunks > 1 { Strategy::Table } else { Strategy::None };
        assert_eq!(plan.datasets[0].strategy, strategy, "{sql}: {reason}");
        assert_eq!(plan.chunking()[0].chunks as usize, plan.chunks.len());
    }
    world.done().await;
}

#[tokio::test]
async fn what_cannot_be_split_is_one_chunk_and_says_why() {
    let world = World::new("auto_one").await;
    tables(&world).await;
    padded(
        &world,
        "CREATE FUNCTION public.odd(int) RETURNS bool LANGUAGE sql AS 'SELECT $1 % 2 = 1';
         CREATE FUNCTION public.roll(t) RETURNS float8 LANGUAGE sql AS 'SELECT random()';
         CREATE TABLE parted_policy (id int, pad text) PARTITION BY LIST (id); CREATE TABLE pp1 PARTITION OF parted_policy DEFAULT;
         ALTER TABLE parted_policy ENABLE ROW LEVEL SECURITY; CREATE POLICY positive ON parted_policy USING (id > 0)",
    )
    .await;
    world.admin.batch_execute("INSERT INTO parted_policy VALUES (1), (2)").await.unwrap();
    for (sql, word) in [
        ("SELECT id FROM t ORDER BY id", "ORDER BY"),
        ("(SELECT id FROM t ORDER BY 1)", "ORDER BY"),
        ("SELECT id FROM t LIMIT 4000", "Limit"),
        ("SELECT id FROM (SELECT id FROM t OFFSET 10) x", "Limit"),
        ("SELECT count(*) FROM t", "Aggregate"),
        ("SELECT grp, max(s) FROM t GROUP BY grp", "Aggregate"),
        ("SELECT DISTINCT grp FROM t", "in its plan stands"),
        ("SELECT DISTINCT ON (grp) grp FROM t", "DISTINCT ON"),
        ("SELECT id, row_number() OVER (PARTITION BY grp ORDER BY id) FROM t", "WindowAgg"),
        ("SELECT id FROM t UNION ALL SELECT id FROM t", "2 tables"),
        ("SELECT id FROM t UNION ALL SELECT 1", "rows of no table"),
        ("SELECT id FROM t EXCEPT SELECT 1", "in its plan stands"),
        ("SELECT id FROM t TABLESAMPLE SYSTEM (50) REPEATABLE (1)", "Sample Scan"),
        ("SELECT id, random() < 2 FROM t", "random, which is volatile"),
        ("SELECT id FROM t WHERE odd(id)", "odd, which is volatile"),
        ("SELECT id, (x).roll > 2 FROM t x", "roll, which is volatile"),
        ("SELECT id FROM t WHERE now() > '2020-01-01'", "now"),
        ("SELECT id FROM t WHERE CURRENT_DATE > '2020-01-01'", "current_date"),
        ("SELECT id FROM t WHERE timestamptz ' Today' > '2020-01-01'", "'today'"),
        ("SELECT x FROM t x WHERE id < 50", "row as a whole"),
        ("SELECT to_jsonb(x) - 'pad' FROM t x WHERE id < 50", "row as a whole"),
        ("SELECT xmin, grp FROM t", "xmin"),
        ("SELECT tableoid::regclass, grp FROM p", "tableoid"),
        ("SELECT grp, (SELECT max(s) FROM t y) FROM t", "2 tables"),
        ("SELECT id FROM v", "v is a view"),
        ("SELECT 1 AS a", "names no table"),
        ("SELECT id FROM t WHERE false", "no rows"),
        ("SELECT id FROM small", "is small"),
        ("SELECT id FROM t WHERE id = 7", "index"),
        ("SELECT id FROM parted_policy", "row-level security"),
        ("TABLE u", "not the same"),
        (
            "WITH RECURSIVE r AS (SELECT id FROM t WHERE id < 3 UNION SELECT id + 1 FROM r WHERE id < 9) SELECT * FROM r",
            "in its plan stands",
        ),
        ("WITH t AS (SELECT grp FROM t) SELECT grp FROM t", "2 tables"),
    ] {
        let plan = assert_whole(&world, &world.order(sql, FormatType::Csv)).await;
        let dataset = &plan.datasets[0];
        let reason = dataset.reason.as_deref().unwrap();
        assert_eq!((plan.chunks.len(), dataset.strategy), (1, Strategy::None), "{sql}: {reason}");
        assert!(reason.contains(word), "{sql}: {word:?} is not in {reason:?}");
    }
    let mut order = world.order("SELECT id FROM t", FormatType::Csv);
    order.files.layout = Layout::Single;
    assert!(assert_whole(&world, &order).await.datasets[0].reason.as_ref().unwrap().contains("Direct"));
    world.done().await;
}

#[tokio::test]
async fn an_indexed_column_splits_what_no_table_does() {
    let world = World::new("auto_column").await;
    tables(&world).await;
    let joined = "SELECT t.id, u.grp, t.s FROM t JOIN u ON u.id = t.id WHERE t.grp < 6";
    let plan = assert_whole(&world, &world.order(joined, FormatType::Csv)).await;
    let dataset = &plan.datasets[0];
    assert_eq!(dataset.strategy, Strategy::Column, "{:?}", dataset.reason);
    assert!(plan.chunks.len() > 1 && dataset.reason.as_ref().unwrap().contains("ranges of id"));
    // Each range would count all of the table: that does not pay.
    let counting =
        "SELECT id FROM t WHERE grp < (SELECT count(*) FROM t) AND id > (SELECT min(length(s)) FROM t)";
    let plan = assert_whole(&world, &world.order(counting, FormatType::Csv)).await;
    assert_eq!(plan.chunks.len(), 1, "{:?}", plan.datasets[0].reason);
    world.done().await;
}

/// What was planned and is not locked between chunks.
#[tokio::test]
async fn a_split_table_that_is_rewritten_between_chunks_is_noticed() {
    let world = World::new("auto_rewritten").await;
    tables(&world).await;
    for (sql, statement, table) in
        [("SELECT id FROM t", "CLUSTER t USING t_pkey", "t"), ("SELECT id FROM p", "VACUUM FULL p2", "p2")]
    {
        let mut order = world.order(sql, FormatType::Csv);
        order.consistency = Consistency::PerChunk;
        let plan = world.plan(&order).await.unwrap();
        assert!(
            plan.snapshot.is_none() && plan.tables.iter().any(|split| split.name == table),
            "{:?}",
            plan.tables
        );
        let name = world.label("chunk");
        let mut importer = Importer::connect(&world.connector(), &name).await.unwrap();
        for rewritten in [false, true] {
            if rewritten {
                world.admin.batch_execute(statement).await.unwrap();
            }
            let mut noticed = 0;
            for chunk in &plan.chunks {
                importer.begin_anew().await.unwrap();
                let query = chunk_query(&order, &plan, chunk).unwrap();
                match lock(importer.session(), &plan, chunk, &query).await {
                    Ok(()) => {}
                    Err(error) => {
                        assert_eq!(error.reason(), Reason::PlanOutdated, "{error}");
                        noticed += 1;
                    }
                }
            }
            let ranged = plan
                .chunks
                .iter()
                .filter(|chunk| chunk_query(&order, &plan, chunk).unwrap().contains("ctid"));
            // Its locks would keep the table from being rewritten.
            importer.begin_anew().await.unwrap();
            assert_eq!(noticed, if rewritten { ranged.count() } else { 0 }, "{sql}");
        }
        importer.finish().await;
    }
    world.done().await;
}

/// A table as random as it gets: its statements, and whether it has partitions.
fn any_table(rows: u32) -> impl proptest::strategy::Strategy<Value = String> {
    (0..5_u32, any::<bool>(), 1..9_u32).prop_map(move |(kind, dropped, modulus)| {
        let extra = if dropped { "gone text DEFAULT 'x'," } else { "" };
        let columns = format!("{extra} a int, b numeric, c text, {PAD}");
        let made = match kind {
            0 => format!("CREATE TABLE r ({columns});"),
            1 => format!(
                "CREATE TABLE r ({columns}) PARTITION BY HASH (a);
                 DO $$ BEGIN FOR i IN 0..{modulus} - 1 LOOP
                   EXECUTE format('CREATE TABLE r%s PARTITION OF r FOR VALUES WITH (MODULUS {modulus}, REMAINDER %s)', i, i);
                 END LOOP; END $$;"
            ),
            2 => format!(
                "CREATE TABLE r ({columns}) PARTITION BY RANGE (a); CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (100);
                 CREATE TABLE r2 PARTITION OF r FOR VALUES FROM (100) TO (1000) PARTITION BY LIST (c); CREATE TABLE r3 PARTITION OF r2 FOR VALUES IN ('c1', NULL);
                 CREATE TABLE r4 PARTITION OF r2 DEFAULT; CREATE TABLE r5 PARTITION OF r DEFAULT;"
            ),
            3 => format!("CREATE TABLE r ({columns}); CREATE TABLE r1 (more int) INHERITS (r); CREATE TABLE r2 () INHERITS (r1);"),
            _ => format!("CREATE UNLOGGED TABLE r ({columns}) WITH (fillfactor = 60);"),
        };
        let drop = if dropped { "ALTER TABLE r DROP gone;" } else { "" };
        let into = if kind == 3 { "r2" } else { "r" };
        format!(
            "{made} {drop} ALTER TABLE r ALTER pad SET STORAGE PLAIN; INSERT INTO {into} (a, b, c) SELECT CASE WHEN i % 11 > 0 THEN i % (1 + {rows}) END, CASE i % 13 WHEN 0 THEN 'NaN' WHEN 1 THEN NULL ELSE i / 3.0 END,
               CASE WHEN i % {modulus} > 0 THEN 'c' || i % 5 END FROM generate_series(1, {rows}) i;
             INSERT INTO r (a, b, c) SELECT i, 1, 'of r' FROM generate_series(1, 40) i;"
        )
    })
}

/// A query that is split where the table is large, and one that never is.
fn any_query() -> impl proptest::strategy::Strategy<Value = (String, bool)> {
    let column = || prop::sample::select(vec!["a", "b", "c", "b + 1", "c || 'x'", "coalesce(a, 0)"]);
    let condition = prop::sample::select(vec![
        "true",
        "a > 100",
        "c IS NULL OR b = 'NaN'",
        "c LIKE 'c%' AND a % 3 <> 1",
        "a BETWEEN 90 AND 110",
        "NOT (b < 50)",
    ]);
    let form = prop::sample::select(vec![
        ("SELECT {x} AS x, {y} AS y FROM r WHERE {w}", true),
        ("SELECT * FROM (SELECT {x}, {y} FROM r AS q WHERE {w}) z(x, y) WHERE x IS NOT NULL", true),
        ("WITH w AS (SELECT a, b, c FROM r WHERE {w}) SELECT {x}, {y} FROM w", true),
        ("SELECT {x}, generate_series(1, 2) FROM ONLY r WHERE {w}", true),
        ("SELECT {x}, count(*) FROM r WHERE {w} GROUP BY 1", false),
        ("SELECT {x} FROM r WHERE {w} ORDER BY 1", false),
        ("SELECT DISTINCT {x}, {y} FROM r WHERE {w}", false),
        ("SELECT {x} FROM r WHERE {w} UNION ALL SELECT {x} FROM r WHERE NOT ({w})", false),
        (
            "SELECT q.{c}, z.a FROM r q LEFT JOIN (SELECT a FROM r WHERE {w}) z ON z.a = q.a AND q.a < 40",
            false,
        ),
        (
            "SELECT {x}, (SELECT count(*) FROM r z WHERE z.a < r.a AND r.a < 3) FROM r WHERE {w} AND a < 30",
            false,
        ),
        ("SELECT {x}, rank() OVER (ORDER BY a, b, c) FROM r WHERE {w}", false),
    ]);
    (form, column(), column(), condition).prop_map(|((form, splits), x, y, condition)| {
        let sql = form.replace("{x}", x).replace("{y}", y).replace("{w}", condition);
        (sql.replace("{c}", "c"), splits)
    })
}

#[tokio::test]
async fn chunks_of_any_query_over_any_table_are_the_whole() {
    let world = World::new("auto_any").await;
    let mut runner = TestRunner::default();
    let (mut split, mut whole) = (0, 0);
    for rows in [0, 30, ROWS, ROWS + 100, ROWS + 500, ROWS + 1000, ROWS, ROWS + 2000] {
        let statements = any_table(rows).new_tree(&mut runner).unwrap().current();
        world.admin.batch_execute("DROP TABLE IF EXISTS r CASCADE").await.unwrap();
        world.admin.batch_execute(&statements).await.unwrap();
        padded(&world, "").await;
        for _ in 0..8 {
            let (sql, splits) = any_query().new_tree(&mut runner).unwrap().current();
            let mut order = world.order(&sql, FormatType::Csv);
            order.parallelism = 1 + u32::try_from(sql.len() % 7).unwrap();
            order.datasets[0].chunking = DatasetChunking::default();
            let plan = assert_whole(&world, &order).await;
            let dataset = &plan.datasets[0];
            if dataset.strategy == Strategy::Table {
                assert!(splits, "{sql} of {statements} was split: {:?}", dataset.reason);
                split += 1;
            } else {
                whole += 1;
            }
        }
    }
    assert!(split > 3 && whole > 10, "{split} were split, and {whole} were not");
    world.done().await;
}
