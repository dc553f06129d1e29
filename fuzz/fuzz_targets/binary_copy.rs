//! COPY's binary format, as whatever calls itself a PostgreSQL may send it: any bytes, cut anywhere, in rows of any types, end
//! in a body or in an error. The cuts make no difference, and what is told in JSON is JSON.

#![no_main]

use std::cell::LazyCell;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use pgexport_api::job::{Compression, Csv, Format, FormatType, Strategy};
use pgexport_engine::Error;
use pgexport_engine::decode::{Attribute, Scalar, Shape};
use pgexport_engine::encode::{Encoder, Payload};
use pgexport_engine::output::{Packer, Role};
use pgexport_engine::plan::{Column, PlannedDataset};
use tokio::runtime::{Builder, Runtime};

/// The beginning of a copy: signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Types that are nested deeper teach nothing new.
const DEPTH: u32 = 3;

const SCALARS: &[Scalar] = &[
    Scalar::Bool, Scalar::Int2, Scalar::Int4, Scalar::Int8, Scalar::Oid, Scalar::Xid8, Scalar::Tid, Scalar::Lsn,
    Scalar::Float4, Scalar::Float8, Scalar::Numeric, Scalar::Text, Scalar::Bytea, Scalar::Json, Scalar::Jsonb,
    Scalar::Jsonpath, Scalar::Uuid, Scalar::Date, Scalar::Time, Scalar::Timetz, Scalar::Timestamp,
    Scalar::Timestamptz, Scalar::Interval, Scalar::Inet, Scalar::Macaddr, Scalar::Bit, Scalar::Point, Scalar::Lseg,
    Scalar::Box, Scalar::Path, Scalar::Polygon, Scalar::Line, Scalar::Circle, Scalar::Tsvector,
];

fuzz_target!(|data: &[u8]| {
    if let Ok(case) = Case::read(&mut Unstructured::new(data)) {
        case.check();
    }
});

/// A query's result and what came for it.
#[derive(Debug)]
struct Case {
    format: Format,
    shapes: Vec<Option<Shape>>,
    cuts: Vec<usize>,
    data: Vec<u8>,
}

impl Case {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        let format = format(input)?;
        // None is refused when the query is planned.
        let columns = input.int_in_range(1..=4)?;
        let shapes = (0..columns).map(|_| column(input)).collect::<Result<Vec<_>>>()?;
        let cuts = (0..input.int_in_range(1..=4)?).map(|_| input.int_in_range(1..=40));
        let cuts = cuts.collect::<Result<_>>()?;
        let mut data = Vec::new();
        match input.int_in_range(0..=3)? {
            0 => {}
            1 => data.extend_from_slice(HEADER),
            _ => {
                data.extend_from_slice(HEADER);
                for _ in 0..input.int_in_range(0..=3)? {
                    row(columns, input, &mut data)?;
                }
                if input.arbitrary()? {
                    data.extend_from_slice(&(-1_i16).to_be_bytes());
                }
            }
        }
        // What is left comes as it is; more than one column of it would mostly be refused for the count alone.
        data.extend_from_slice(input.bytes(input.len())?);
        Ok(Self { format, shapes, cuts, data })
    }

    fn check(&self) {
        let whole = self.encode(std::slice::from_ref(&self.data.len().max(1)));
        let cut = self.encode(&self.cuts);
        match (whole, cut) {
            (Ok(whole), Ok(cut)) => {
                assert_eq!(whole.rows, cut.rows, "{self:?}");
                assert!(whole.bytes == cut.bytes, "{self:?}");
                self.check_json(&whole);
            }
            (Err(whole), Err(cut)) => assert_eq!(whole.to_string(), cut.to_string(), "{self:?}"),
            (Ok(_), Err(error)) | (Err(error), Ok(_)) => panic!("{error}: {self:?}"),
        }
    }

    fn encode(&self, cuts: &[usize]) -> Result<Encoded, Error> {
        thread_local!(static RUNTIME: LazyCell<Runtime> = LazyCell::new(|| {
            Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime")
        }));
        let dataset = self.dataset();
        let mut encoder = Encoder::new(&self.format, &dataset.columns, &dataset.shapes)?;
        let (mut rest, mut batches) = (self.data.as_slice(), Vec::new());
        for cut in cuts.iter().cycle() {
            let (mut piece, after) = rest.split_at((*cut).min(rest.len()));
            while !piece.is_empty() {
                batches.extend(encoder.push(&mut piece)?);
            }
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        batches.extend(encoder.finish()?);
        let rows = batches.iter().map(|batch| batch.rows).sum();
        let mut bytes = Vec::new();
        if self.format.format_type != FormatType::Parquet {
            for batch in batches {
                if let Payload::Bytes(piece) = batch.data {
                    bytes.extend_from_slice(&piece);
                }
            }
            return Ok(Encoded { rows, bytes });
        }
        RUNTIME.with(|runtime| {
            runtime.block_on(async {
                let mut packer = Packer::new(&self.format, Compression::None, &dataset, Role::Delivered)?;
                let mut pieces = Vec::new();
                for batch in batches {
                    pieces.extend(packer.batch(batch).await?);
                }
                pieces.extend(packer.finish().await?);
                Ok(Encoded { rows, bytes: pieces.concat() })
            })
        })
    }

    /// Where values are not JSON already, rows are.
    fn check_json(&self, encoded: &Encoded) {
        if self.format.format_type != FormatType::Ndjson || self.shapes.iter().flatten().any(holds_json) {
            return;
        }
        // What the server is asked for as JSON passes as it comes.
        if self.shapes.contains(&None) {
            return;
        }
        let Ok(text) = std::str::from_utf8(&encoded.bytes) else { return };
        assert_eq!(text.lines().count() as u64, encoded.rows, "{self:?}");
        for line in text.lines() {
            if let Err(error) = serde_json::from_str::<serde_json::Value>(line) {
                panic!("{error}: {line} of {self:?}");
            }
        }
    }

    fn dataset(&self) -> PlannedDataset {
        let column = |index| Column { name: format!("c{index}"), column_type: String::new() };
        PlannedDataset {
            name: "d".to_owned(),
            columns: (0..self.shapes.len()).map(column).collect(),
            shapes: self.shapes.clone(),
            query_sha256: String::new(),
            csv_header: None,
            strategy: Strategy::None,
            reason: None,
            from: None,
            values: Vec::new(),
        }
    }
}

#[derive(Debug)]
struct Encoded {
    rows: u64,
    bytes: Vec<u8>,
}

fn format(input: &mut Unstructured<'_>) -> Result<Format> {
    let format_type = *input.choose(&[FormatType::Csv, FormatType::Json, FormatType::Ndjson, FormatType::Parquet])?;
    let mut csv = None;
    if format_type == FormatType::Csv {
        let force_quote = if input.arbitrary()? { vec!["*".to_owned()] } else { Vec::new() };
        let quote = input.choose(&["\"", "'", "a"])?;
        let escape = input.choose(&["\"", "\\"])?;
        csv = Some(Csv {
            quote: Some((*quote).to_owned()),
            escape: Some((*escape).to_owned()),
            force_quote,
            ..Csv::default()
        });
    }
    Ok(Format { format_type, csv, parquet: None })
}

fn column(input: &mut Unstructured<'_>) -> Result<Option<Shape>> {
    if input.ratio(1, 16)? { Ok(None) } else { shape(DEPTH, input).map(Some) }
}

fn shape(depth: u32, input: &mut Unstructured<'_>) -> Result<Shape> {
    let kind = if depth == 0 { 0 } else { input.int_in_range(0..=7)? };
    Ok(match kind {
        4 => Shape::Array {
            element: Box::new(shape(depth - 1, input)?),
            delimiter: *input.choose(&[',', ';'])?,
        },
        5 => {
            let attribute = |index| Ok(Attribute { name: format!("a{index}\""), shape: shape(depth - 1, input)? });
            Shape::Composite((0..2).map(attribute).collect::<Result<_>>()?)
        }
        6 => Shape::Range(Box::new(shape(depth - 1, input)?)),
        7 => {
            let bound = Box::new(shape(depth - 1, input)?);
            if input.arbitrary()? {
                Shape::Multirange(bound)
            } else {
                let precision = input.int_in_range(1..=38)?;
                let scale = i8::try_from(input.int_in_range(0..=precision)?).unwrap_or_default();
                Shape::Decimal { precision, scale }
            }
        }
        _ => Shape::Scalar(*input.choose(SCALARS)?),
    })
}

fn holds_json(shape: &Shape) -> bool {
    match shape {
        Shape::Scalar(scalar) => matches!(scalar, Scalar::Json | Scalar::Jsonb),
        Shape::Decimal { .. } => false,
        Shape::Array { element, .. } => holds_json(element),
        Shape::Composite(attributes) => attributes.iter().any(|attribute| holds_json(&attribute.shape)),
        Shape::Range(_) | Shape::Multirange(_) => false,
    }
}

/// A row of values, of which some are long enough to come in parts.
fn row(columns: u16, input: &mut Unstructured<'_>, data: &mut Vec<u8>) -> Result<()> {
    data.extend_from_slice(&columns.to_be_bytes());
    for _ in 0..columns {
        let length = match input.int_in_range(0..=9)? {
            0 => {
                data.extend_from_slice(&(-1_i32).to_be_bytes());
                continue;
            }
            1 => 1,
            2 => 4,
            3 | 4 => 8,
            5 => 16,
            _ => usize::from(input.arbitrary::<u8>()?),
        };
        let value = input.bytes(length.min(input.len()))?;
        let times = if length > 0 && input.ratio(1, 32)? { 80_000 / length } else { 1 };
        let value = value.repeat(times);
        data.extend_from_slice(&i32::try_from(value.len()).unwrap_or(i32::MAX).to_be_bytes());
        data.extend_from_slice(&value);
    }
    Ok(())
}
