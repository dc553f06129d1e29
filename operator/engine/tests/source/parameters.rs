//! Parameters on a real server.

use pgexport_api::job::FormatType;
use pgexport_api::reason::Reason;
use pgexport_engine::plan::{chunk_query, make};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::world::{World, drain, parameter, told};

#[tokio::test]
async fn nasty_values_arrive_as_they_are() {
    let world = World::new("values").await;
    let mut values: Vec<String> = [
        "",
        "'",
        "''",
        "\\",
        "\\'",
        "'; DROP TABLE t; --",
        "\\') AS text)); --",
        "$$",
        ":a",
        "/*",
        "--",
        "\n",
        "\r\n",
        "é😀\u{feff}",
        "NULL",
        "%",
        "\u{1}\u{7f}",
        "') TO PROGRAM 'id' --",
    ]
    .map(str::to_owned)
    .into();
    let mut runner = TestRunner::default();
    let any = "[^\u{0}]{0,20}|['\\\\$:a\n\r;)(-]{1,12}";
    values.extend((0..150).map(|_| any.new_tree(&mut runner).unwrap().current()));
    let holder = world.holder().await;
    let mut importer = world.importer(&holder).await;
    for value in values {
        let mut order = world.order("SELECT :a AS a, ':a' AS b, E'\\':a' AS c -- :a\n", FormatType::Ndjson);
        order.parameters.push(parameter("a", "text", Some(&value)));
        let plan = make(&holder, &order).await.unwrap();
        let query = chunk_query(&order, &plan, &plan.chunks[0]).unwrap();
        let line = drain(&mut importer, &query, &order.format, &plan.datasets[0]).await.unwrap();
        let row: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(row, serde_json::json!({"a": value, "b": ":a", "c": "':a"}));
    }
    importer.finish().await;
    holder.finish().await;
    world.done().await;
}

#[tokio::test]
async fn values_have_their_types() {
    let world = World::with("types", "CREATE SCHEMA app; CREATE TYPE app.\"Kind\" AS ENUM ('it''s'); GRANT USAGE ON SCHEMA app TO exporter;
                                     CREATE DOMAIN required AS int NOT NULL").await;
    for (parameter_type, value, sql, wanted) in [
        (
            "uuid",
            Some("0b0c0000-0000-0000-0000-000000000000"),
            "SELECT :p",
            "0b0c0000-0000-0000-0000-000000000000",
        ),
        ("numeric(10,2)", Some("1.005"), "SELECT :p", "1.01"),
        (
            "timestamp(0) with time zone",
            Some("2026-01-02T03:04:05.6+02:00"),
            "SELECT :p",
            "2026-01-02 01:04:06+00",
        ),
        ("int[]", Some("{\"1\",\"2\"}"), "SELECT 2 = ANY(:p)", "t"),
        ("text[]", Some("{\"a,b\",\"it's \\\"q\\\" \\\\\"}"), "SELECT (:p)[2]", "\"it's \"\"q\"\" \\\""),
        ("app.\"Kind\"", Some("it's"), "SELECT :p", "it's"),
        ("required", Some("3"), "SELECT :p", "3"),
        ("int", None, "SELECT :p IS NULL", "t"),
        ("int", Some("2"), "SELECT (ARRAY[1,2,3])[(:p):], (ARRAY[1,2])[(:p)]", "\"{2,3}\",2"),
        ("double precision", Some("Infinity"), "SELECT :p", "Infinity"),
        ("date", Some("2026-01-02"), "SELECT date:p, E:p", ""),
    ] {
        let mut order = world.order(sql, FormatType::Csv);
        order.parameters.push(parameter("p", parameter_type, value));
        let holder = world.holder().await;
        match make(&holder, &order).await {
            Ok(plan) => {
                let data = world.read(&holder, &order, &plan).await.concat();
                assert_eq!(String::from_utf8(data).unwrap(), format!("{wanted}\n"), "{parameter_type}");
            }
            Err(error) => {
                assert_eq!((wanted, error.reason()), ("", Reason::InvalidQuery), "{parameter_type}: {error}");
            }
        }
        holder.finish().await;
    }
    world.done().await;
}

#[tokio::test]
async fn a_bad_parameter_is_named_without_its_value() {
    let world = World::with("bad", "CREATE DOMAIN short AS text CHECK (length(VALUE) < 3)").await;
    for (parameter_type, value, word) in [
        ("int", "hunter2", "not one of type int"),
        ("int", "99999999999", "not one of type int"),
        ("uuid", "hunter2", "not one of type uuid"),
        ("timestamptz", "hunter2", "timestamptz"),
        ("short", "hunter2", "not one of type short"),
        ("int[]", "hunter2", "int[]"),
        ("no_such_type", "hunter2", "\"no_such_type\" does not exist"),
        ("numeric(0)", "hunter2", "numeric(0)"),
        ("int) --", "hunter2", "not a PostgreSQL type"),
    ] {
        let mut order = world.order("SELECT :p", FormatType::Csv);
        order.parameters.push(parameter("p", parameter_type, Some(value)));
        let error = world.plan(&order).await.unwrap_err();
        let failure = told(&error);
        assert_eq!(failure.reason, Reason::InvalidParameter, "{parameter_type}: {failure:?}");
        assert!(failure.message.contains("parameter p") && failure.message.contains(word), "{failure:?}");
        assert!(!format!("{error:?} {failure:?}").contains(value), "{error:?}");
    }
    world.done().await;
}

#[tokio::test]
async fn a_parameter_in_brackets_is_told_to_take_parentheses() {
    let world = World::new("brackets").await;
    let mut order = world.order("SELECT ARRAY[:p]", FormatType::Csv);
    order.parameters.push(parameter("p", "int", Some("1")));
    let failure = told(&world.plan(&order).await.unwrap_err());
    assert!(failure.hint.as_deref().unwrap_or_default().contains("(:p)"), "{failure:?}");
    world.done().await;
}

#[tokio::test]
async fn the_snapshots_time_is_the_same_everywhere() {
    let world = World::new("time").await;
    let order = world.order(
        "SELECT :snapshot_time AS t, :snapshot_time = transaction_timestamp() AS mine",
        FormatType::Ndjson,
    );
    let holder = world.holder().await;
    let plan = make(&holder, &order).await.unwrap();
    let (one, two) = (world.read(&holder, &order, &plan).await, world.read(&holder, &order, &plan).await);
    assert_eq!(one, two);
    let row: serde_json::Value = serde_json::from_slice(&one[0]).unwrap();
    assert_eq!(row["t"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap(), plan.time);
    assert_eq!(row["mine"], false, "an importer's own time is another one");
    holder.finish().await;
    world.done().await;
}
