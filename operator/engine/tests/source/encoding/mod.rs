//! Our bytes against the server's own: `COPY … (FORMAT csv)` and `row_to_json`.

mod kind;
mod parquet;
mod random;
mod table;

use futures::StreamExt as _;
use pgexport_api::job::{Csv, Format, FormatType};
use pgexport_engine::source::{Holder, Importer};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use self::kind::{KINDS, SETUP, TOLD, literal};
use self::random::Random;
use self::table::table;
use super::world::{World, drain};

/// Our way and the server's, over one snapshot.
struct Bench {
    world: World,
    holder: Holder,
    importer: Importer,
    server: Client,
}

impl Bench {
    async fn new(world: World) -> Self {
        let holder = world.holder().await;
        let importer = world.importer(&holder).await;
        let server = world.referee(&holder).await;
        Self { world, holder, importer, server }
    }

    /// The server's bytes.
    async fn wanted(&self, sql: &str, format: &Format) -> Vec<u8> {
        let copy = match &format.csv {
            Some(csv) => format!("COPY ({sql}) TO STDOUT ({})", options(csv)),
            // JSON has no such characters, so nothing is quoted or escaped.
            None => format!(
                "COPY (SELECT translate(row_to_json(q.*)::text, E'\\r\\n', '  ') FROM ({sql}) q) TO STDOUT (FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01')"
            ),
        };
        let mut stream = Box::pin(self.server.copy_out(&copy).await.unwrap());
        let mut data = Vec::new();
        while let Some(row) = stream.next().await {
            data.extend_from_slice(&row.unwrap());
        }
        data
    }

    /// Compares, and returns for each column whether it was decoded.
    async fn compare(&mut self, what: &str, sql: &str, format: &Format) -> Vec<bool> {
        let dataset = self.world.dataset(&self.holder, sql, format).await.unwrap();
        let ours = drain(&mut self.importer, sql, format, &dataset).await.unwrap();
        let wanted = self.wanted(sql, format).await;
        if ours != wanted {
            let same = ours.iter().zip(&wanted).take_while(|(ours, wanted)| ours == wanted).count();
            let around = |bytes: &[u8]| {
                let shown = same.saturating_sub(80)..bytes.len().min(same + 80);
                String::from_utf8_lossy(&bytes[shown]).into_owned()
            };
            panic!(
                "{what}: byte {same} differs ({:?})\nours:   {:?}\nserver: {:?}",
                format.csv,
                around(&ours),
                around(&wanted)
            );
        }
        assert!(!ours.is_empty(), "{what}");
        dataset.shapes.iter().map(Option::is_some).collect()
    }

    async fn done(self) {
        self.importer.finish().await;
        self.holder.finish().await;
        self.world.done().await;
    }
}

fn options(csv: &Csv) -> String {
    let character = |name: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!(", {name} {}", literal(value))).unwrap_or_default()
    };
    let force = match csv.force_quote.as_slice() {
        [] => String::new(),
        [all] if all == "*" => ", FORCE_QUOTE *".to_owned(),
        names => format!(", FORCE_QUOTE ({})", names.join(", ")),
    };
    format!(
        "FORMAT csv{}{}{}{}{force}",
        character("DELIMITER", &csv.delimiter),
        character("QUOTE", &csv.quote),
        character("ESCAPE", &csv.escape),
        character("NULL", &csv.null)
    )
}

fn csv(csv: Csv) -> Format {
    Format { format_type: FormatType::Csv, csv: Some(csv), parquet: None }
}

const JSON: Format = Format { format_type: FormatType::Ndjson, csv: None, parquet: None };

/// A CSV that the server takes.
fn any_csv(random: &mut Random) -> Format {
    loop {
        let delimiter = random.pick(&[",", ";", "\t", "1", "a", "-", "|", " ", "(", "."]);
        let quote = random.pick(&["\"", "'", "$", "0", "f"]);
        let null = random.pick(&["", "NULL", "\\N", "0", "t", "{}", "\\."]);
        if delimiter == quote || null.contains(delimiter) || null.contains(quote) {
            continue;
        }
        let some = |text: &str| Some(text.to_owned());
        return csv(Csv {
            delimiter: some(delimiter),
            quote: some(quote),
            escape: some(random.pick(&[quote, "\\", "x"])),
            null: some(null),
            force_quote: match random.below(4) {
                0 => vec!["*".to_owned()],
                1 => vec!["v".to_owned()],
                _ => Vec::new(),
            },
            ..Csv::default()
        });
    }
}

#[tokio::test]
async fn every_type_and_what_is_made_of_it_is_as_the_server_prints_it() {
    let mut random = Random::new();
    eprintln!("PGEXPORT_TEST_SEED={}", random.seed);
    let world = World::with("encoding", SETUP).await;
    let mut tables = Vec::new();
    for (number, kind) in KINDS.iter().chain([&TOLD]).enumerate() {
        let (sql, columns) = table(number, kind, &mut random);
        if let Err(error) = world.admin.batch_execute(&sql).await {
            panic!("{}: {error:?}", kind.name);
        }
        tables.push((kind, columns.join(", "), number));
    }
    let mut bench = Bench::new(world).await;
    for (kind, columns, number) in &tables {
        let sql = format!("SELECT {columns} FROM t{number} ORDER BY i");
        let plain = csv(Csv::default());
        for format in [&plain, &any_csv(&mut random), &any_csv(&mut random), &JSON] {
            let decoded = bench.compare(kind.name, &sql, format).await;
            let wanted = kind.decoded && !(kind.name == TOLD.name && format.csv.is_none());
            assert!(decoded.iter().all(|decoded| *decoded == wanted), "{}: {decoded:?}", kind.name);
        }
        let single = format!("SELECT v FROM t{number} ORDER BY i");
        for format in [&plain, &any_csv(&mut random)] {
            bench.compare(kind.name, &single, format).await;
        }
    }
    // All of them in one row, under one name.
    let values: Vec<_> = tables.iter().map(|(_, _, number)| format!("t{number}.v")).collect();
    let joins: String = tables
        .iter()
        .skip(1)
        .map(|(_, _, number)| format!(" JOIN t{number} ON t{number}.i = t0.i"))
        .collect::<Vec<_>>()
        .concat();
    let sql = format!("SELECT {} FROM t0{joins} ORDER BY t0.i", values.join(", "));
    for format in [csv(Csv::default()), any_csv(&mut random), JSON] {
        bench.compare("all", &sql, &format).await;
    }
    bench.done().await;
}

#[tokio::test]
async fn floats_of_every_magnitude_are_as_the_server_prints_them() {
    let mut random = Random::new();
    eprintln!("PGEXPORT_TEST_SEED={}", random.seed);
    let world = World::with("floats", "CREATE TABLE d (v float8); CREATE TABLE f (v float4)").await;
    let neighbours = |bits: u64| [bits.wrapping_sub(1), bits, bits.wrapping_add(1)];
    let mut doubles: Vec<f64> =
        (0..2047_u64).flat_map(|power| neighbours(power << 52)).map(f64::from_bits).collect();
    doubles.extend((0..52).flat_map(|bit| neighbours(1 << bit)).map(f64::from_bits));
    doubles.extend(
        (-330..310)
            .flat_map(|power| [1, 2, 5, 9].map(|digit| format!("{digit}e{power}").parse::<f64>().unwrap())),
    );
    // Where decimal numbers lie halfway between two values.
    doubles.extend((0..30_000).map(|_| {
        format!("{}e{}", random.bits() >> (10 + random.below(54)), random.below(26)).parse::<f64>().unwrap()
    }));
    doubles.extend((0..30_000).map(|_| f64::from_bits(random.bits())));
    let small = |bits: u64| f32::from_bits(u32::try_from(bits & 0xffff_ffff).unwrap());
    let mut singles: Vec<f32> = (0..255_u64).flat_map(|power| neighbours(power << 23)).map(small).collect();
    singles.extend(
        (-45..39)
            .flat_map(|power| [1, 2, 5, 9].map(|digit| format!("{digit}e{power}").parse::<f32>().unwrap())),
    );
    singles.extend((0..30_000).map(|_| {
        format!("{}e{}", random.bits() >> (39 + random.below(25)), random.below(12)).parse::<f32>().unwrap()
    }));
    singles.extend((0..30_000).map(|_| small(random.bits())));
    world
        .admin
        .query_typed("INSERT INTO d SELECT unnest($1)", &[(&doubles, Type::FLOAT8_ARRAY)])
        .await
        .unwrap();
    world
        .admin
        .query_typed("INSERT INTO f SELECT unnest($1)", &[(&singles, Type::FLOAT4_ARRAY)])
        .await
        .unwrap();
    let mut bench = Bench::new(world).await;
    for table in ["d", "f"] {
        for format in [csv(Csv::default()), JSON] {
            let decoded =
                bench.compare(table, &format!("SELECT v FROM {table} ORDER BY ctid"), &format).await;
            assert_eq!(decoded, [true]);
        }
    }
    bench.done().await;
}

#[tokio::test]
async fn records_and_names_that_no_type_tells_are_as_the_server_prints_them() {
    let world = World::with("records", SETUP).await;
    let mut bench = Bench::new(world).await;
    for (sql, decoded) in [
        ("SELECT ROW(1, 'a,b', NULL::text) AS r", false),
        ("SELECT ARRAY[ROW(1, 'x')] AS r", false),
        ("SELECT q FROM (VALUES (1, 'a'), (2, NULL)) AS q(n, \"t\"\"\")", false),
        ("SELECT p FROM (SELECT ROW(NULL, NULL, NULL)::pair AS p) s", true),
        ("SELECT pg_sleep(0)", true),
        ("SELECT NULL, 'unknown'", true),
        ("SELECT 1::numeric AS q, 2 AS q, NULL::bool AS \"\\\"", true),
        ("SELECT s FROM (SELECT 1::money AS m, 2 AS n) s", false),
        ("SELECT ARRAY[ARRAY[1::money]]", false),
        (
            "SELECT '{}'::int[] AS a, '{NULL}'::text[] AS b, '[0:0]={NULL}'::text[] AS c, '{\"NULL\",\"\"}'::text[] AS d",
            true,
        ),
    ] {
        for format in [csv(Csv::default()), JSON] {
            let found = bench.compare(sql, sql, &format).await;
            assert!(found.iter().all(|found| *found == decoded), "{sql}: {found:?}");
        }
    }
    bench.done().await;
}

#[tokio::test]
async fn texts_larger_than_a_batch_are_as_the_server_prints_them() {
    let mut bench = Bench::new(World::new("large").await).await;
    let sql = "SELECT repeat('x', 1000000) AS clean, repeat('some, \"words\" \\ ', 100000) AS quoted, repeat('a\\', 300000) || ',' AS late,
                      decode(repeat('00ff', 500000), 'hex') AS bytes, to_jsonb(repeat('é\"', 300000)) AS jb, json_build_array(repeat(E'\\n', 300000)) AS j,
                      ARRAY[repeat('x y', 100000)] AS array FROM generate_series(1, 2)";
    for format in [
        csv(Csv::default()),
        csv(Csv { escape: Some("\\".to_owned()), force_quote: vec!["clean".to_owned()], ..Csv::default() }),
        csv(Csv { delimiter: Some("f".to_owned()), ..Csv::default() }),
        JSON,
    ] {
        let decoded = bench.compare("large", sql, &format).await;
        assert!(decoded.iter().all(|decoded| *decoded));
    }
    bench.done().await;
}
