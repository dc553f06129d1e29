//! Chunks by given values.

use pgexport_api::job::{DatasetChunking, FormatType, Strategy};
use pgexport_api::order::DatasetOrder;
use pgexport_api::reason::Reason;
use pgexport_engine::plan::{Rows, chunk_query_with_placeholders, make};
use serde_json::{Value, json};

use super::world::{World, by_column, parameter, told};

fn by_values(parameter: &str, parameter_type: &str, items: &Value) -> DatasetChunking {
    let values = json!({"parameter": parameter, "type": parameter_type, "items": items});
    DatasetChunking {
        strategy: Strategy::Values,
        values: Some(serde_json::from_value(values).unwrap()),
        ..DatasetChunking::default()
    }
}

#[tokio::test]
async fn each_value_is_a_chunk_in_the_items_order() {
    let world = World::with(
        "values",
        "CREATE TABLE t AS SELECT i, i % 4 AS r, chr(97 + i % 4) || '''' AS s FROM generate_series(1, 100) i",
    )
    .await;
    let holder = world.holder().await;
    for (parameter_type, column, items) in
        [("int", "r", json!([2, "0", 7, 1])), ("text", "s", json!(["c'", "a'", "\\'; --", "b'"]))]
    {
        let mut order =
            world.order(&format!("SELECT i, ':v' AS q FROM t WHERE {column} = :v -- :v"), FormatType::Csv);
        order.datasets[0].chunking = by_values("v", parameter_type, &items);
        let plan = make(&holder, &order).await.unwrap();
        assert_eq!(plan.chunks.len(), 4);
        assert_eq!(plan.chunks[2].rows, Rows::OfValue { item: 2 });
        let told = serde_json::to_string(&plan).unwrap();
        assert!(!told.contains("c'"), "a plan holds no values: {told}");
        let shown = chunk_query_with_placeholders(&order, &plan, &plan.chunks[1]).unwrap();
        assert!(shown.contains("= :v") && !shown.contains("CAST"), "{shown}");
        let lines: Vec<usize> = world
            .read(&holder, &order, &plan)
            .await
            .iter()
            .map(|chunk| {
                String::from_utf8(chunk.clone()).unwrap().lines().filter(|line| line.ends_with(",:v")).count()
            })
            .collect();
        assert_eq!(lines, [25, 25, 0, 25], "{parameter_type}");
    }
    holder.finish().await;
    world.done().await;
}

#[tokio::test]
async fn what_cannot_be_split_by_values_is_refused_without_telling_them() {
    let world = World::with("novalues", "CREATE TABLE t AS SELECT 1 AS a").await;
    let many: Vec<i32> = (0..10_001).collect();
    let mut late: Vec<Value> = (0..500).map(|number| json!(number)).collect();
    late.push(json!("hunter2"));
    for (sql, parameter_type, items, reason, word) in [
        ("SELECT a FROM t", "int", json!([1]), Reason::ChunkingRefused, "needs the placeholder :v"),
        ("SELECT ':v' FROM t -- :v", "int", json!([1]), Reason::ChunkingRefused, "needs the placeholder :v"),
        ("SELECT :v", "int", json!(many), Reason::ChunkingRefused, "10001 items; 10000"),
        ("SELECT :v", "int", json!([]), Reason::ChunkingRefused, "at least one"),
        ("SELECT :v", "int", json!([1, 2, "01"]), Reason::ChunkingRefused, "items[0] and items[2]"),
        ("SELECT :v", "int", json!(["hunter2"]), Reason::InvalidParameter, "parameter v"),
        ("SELECT :v", "int", json!(late), Reason::InvalidParameter, "items[500] is not a value of type int"),
        ("SELECT :v", "no_such", json!([1]), Reason::InvalidParameter, "\"no_such\" does not exist"),
        ("SELECT :v", "int) --", json!([1]), Reason::InvalidParameter, "not a PostgreSQL type"),
        ("SELECT :v", "int", json!([{"a": 1}]), Reason::InvalidParameter, "chunking.values"),
        ("SELECT ARRAY[:v]", "int", json!([1]), Reason::InvalidQuery, "(:v)"),
    ] {
        let mut order = world.order(sql, FormatType::Csv);
        order.datasets[0].chunking = by_values("v", parameter_type, &items);
        let error = world.plan(&order).await.unwrap_err();
        let failure = told(&error);
        assert_eq!(failure.reason, reason, "{sql} {parameter_type}: {failure:?}");
        let told = format!("{} {}", failure.message, failure.hint.unwrap_or_default());
        assert!(told.contains(word), "{sql} {parameter_type}: {word:?} is not in {told:?}");
        assert!(!format!("{error:?} {told}").contains("hunter"), "{error:?}");
    }
    world.done().await;
}

#[tokio::test]
async fn items_are_what_a_query_in_the_same_snapshot_gives() {
    let world = World::with(
        "itemsfrom",
        "CREATE TABLE t AS SELECT i, date '2026-01-01' + i % 3 AS day, chr(97 + i % 4) || '''' AS s FROM generate_series(1, 100) i",
    )
    .await;
    let by = |parameter_type: &str, query: &str| DatasetChunking {
        strategy: Strategy::Values,
        values: Some(
            serde_json::from_value(json!({"parameter": "v", "type": parameter_type, "itemsFrom": query}))
                .unwrap(),
        ),
        ..DatasetChunking::default()
    };
    let holder = world.holder().await;
    world.admin.batch_execute("INSERT INTO t VALUES (101, '2030-01-01', 'new')").await.unwrap();
    for (parameter_type, column, query, rows) in [
        ("date", "day", "SELECT DISTINCT day FROM t WHERE day >= :least ORDER BY day;", vec![34, 33]),
        ("text", "s", "SELECT s FROM t GROUP BY 1 ORDER BY 1 DESC -- end", vec![25; 4]),
        ("int", "i", "SELECT 7 WHERE false", vec![0]),
    ] {
        let mut order = world.order(&format!("SELECT i FROM t WHERE {column} = :v"), FormatType::Csv);
        order.parameters.push(parameter("least", "date", Some("2026-01-02")));
        order.datasets[0].chunking = by(parameter_type, query);
        let plan = make(&holder, &order).await.unwrap();
        assert!(
            !format!("{plan:?}").contains("2026-01-03") && !format!("{plan:?}").contains("a'"),
            "{plan:?}"
        );
        let plan = serde_json::from_value(serde_json::to_value(&plan).unwrap()).unwrap();
        let read = world.read(&holder, &order, &plan).await;
        let lines: Vec<usize> =
            read.iter().map(|chunk| str::from_utf8(chunk).unwrap().lines().count()).collect();
        assert_eq!(lines, rows, "{query}");
    }
    holder.finish().await;
    for (query, reason, word) in [
        ("SELECT 1, 2", Reason::ChunkingRefused, "2 columns"),
        ("SELECT NULL::int", Reason::ChunkingRefused, "IS NOT NULL"),
        ("SELECT i % 5 FROM t", Reason::ChunkingRefused, "the same value"),
        ("SELECT generate_series(1, 10001)", Reason::ChunkingRefused, "more than 10000"),
        ("SELECT 'hunter2'", Reason::InvalidParameter, "parameter v"),
        ("SELECT nowhere FROM t", Reason::InvalidQuery, "itemsFrom"),
        ("DELETE FROM t RETURNING i", Reason::QueryWrites, "itemsFrom"),
        ("SELECT 1; SELECT 2", Reason::InvalidQuery, "itemsFrom"),
        ("", Reason::InvalidQuery, "itemsFrom"),
        ("SELECT 1 / (i - 50) FROM t", Reason::DataError, "itemsFrom"),
    ] {
        let mut order = world.order("SELECT i FROM t WHERE i = :v", FormatType::Csv);
        order.datasets[0].chunking = by("int", query);
        let failure = told(&world.plan(&order).await.unwrap_err());
        assert_eq!(failure.reason, reason, "{query}: {failure:?}");
        assert!(
            failure.message.contains(word) && !failure.message.contains("hunter2"),
            "{query}: {failure:?}"
        );
    }
    world.done().await;
}

#[tokio::test]
async fn data_sets_have_chunkings_of_their_own() {
    let world = World::with(
        "several",
        "CREATE TABLE t AS SELECT i, i % 2 = 0 AS even FROM generate_series(1, 100) i",
    )
    .await;
    let mut order = world.order("SELECT i FROM t WHERE even = :even", FormatType::Csv);
    order.datasets[0].chunking = by_values("even", "bool", &json!([true, false]));
    let dataset = |name: &str, sql: &str, chunking| DatasetOrder {
        name: name.to_owned(),
        sql: sql.to_owned(),
        chunking,
        expect: None,
    };
    order.datasets.push(dataset("ranges", "SELECT i FROM t", by_column("i", 3)));
    order.datasets.push(dataset("whole", "SELECT i FROM t WHERE i < 11", DatasetChunking::default()));
    let holder = world.holder().await;
    let plan = make(&holder, &order).await.unwrap();
    let parts: Vec<(u32, u32)> = plan.chunks.iter().map(|chunk| (chunk.dataset, chunk.part)).collect();
    assert_eq!(parts, [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0)]);
    let chunks = world.read(&holder, &order, &plan).await;
    let rows = |range: std::ops::Range<usize>| {
        chunks[range].iter().map(|chunk| chunk.split(|byte| *byte == b'\n').count() - 1).sum::<usize>()
    };
    assert_eq!((rows(0..1), rows(1..2), rows(2..5), rows(5..6)), (50, 50, 100, 10));
    // The placeholder of one data set is none in the others.
    order.datasets[2].sql = "SELECT :even".to_owned();
    holder.finish().await;
    assert_eq!(world.plan(&order).await.unwrap_err().reason(), Reason::InvalidParameter);
    world.done().await;
}

/// Planning for one value does not read the partition of another one.
#[tokio::test]
async fn a_partition_of_any_value_that_was_rewritten_is_noticed() {
    let world = World::with(
        "pruned",
        "CREATE TABLE t (a int, b int) PARTITION BY LIST (a); CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);
         CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2); INSERT INTO t VALUES (1, 1), (2, 2)",
    )
    .await;
    let mut order = world.order("SELECT * FROM t WHERE a = :a", FormatType::Csv);
    order.datasets[0].chunking = by_values("a", "int", &json!([1, 2]));
    let holder = world.holder().await;
    world.admin.batch_execute("TRUNCATE t2").await.unwrap();
    let error = make(&holder, &order).await.unwrap_err();
    assert_eq!(error.reason(), Reason::RelationRewritten, "{error}");
    assert!(error.to_string().contains("t2"), "{error}");
    holder.finish().await;
    let holder = world.holder().await;
    make(&holder, &order).await.unwrap();
    world.admin.batch_execute("SET lock_timeout = '200ms'").await.unwrap();
    assert!(
        world.admin.batch_execute("TRUNCATE t2").await.is_err(),
        "the holder locks every value's partition"
    );
    holder.finish().await;
    world.done().await;
}
