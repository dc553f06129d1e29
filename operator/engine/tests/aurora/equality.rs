//! The same job by either method delivers the same bytes.

#[allow(dead_code, reason = "what the decoder knows does not matter here")]
#[path = "../source/encoding/kind.rs"]
mod kind;
#[allow(dead_code, reason = "shared with the tests of the encoders")]
#[path = "../source/encoding/random.rs"]
mod random;
#[path = "../source/encoding/table.rs"]
mod table;

use std::collections::BTreeMap;

use pgexport_api::job::{Csv, Format, FormatType};
use serde_json::{Value, json};

use self::kind::{KINDS, Kind, SETUP, TOLD};
use self::random::Random;
use self::table::table;
use super::room::{Room, format, merge, settings};

type Files = BTreeMap<String, Vec<u8>>;

/// Delivers by a method.
async fn by(room: &Room, method: &str, format: &Format, queries: &[(&str, &str)], with: &Value) -> Files {
    let order = room.order(method, format, queries, with);
    room.deliver(&order).await.unwrap_or_else(|error| panic!("{format:?} by {method}: {error:?}"))
}

#[track_caller]
fn assert_same(what: &str, format: &Format, copied: &Files, exported: &Files) {
    assert_eq!(copied.keys().collect::<Vec<_>>(), exported.keys().collect::<Vec<_>>(), "{what}");
    for (name, wanted) in copied {
        let found = &exported[name];
        if found != wanted {
            let same = found.iter().zip(wanted).take_while(|(found, wanted)| found == wanted).count();
            let around = |bytes: &[u8]| {
                let shown = same.saturating_sub(80)..bytes.len().min(same + 80);
                String::from_utf8_lossy(&bytes[shown]).into_owned()
            };
            panic!(
                "{what}: {name} differs at byte {same} ({:?})\nCopy:     {:?}\nAuroraS3: {:?}",
                format.csv,
                around(wanted),
                around(found)
            );
        }
    }
    assert!(copied.values().map(Vec::len).sum::<usize>() > 100_000, "{what}");
}

fn csv(csv: Csv) -> Format {
    Format { format_type: FormatType::Csv, csv: Some(csv), parquet: None }
}

fn odd_csv() -> [Format; 3] {
    let some = |text: &str| Some(text.to_owned());
    [
        csv(Csv {
            delimiter: some(";"),
            quote: some("'"),
            escape: some("\\"),
            null: some("NULL"),
            force_quote: vec!["*".to_owned()],
            ..Csv::default()
        }),
        csv(Csv {
            delimiter: some("\t"),
            quote: some("$"),
            escape: some("x"),
            null: some("\\N"),
            ..Csv::default()
        }),
        csv(Csv { header: false, delimiter: some("1"), force_quote: vec!["v".to_owned()], ..Csv::default() }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_is_the_same_to_the_byte_by_either_method() {
    let mut random = Random::new();
    eprintln!("PGEXPORT_TEST_SEED={}", random.seed);
    let room = Room::new("aurora_types").await;
    room.sql(SETUP).await;
    let mut queries = Vec::new();
    for (number, kind) in KINDS.iter().chain([&TOLD]).enumerate() {
        let (sql, columns) = table(number, kind, &mut random);
        room.sql(&sql).await;
        let columns = columns.join(", ");
        queries.push((format!("t{number}"), format!("SELECT {columns} FROM t{number} ORDER BY i")));
    }
    let queries: Vec<(&str, &str)> =
        queries.iter().map(|(name, sql)| (name.as_str(), sql.as_str())).collect();
    // Nothing that a login or its source sets may show.
    let with = settings(&json!({"work_mem": "8MB", "search_path": "public, pg_catalog"}));
    let database = &room.database.name;
    room.sql(&format!(
        "ALTER DATABASE {database} SET DateStyle = 'German'; ALTER DATABASE {database} SET TimeZone = 'Asia/Tokyo';
         ALTER DATABASE {database} SET bytea_output = 'escape'; ALTER DATABASE {database} SET extra_float_digits = 0"
    ))
    .await;
    let plain = csv(Csv::default());
    let formats = [plain, format(FormatType::Ndjson), format(FormatType::Json)];
    for format in formats.iter().chain(&odd_csv()) {
        let copied = by(&room, "Copy", format, &queries, &with).await;
        let exported = by(&room, "AuroraS3", format, &queries, &with).await;
        assert_same("all types", format, &copied, &exported);
    }
    let queries: Vec<_> = (0..).zip(KINDS).filter_map(|(number, kind)| for_parquet(number, kind)).collect();
    let queries: Vec<(&str, &str)> =
        queries.iter().map(|(name, sql)| (name.as_str(), sql.as_str())).collect();
    let parquet = format(FormatType::Parquet);
    let copied = by(&room, "Copy", &parquet, &queries, &with).await;
    let exported = by(&room, "AuroraS3", &parquet, &queries, &with).await;
    assert_same("all types", &parquet, &copied, &exported);
    room.done().await;
}

/// The query of a type's table without what Parquet does not have: matrices, infinite times, and a type that is an array.
fn for_parquet(number: usize, kind: &Kind) -> Option<(String, String)> {
    let unfit = match kind.name {
        "numbers" => return None,
        "date" => "NOT isfinite(x)",
        "time" => "x = '24:00'",
        "timestamp" | "timestamptz" => "NOT isfinite(x) OR x >= '294247-01-01'",
        _ => "",
    };
    let columns = if unfit.is_empty() {
        "v, a, d, ds".to_owned()
    } else {
        let fit = format!("CASE WHEN {unfit} THEN NULL ELSE x END");
        let one = |column: &str| format!("(SELECT {fit} FROM (SELECT {column} AS x) s) AS {column}");
        let all = |column: &str| format!("(SELECT array_agg({fit}) FROM unnest({column}) s(x)) AS {column}");
        [one("v"), all("a"), one("d"), all("ds")].join(", ")
    };
    let sql = format!("SELECT i, {columns}, m::text, r, rs, o FROM t{number} ORDER BY i");
    Some((format!("t{number}"), sql))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_in_many_chunks_and_objects_are_the_same_by_either_method() {
    let room = Room::new("aurora_findings").await;
    let chunked = json!({
        "workers": 2,
        "datasets": [{"name": "findings", "sql": "SELECT f.* FROM findings f WHERE :chunk ORDER BY f.seq",
            "chunking": {"strategy": "Table", "table": {"name": "findings", "alias": "f", "chunks": 6}}}],
    });
    // Without what Parquet does not have: infinite dates, and arrays of several dimensions.
    let columns = "f.seq, f.title, f.id, f.severity, f.description, f.score, f.cost, f.tags::text, f.ports::text, f.attributes, f.raw, f.first_seen";
    let knobs = [
        ("rows stay whole", json!({"aws_s3.file_bytes": "200000"})),
        ("rows are cut", json!({"aws_s3.file_bytes": "100000", "aws_s3.split_rows": "on"})),
        ("no empty objects", json!({"aws_s3.empty_file": "off"})),
        ("counts wrap", json!({"aws_s3.extra_rows": "4294967296"})),
        ("counts do not wrap", json!({"aws_s3.extra_rows": "4294967296", "aws_s3.wrap_rows": "off"})),
    ];
    for layout in ["PerChunk", "Single"] {
        for format_type in [FormatType::Csv, FormatType::Ndjson, FormatType::Json, FormatType::Parquet] {
            let format = format(format_type);
            let mut with = chunked.clone();
            merge(&mut with, &json!({"files": {"layout": layout}}));
            if format_type == FormatType::Parquet {
                let sql = format!("SELECT {columns} FROM findings f WHERE :chunk ORDER BY f.seq");
                with["datasets"][0]["sql"] = json!(sql);
            }
            let copied = by(&room, "Copy", &format, &[], &with).await;
            // What there is to see of the other knobs does not depend on the format.
            for (what, knobs) in knobs.iter().take(if format_type == FormatType::Csv { 5 } else { 2 }) {
                let mut with = with.clone();
                merge(&mut with, &settings(knobs));
                let exported = by(&room, "AuroraS3", &format, &[], &with).await;
                assert_same(what, &format, &copied, &exported);
            }
        }
    }
    room.assert_quiet().await;
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_files_hold_what_plain_ones_hold() {
    let room = Room::new("aurora_gzip").await;
    let queries = [("findings", "SELECT f.* FROM findings f ORDER BY f.seq")];
    for format_type in [FormatType::Csv, FormatType::Json] {
        let plain = room.order("Copy", &format(format_type), &queries, &json!({}));
        let gzip = room.order("AuroraS3", &format(format_type), &queries, &json!({"compression": "Gzip"}));
        let plain = room.deliver(&plain).await.unwrap().into_values().next().unwrap();
        let (name, packed) = room.deliver(&gzip).await.unwrap().into_iter().next().unwrap();
        assert_eq!(name.rsplit('.').next(), Some("gz"));
        assert!(packed.len() * 2 < plain.len());
        let mut unpacked = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&packed[..]), &mut unpacked)
            .unwrap();
        assert!(unpacked == plain);
    }
    room.done().await;
}
