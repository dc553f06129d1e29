//! Types, and random values of them as SQL expressions.

use super::random::Random;

/// A type that is tried, as it is and inside of others.
pub(super) struct Kind {
    /// As SQL writes it.
    pub(super) name: &'static str,
    /// Whether our decoder is expected to know it; the server is asked otherwise.
    pub(super) decoded: bool,
    /// Whether there are ranges over it.
    pub(super) ordered: bool,
    value: fn(&mut Random) -> String,
}

impl Kind {
    pub(super) fn value(&self, random: &mut Random) -> String {
        format!("({})::{}", (self.value)(random), self.name)
    }
}

const fn known(name: &'static str, value: fn(&mut Random) -> String) -> Kind {
    Kind { name, decoded: true, ordered: false, value }
}

const fn ordered(name: &'static str, value: fn(&mut Random) -> String) -> Kind {
    Kind { name, decoded: true, ordered: true, value }
}

const fn asked(name: &'static str, value: fn(&mut Random) -> String) -> Kind {
    Kind { name, decoded: false, ordered: false, value }
}

/// Types that tests make.
pub(super) const SETUP: &str = r#"
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE EXTENSION seg;
CREATE TYPE mood AS ENUM ('ok', 'so so', 'it''s "bad"', 'a,b', 'a\b', 'NULL', '\.', 't');
CREATE TYPE told_mood AS ENUM ('good', 'bad, "very"');
CREATE FUNCTION told(told_mood) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT json_build_object('mood', $1::text) $$;
CREATE CAST (told_mood AS json) WITH FUNCTION told(told_mood);
CREATE DOMAIN short AS varchar(7) CHECK (VALUE <> 'never');
CREATE TYPE pair AS (a int, "b ""\ c" text, gone int, m mood);
ALTER TYPE pair DROP ATTRIBUTE gone;
CREATE DOMAIN paired AS pair;
CREATE TYPE nest AS (p pair, ps paired[], d short, r tstzrange, j json, jb jsonb, t timestamptz, f float8, n numeric, b bytea);
CREATE DOMAIN numbers AS int[];
"#;

pub(super) const KINDS: &[Kind] = &[
    known("bool", |random| format!("{}", random.one_in(2))),
    ordered("int2", |random| format!("'{}'", random.integer(16))),
    ordered("int4", |random| format!("'{}'", random.integer(32))),
    ordered("int8", |random| format!("'{}'", random.integer(64))),
    ordered("oid", |random| format!("'{}'", random.bits() & 0xffff_ffff)),
    known("xid", |random| format!("'{}'", random.bits() & 0xffff_ffff)),
    known("cid", |random| format!("'{}'", random.bits() & 0xffff_ffff)),
    ordered("xid8", |random| format!("'{}'", random.bits() >> random.below(64))),
    ordered("tid", |random| format!("'({},{})'", random.bits() & 0xffff_ffff, random.bits() & 0xffff)),
    ordered("pg_lsn", |random| {
        let bits = random.bits() >> random.below(64);
        format!("'{:X}/{:X}'", bits >> 32, bits & 0xffff_ffff)
    }),
    ordered("float4", |random| {
        float(random, |bits| f64::from(f32::from_bits(u32::try_from(bits >> 32).unwrap())))
    }),
    ordered("float8", |random| float(random, f64::from_bits)),
    ordered("numeric", numeric),
    ordered("numeric(12,4)", |random| format!("'{}.{}'", random.integer(26), random.below(10_000))),
    ordered("text", text),
    ordered("varchar(6)", text),
    ordered("char(9)", text),
    ordered("name", text),
    known("refcursor", text),
    ordered("bytea", |random| {
        let bytes: String = {
            let bytes: Vec<u8> = (0..random.below(9)).map(|_| random.bits().to_le_bytes()[0]).collect();
            hex::encode(bytes)
        };
        format!(r"'\x{bytes}'")
    }),
    ordered("uuid", |random| format!("'{:016x}{:016x}'", random.bits(), random.bits())),
    ordered("date", |random| {
        let special =
            ["infinity", "-infinity", "4714-11-24 BC", "5874897-12-31", "0001-01-01", "0001-12-31 BC"];
        match random.below(6) {
            0 => format!("'{}'", random.pick(&special)),
            1 => format!("'2000-01-01'::date + {}", random.below(2_000_000_000)),
            _ => format!("'2000-01-01'::date + ({})", random.integer(22)),
        }
    }),
    ordered("time", |random| {
        if random.one_in(9) {
            "'24:00:00'".to_owned()
        } else {
            format!("'00:00'::time + {}", microseconds(clock(random)))
        }
    }),
    ordered("timetz", |random| {
        let zone = random.pick(&["+00", "-08", "+05:30", "-03:30:15", "+15:59:59", "-00:00:01"]);
        format!("('00:00'::time + {})::text || '{zone}'", microseconds(clock(random)))
    }),
    ordered("timestamp", |random| moment(random, "timestamp")),
    ordered("timestamptz", |random| moment(random, "timestamptz")),
    ordered("interval", |random| {
        let time = if random.one_in(2) { random.integer(24) } else { random.integer(63) };
        format!(
            "'{} months {} days'::interval + {}",
            random.integer(31),
            random.integer(31),
            microseconds(time)
        )
    }),
    known("json", |random| {
        let json = random.pick(&[
            "null",
            " [1 ,\r\n\t2] ",
            r#"{"a":1.50e+3,"a":"x\n\u0000\/ \"y\""}"#,
            "\"a,b\"",
            "{\n}",
            "0.10",
            "true",
        ]);
        if random.one_in(2) {
            literal(json)
        } else {
            format!("'{{\"k\" :\n' || to_json({}::text) || '\r}}'", text(random))
        }
    }),
    known("jsonb", |random| match random.below(3) {
        0 => {
            literal(random.pick(&["null", "[1 , 2.50]", r#"{"b":{"c":[]},"a":"\u0001é\\"}"#, "\"x\"", "1e3"]))
        }
        _ => format!("jsonb_build_object({}::text, {})", text(random), text(random)),
    }),
    known("jsonpath", |random| literal(random.pick(&["$", "strict $.\"a b\"[*] ? (@ > 1)", "$.\"q\\\"\""]))),
    ordered("inet", |random| address(random, true)),
    ordered("cidr", |random| format!("network({}::inet)", address(random, true))),
    ordered("macaddr", |random| format!("'{:012x}'", random.bits() >> 16)),
    ordered("macaddr8", |random| format!("'{:016x}'", random.bits())),
    ordered("bit(5)", |random| format!("({})::int4", random.below(32))),
    ordered("varbit", |random| {
        let bits: String = (0..random.below(20)).map(|_| random.pick(&['0', '1'])).collect();
        format!("B'{bits}'")
    }),
    known("point", point),
    known("lseg", |random| format!("lseg({}, {})", point(random), point(random))),
    known("box", |random| format!("box({}, {})", point(random), point(random))),
    known("path", |random| {
        let points = points(random);
        if random.one_in(2) { format!("'[{points}]'") } else { format!("'({points})'") }
    }),
    known("polygon", |random| format!("'({})'", points(random))),
    known("line", |random| {
        format!("'{{{},{},{}}}'", coordinate(random), random.below(5) + 1, coordinate(random))
    }),
    known("circle", |random| format!("circle({}, {})", point(random), random.below(100))),
    known("tsvector", |random| {
        let weight = random.pick(&["A", "B", "C", "D"]);
        format!(
            "setweight(to_tsvector('simple', {}), '{weight}') || array_to_tsvector(ARRAY[{} || 'x'])",
            text(random),
            text(random)
        )
    }),
    known("mood", mood),
    known("short", text),
    known("numbers", |random| format!("ARRAY[{}, NULL, {}]", random.integer(32), random.integer(9))),
    known("pair", pair),
    known("paired", pair),
    known("nest", |random| {
        let [pair, first, second] =
            [0; 3].map(|_| if random.one_in(4) { "NULL".to_owned() } else { pair(random) });
        format!(
            "ROW({pair}, ARRAY[{first}, {second}]::paired[], {}, tstzrange({}, NULL, '(]'), '{{\n\"a\": [1]}}', '[{{}}]', {}, {}, {}, '\\x00ff')",
            text(random),
            moment(random, "timestamptz"),
            moment(random, "timestamptz"),
            float(random, f64::from_bits),
            numeric(random)
        )
    }),
    known("int4range", |random| {
        format!("int4range({0}, {0} + {1}, '[]')", random.integer(20), random.below(9))
    }),
    known("datemultirange", |random| {
        format!("'{{[2000-01-01,2000-01-0{}],(,1999-01-01)}}'", random.below(8) + 1)
    }),
    asked("tsquery", |random| literal(random.pick(&["a & !b", "'it''s' <-> c:*A | (d & e)"]))),
    asked("money", |random| format!("'{}'", random.integer(40))),
    asked("\"char\"", |random| match random.below(5) {
        // Before version 15, the first byte of `é` is printed as it is, which is no UTF-8 and so not in Parquet.
        0 => {
            "CASE WHEN current_setting('server_version_num')::int >= 150000 THEN 'é' ELSE 'e' END".to_owned()
        }
        _ => literal(random.pick(&["a", "", "\"", ","])),
    }),
    asked("regclass", |random| literal(random.pick(&["pg_class", "information_schema.tables", "0"]))),
    asked("regtype", |random| literal(random.pick(&["int4", "pair", "\"char\"", "text[]"]))),
    asked("int2vector", |random| format!("'{} {}'", random.integer(16), random.integer(16))),
    asked("oidvector", |random| format!("'{} 2'", random.below(9))),
    asked("pg_snapshot", |random| format!("'{0}:{0}:'", random.below(1000) + 1)),
    asked("aclitem", |random| literal(random.pick(&["=r/postgres", "postgres=arwd/postgres"]))),
    asked("hstore", |random| format!("hstore({}, {})", text(random), text(random))),
    asked("citext", text),
    asked("seg", |random| format!("'{} .. 1000'", random.below(1000))),
];

/// What only JSON is asked for, as it has a cast of its own.
pub(super) const TOLD: Kind = known("told_mood", |random| literal(random.pick(&["good", "bad, \"very\""])));

pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn text(random: &mut Random) -> String {
    const PIECES: &[&str] = &[
        "a",
        "NULL",
        "null",
        "\\.",
        "\\",
        "\"",
        "'",
        ",",
        ";",
        "\n",
        "\r",
        "\t",
        "\u{b}",
        "\u{c}",
        " ",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "é",
        "😀",
        "\u{7f}",
        "\u{1}",
        "\u{1f}",
        "\u{85}",
        "\u{a0}",
        "/",
        "$",
        "1",
        "t",
        "-",
        "0",
        "|",
        "some longer words",
    ];
    let text: String = (0..random.below(5)).map(|_| random.pick(PIECES)).collect();
    literal(&text)
}

fn float(random: &mut Random, of_bits: fn(u64) -> f64) -> String {
    match random.below(5) {
        0 => literal(random.pick(&[
            "NaN",
            "Infinity",
            "-Infinity",
            "-0",
            "1e23",
            "1e15",
            "1e-5",
            "0.1",
            "1e6",
        ])),
        1 => format!("'{}e{}'", random.integer(20), random.below(30)),
        2 => format!("'{}'", f64::from(i32::try_from(random.integer(32)).unwrap()) / 100.0),
        _ => {
            let value = of_bits(random.bits());
            if value.is_finite() { format!("'{value:e}'") } else { "'0'".to_owned() }
        }
    }
}

fn numeric(random: &mut Random) -> String {
    let (number, scale) = (random.integer(64), random.below(40));
    match random.below(6) {
        0 => literal(random.pick(&[
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "0.000",
            "-0.0",
            "1e1000",
            "1e-1000",
            "10000",
            "0.0001",
        ])),
        1 => format!("'{number}e{scale}'"),
        2 => format!("'{number}e-{scale}'"),
        3 => format!("'0.{}{}'", "0".repeat(scale), random.below(1_000_000)),
        _ => format!("'{number}.{}'", random.below(100_000)),
    }
}

/// A time of day in microseconds.
fn clock(random: &mut Random) -> i64 {
    let clock = (random.bits() % 86_400_000_000).cast_signed();
    clock - clock % random.pick(&[1, 10, 1000, 1_000_000])
}

/// An interval of so many microseconds, however many: before version 15, a number in an interval's text is an `int`. Each factor
/// is a `float8` that loses nothing.
fn microseconds(count: i64) -> String {
    format!("(interval '1048576 us' * ({}) + interval '1 us' * {})", count >> 20, count & 0xf_ffff)
}

fn moment(random: &mut Random, name: &str) -> String {
    if random.one_in(6) {
        let special = [
            "infinity",
            "-infinity",
            "4714-11-24 00:00:00+00 BC",
            "294276-12-31 23:59:59.999999+00",
            "epoch",
        ];
        return format!("'{}'::{name}", random.pick(&special));
    }
    let days = if random.one_in(3) { random.integer(21) } else { random.integer(15) };
    format!("'2000-01-01 00:00:00+00'::{name} + '{days} days'::interval + {}", microseconds(clock(random)))
}

fn address(random: &mut Random, prefixes: bool) -> String {
    let (address, bits) = if random.one_in(2) {
        let bytes = random.bits().to_le_bytes();
        (format!("{}.{}.{}.{}", bytes[0], bytes[1], bytes[2], bytes[3]), 32)
    } else {
        let words: Vec<_> = (0..8)
            .map(|_| match random.below(6) {
                0 => format!("{:x}", random.bits() & 0xffff),
                1 => "ffff".to_owned(),
                _ => "0".to_owned(),
            })
            .collect();
        (words.join(":"), 128)
    };
    if prefixes && random.one_in(2) {
        format!("'{address}/{}'", random.below(bits + 1))
    } else {
        format!("'{address}'")
    }
}

fn coordinate(random: &mut Random) -> String {
    random.pick(&["0", "-0", "1.5", "-2.25", "1e300", "1e-7", "NaN", "Infinity", "0.1"]).to_owned()
}

fn point(random: &mut Random) -> String {
    format!("point({}::float8, {}::float8)", literal(&coordinate(random)), literal(&coordinate(random)))
}

fn points(random: &mut Random) -> String {
    let points: Vec<_> =
        (0..=random.below(3)).map(|_| format!("({},{})", random.below(9), coordinate(random))).collect();
    points.join(",")
}

fn mood(random: &mut Random) -> String {
    literal(random.pick(&["ok", "so so", "it's \"bad\"", "a,b", "a\\b", "NULL", "\\.", "t"]))
}

fn pair(random: &mut Random) -> String {
    let number = if random.one_in(3) { "NULL".to_owned() } else { random.integer(32).to_string() };
    format!("ROW({number}, {}, {}::mood)::pair", text(random), mood(random))
}
