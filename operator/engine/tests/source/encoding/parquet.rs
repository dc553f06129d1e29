//! Parquet files, read back, against what the server says of the same values.

use std::fmt::Write as _;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field, TimeUnit};
use bytes::Bytes;
use futures::StreamExt as _;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use pgexport_api::job::{Compression, Format, FormatType, Parquet, ParquetCompression};
use pgexport_api::reason::Reason;
use pgexport_api::size::ByteSize;
use pgexport_engine::Result;
use pgexport_engine::output::{Packer, Role};

use super::Bench;
use super::kind::{KINDS, Kind, SETUP};
use super::random::Random;
use super::table::ROWS;
use crate::world::World;

const PARQUET: Format = Format { format_type: FormatType::Parquet, csv: None, parquet: None };

/// A file, as it is delivered, and what is in it.
struct File {
    metadata: ParquetMetaData,
    batches: Vec<RecordBatch>,
}

/// A query's result as a file.
async fn file(bench: &mut Bench, sql: &str, format: &Format) -> Result<File> {
    let dataset = bench.world.dataset(&bench.holder, sql, format).await?;
    let mut packer = Packer::new(format, Compression::None, &dataset, Role::Delivered)?;
    let mut pieces = packer.head().await?;
    let mut stream = bench.importer.copy(sql, format, &dataset).await?;
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        rows += batch.rows;
        pieces.extend(packer.batch(batch).await?);
    }
    pieces.extend(packer.finish().await?);
    let file = Bytes::from(pieces.concat());
    if let Ok(folder) = std::env::var("PGEXPORT_TEST_KEEP") {
        std::fs::write(format!("{folder}/{}.parquet", pieces.len()), &file).unwrap();
    }
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let metadata = reader.metadata().as_ref().clone();
    let batches: Vec<_> = reader.build().unwrap().map(std::result::Result::unwrap).collect();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>() as u64, rows);
    assert_eq!(u64::try_from(metadata.file_metadata().num_rows()).unwrap(), rows);
    Ok(File { metadata, batches })
}

impl File {
    /// The texts of a column's values.
    fn column(&self, index: usize) -> Vec<Option<String>> {
        self.batches.iter().flat_map(|batch| texts(batch.column(index).as_ref())).collect()
    }

    fn field(&self, index: usize) -> Field {
        let schema = self.metadata.file_metadata().schema_descr();
        parquet::arrow::parquet_to_arrow_schema(schema, None).unwrap().field(index).clone()
    }
}

/// Values as texts that the server can make of its own.
fn texts(array: &dyn Array) -> Vec<Option<String>> {
    let text = |row: usize| match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => hex::encode(array.as_primitive::<Float32Type>().value(row).to_be_bytes()),
        DataType::Float64 => hex::encode(array.as_primitive::<Float64Type>().value(row).to_be_bytes()),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => hex::encode(array.as_binary::<i32>().value(row)),
        DataType::FixedSizeBinary(16) => hex::encode(array.as_fixed_size_binary().value(row)),
        DataType::Date32 => array.as_primitive::<Date32Type>().value(row).to_string(),
        DataType::Time64(_) => array.as_primitive::<Time64MicrosecondType>().value(row).to_string(),
        DataType::Timestamp(..) => array.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
        DataType::List(_) => list(&texts(array.as_list::<i32>().value(row).as_ref())),
        other => panic!("{other} is none of ours"),
    };
    (0..array.len()).map(|row| array.is_valid(row).then(|| text(row))).collect()
}

/// Texts in one, each with its length.
fn list(texts: &[Option<String>]) -> String {
    let parts = texts.iter().map(|text| match text {
        Some(text) => format!("{}:{text};", text.len()),
        None => "-;".to_owned(),
    });
    parts.collect()
}

/// What a type is in Parquet, read by its logical types alone; how the server makes the text of a value `x`; and for which
/// values there is none in Parquet.
fn expected(name: &str) -> (DataType, &'static str, &'static str) {
    let micros = "(extract(epoch FROM x) * 1000000)::bigint::text";
    let fits = "false";
    let unfit = "NOT isfinite(x) OR x >= '294247-01-01'";
    match name {
        "bool" => (DataType::Boolean, "x::text", fits),
        "int2" => (DataType::Int16, "x::text", fits),
        "int4" => (DataType::Int32, "x::text", fits),
        "int8" | "oid" | "xid" | "cid" => (DataType::Int64, "x::text", fits),
        "float4" => (DataType::Float32, "encode(float4send(x), 'hex')", fits),
        "float8" => (DataType::Float64, "encode(float8send(x), 'hex')", fits),
        "numeric(12,4)" => (DataType::Decimal128(12, 4), "x::text", fits),
        "bytea" => (DataType::Binary, "encode(x, 'hex')", fits),
        "uuid" => (DataType::FixedSizeBinary(16), "replace(x::text, '-', '')", fits),
        "date" => (DataType::Date32, "(x - date '1970-01-01')::text", "NOT isfinite(x)"),
        "time" => (DataType::Time64(TimeUnit::Microsecond), micros, "x = '24:00'"),
        "timestamp" => (DataType::Timestamp(TimeUnit::Microsecond, None), micros, unfit),
        "timestamptz" => (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), micros, unfit),
        // `concat` calls the type's output function, and casts of some types do not.
        _ => (DataType::Utf8, "concat(x)", fits),
    }
}

/// All types but an array, whose arrays are another test's.
fn kinds() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.name != "numbers")
}

/// What the server says of a column of a table's values, or of arrays of them.
async fn server(bench: &Bench, sql: &str) -> Vec<Option<String>> {
    bench.server.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// The table of a type: values, arrays and values of a domain, whatever of them Parquet has.
fn table(number: usize, kind: &Kind, random: &mut Random) -> String {
    let name = kind.name;
    let (_, _, unfit) = expected(name);
    let mut sql = format!(
        "CREATE DOMAIN pd{number} AS {name}; CREATE TABLE p{number} (i int, v {name}, a {name}[], d pd{number}, ds pd{number}[]);\n"
    );
    for row in 0..ROWS {
        let null_in = if row == 0 { 1 } else { 6 };
        let mut value = || {
            if random.one_in(null_in) {
                return "NULL".to_owned();
            }
            let value = kind.value(random);
            format!("(SELECT CASE WHEN {unfit} THEN NULL ELSE x END FROM (SELECT {value} AS x) s)")
        };
        let (v, a, b, c) = (value(), value(), value(), value());
        let array = match row % 4 {
            0 => "NULL".to_owned(),
            1 => format!("ARRAY[]::{name}[]"),
            2 => format!("ARRAY[{a}, {b}, {c}]::{name}[]"),
            // Lists have no bounds: these are lost.
            _ => format!("('[-1:1]=' || ARRAY[{a}, {b}, {c}]::{name}[]::text)::{name}[]"),
        };
        let domains = format!("ARRAY[{b}, {c}]::{name}[]::pd{number}[]");
        writeln!(sql, "INSERT INTO p{number} VALUES ({row}, {v}, {array}, {a}, {domains});").unwrap();
    }
    sql
}

#[tokio::test]
async fn parquet_holds_what_the_server_says_of_every_type() {
    let mut random = Random::new();
    eprintln!("PGEXPORT_TEST_SEED={}", random.seed);
    let world = World::with("parquet", SETUP).await;
    for (number, kind) in kinds().enumerate() {
        if let Err(error) = world.admin.batch_execute(&table(number, kind, &mut random)).await {
            panic!("{}: {error:?}", kind.name);
        }
    }
    let mut bench = Bench::new(world).await;
    let snappy = Parquet { compression: ParquetCompression::Snappy, ..Parquet::default() };
    for (number, kind) in kinds().enumerate() {
        let format = if number % 2 == 0 { PARQUET } else { Format { parquet: Some(snappy), ..PARQUET } };
        let sql = format!("SELECT v, a, d, ds FROM p{number} ORDER BY i");
        let file = file(&mut bench, &sql, &format).await.unwrap();
        let (data_type, text, _) = expected(kind.name);
        assert_eq!(file.field(0).data_type(), &data_type, "{}", kind.name);
        assert_eq!(file.field(2).data_type(), &data_type, "{}", kind.name);
        for (index, column) in ["v", "d"].into_iter().enumerate() {
            let wanted = server(&bench, &format!("SELECT CASE WHEN num_nulls(x) = 0 THEN {text} END FROM (SELECT i, {column}::{} AS x FROM p{number}) s ORDER BY i", kind.name)).await;
            assert_eq!(file.column(2 * index), wanted, "{} {column}", kind.name);
        }
        for (index, column) in [(1, "a"), (3, "ds")] {
            // What the decoder does not know comes as the server's text, the whole array too.
            let sql = if kind.decoded {
                assert!(
                    matches!(file.field(index).data_type(), DataType::List(field) if field.data_type() == &data_type),
                    "{}",
                    kind.name
                );
                format!(
                    "SELECT CASE WHEN {column} IS NOT NULL THEN coalesce((SELECT string_agg(CASE WHEN num_nulls(x) = 0 THEN octet_length({text}) || ':' || ({text}) || ';' ELSE '-;' END, '' ORDER BY n)
                       FROM (SELECT n, ({column}::{0}[])[n] AS x FROM generate_subscripts({column}::{0}[], 1) n) u), '') END FROM p{number} ORDER BY i",
                    kind.name
                )
            } else {
                format!(
                    "SELECT CASE WHEN {column} IS NOT NULL THEN concat({column}) END FROM p{number} ORDER BY i"
                )
            };
            assert_eq!(file.column(index), server(&bench, &sql).await, "{} {column}", kind.name);
        }
    }
    // All of them in one row, with names of their own.
    let values: Vec<_> = (0..kinds().count()).map(|number| format!("p{number}.v AS v{number}")).collect();
    let joins: Vec<_> =
        (1..kinds().count()).map(|number| format!("JOIN p{number} ON p{number}.i = p0.i")).collect();
    let sql = format!("SELECT {} FROM p0 {} ORDER BY p0.i", values.join(", "), joins.join(" "));
    let all = file(&mut bench, &sql, &PARQUET).await.unwrap();
    for number in 0..kinds().count() {
        let sql = format!("SELECT v FROM p{number} ORDER BY i");
        assert_eq!(all.column(number), file(&mut bench, &sql, &PARQUET).await.unwrap().column(0));
    }
    bench.done().await;
}

#[tokio::test]
async fn logical_types_tell_what_bytes_are() {
    let mut bench = Bench::new(World::with("logical", SETUP).await).await;
    let sql = "SELECT gen_random_uuid() AS u, '{}'::json AS j, '[1]'::jsonb AS jb, ARRAY['{}'::jsonb] AS js, 1::numeric AS n,
                      1::numeric(39,1) AS long, 'x'::short AS s, '{\"{1,2}\",NULL}'::numbers[] AS ns";
    let file = file(&mut bench, sql, &PARQUET).await.unwrap();
    let mut shown = Vec::new();
    parquet::schema::printer::print_schema(&mut shown, file.metadata.file_metadata().schema());
    let shown = String::from_utf8(shown).unwrap();
    let wanted = "message arrow_schema {
  OPTIONAL FIXED_LEN_BYTE_ARRAY (16) u (UUID);
  OPTIONAL BYTE_ARRAY j (JSON);
  OPTIONAL BYTE_ARRAY jb (JSON);
  OPTIONAL group js (LIST) {
    REPEATED group list {
      OPTIONAL BYTE_ARRAY element (JSON);
    }
  }
  OPTIONAL BYTE_ARRAY n (STRING);
  OPTIONAL BYTE_ARRAY long (STRING);
  OPTIONAL BYTE_ARRAY s (STRING);
  OPTIONAL group ns (LIST) {
    REPEATED group list {
      OPTIONAL group element (LIST) {
        REPEATED group list {
          OPTIONAL INT32 element;
        }
      }
    }
  }
}
";
    assert_eq!(shown, wanted);
    assert_eq!(file.column(7), [Some("8:1:1;1:2;;-;".to_owned())]);
    bench.done().await;
}

#[tokio::test]
async fn values_that_parquet_does_not_have_are_refused_by_column_and_with_the_fix() {
    let world = World::new("unfit").await;
    for (value, fix) in [
        ("'infinity'::date", "text"),
        ("'-infinity'::timestamp", "text"),
        ("'infinity'::timestamptz", "text"),
        ("'294276-12-31'::timestamptz", "text"),
        ("'24:00'::time", "text"),
        ("'NaN'::numeric(5,1)", "float8"),
        ("ARRAY['NaN'::numeric(5,1)]", "float8"),
        ("'{{1,2},{3,4}}'::int[]", "to_jsonb"),
    ] {
        let mut bench = Bench::new(World::new("unfit").await).await;
        let sql = format!("SELECT 1 AS id, {value} AS \"odd\"\"\"");
        let failure = file(&mut bench, &sql, &PARQUET).await.err().unwrap().to_failure();
        assert_eq!(failure.reason, Reason::DataError, "{value}");
        assert!(failure.message.contains(r#"column "odd\"""#), "{}", failure.message);
        assert!(failure.hint.unwrap().contains(fix), "{value}");
        bench.done().await;
    }
    let sql = "SELECT 1 AS a, 2 AS a";
    let failure = world.plan(&world.order(sql, FormatType::Parquet)).await.unwrap_err().to_failure();
    assert_eq!(failure.reason, Reason::InvalidQuery, "{failure:?}");
    world.done().await;
}

#[tokio::test]
async fn empty_results_have_a_schema_and_wide_ones_all_columns() {
    let mut bench = Bench::new(World::new("wide").await).await;
    let empty = file(&mut bench, "SELECT 1 AS a, 'x'::text AS b WHERE false", &PARQUET).await.unwrap();
    assert_eq!((empty.metadata.num_row_groups(), empty.field(0).name().as_str()), (0, "a"));
    assert_eq!(empty.field(1).data_type(), &DataType::Utf8);
    let columns: Vec<_> = (0..1600).map(|column| format!("i * {column} AS c{column}")).collect();
    let sql = format!("SELECT {} FROM generate_series(1, 700) i", columns.join(", "));
    let wide = file(&mut bench, &sql, &PARQUET).await.unwrap();
    for column in [0, 1, 799, 1599] {
        let wanted: Vec<_> = (1..=700).map(|row| Some((row * column).to_string())).collect();
        assert_eq!(wide.column(column), wanted);
    }
    bench.done().await;
}

#[tokio::test]
async fn row_groups_end_at_their_size_and_long_values_pass() {
    let mut bench = Bench::new(World::new("groups").await).await;
    let small = Parquet { row_group_bytes: ByteSize::mebibytes(1), ..Parquet::default() };
    let format = Format { parquet: Some(small), ..PARQUET };
    let sql = "SELECT i, encode(sha512(i::text::bytea), 'hex') AS noise, i % 7 AS few FROM generate_series(1, 100000) i";
    let file_of_groups = file(&mut bench, sql, &format).await.unwrap();
    let sizes: Vec<_> =
        file_of_groups.metadata.row_groups().iter().map(RowGroupMetaData::compressed_size).collect();
    assert!(sizes.len() > 3 && sizes.iter().all(|size| *size < 3 << 19), "{sizes:?}");
    let (first, _) = sizes.split_at(sizes.len() - 1);
    assert!(first.iter().all(|size| *size > 1 << 19), "{sizes:?}");
    let statistics = file_of_groups.metadata.row_group(0).column(0).statistics().unwrap();
    assert_eq!((statistics.null_count_opt(), statistics.min_bytes_opt()), (Some(0), Some(&[1, 0, 0, 0][..])));
    assert!(file_of_groups.metadata.row_group(0).column(2).dictionary_page_offset().is_some());
    let sql = "SELECT repeat('long, ', 4000000) AS t, i FROM generate_series(1, 2) i";
    let long = file(&mut bench, sql, &format).await.unwrap();
    assert!(long.column(0) == vec![Some("long, ".repeat(4_000_000)); 2]);
    assert_eq!(long.column(1), [Some("1".to_owned()), Some("2".to_owned())]);
    bench.done().await;
}
