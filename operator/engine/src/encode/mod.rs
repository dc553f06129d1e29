//! Rows as bytes. What leaves here is the format's *body*: lines for NDJSON and CSV, the rows of an array, `,\n` between them,
//! for JSON. A header, and what stands around a JSON array's bodies, is added where files are made (`output::frame`), so
//! that a staged chunk can become a file of its own or a part of a longer one. For Parquet, record batches leave here.
//!
//! Every format is made of COPY's binary format, by [`crate::decode`]. The bytes are those of the server's own
//! `COPY … (FORMAT csv)` and `row_to_json`.

mod batch;
mod binary;
mod csv;
mod json;
mod parquet;
mod record;
mod statement;

pub use self::parquet::schema;
pub use batch::{Batch, Payload};
pub use statement::{DatabaseStatement, copy_statement, database_statement, header_statement};

use pgexport_api::job::{Format, FormatType};
use pgexport_api::reason::Reason;

use self::binary::{Reader, Rows as _};
use self::csv::CsvRows;
use self::json::{JsonRows, Layout};
use self::parquet::ParquetRows;
use self::record::Lines;
use crate::decode::{Malformed, Shape};
use crate::error::{Error, Result};
use crate::plan::Column;

/// Turns what the server sends into batches.
///
/// Memory holds a batch, and at most one value: those of text, JSON and bytea pass in parts, but for Parquet's, and for a CSV
/// text while nothing in it has told yet whether it needs quotes. Values of other types are decoded as a whole. Whoever has several
/// encoders side by side asks [`Encoder::held`].
#[derive(Debug)]
pub struct Encoder {
    reader: Reader,
    rows: Rows,
}

/// Turns what a database wrote by itself by [`database_statement`], where that is not the format's own text, into batches.
#[derive(Debug)]
pub struct RecordEncoder {
    lines: Lines,
    encoder: Encoder,
    /// A piece in COPY's binary format.
    data: Vec<u8>,
}

impl RecordEncoder {
    /// An encoder for one body; `columns` and `shapes` are those of the query's result.
    pub fn new(format: &Format, columns: &[Column], shapes: &[Option<Shape>]) -> Result<Self> {
        let encoder = Encoder::new(format, columns, shapes)?;
        Ok(Self { lines: Lines::new(shapes.len()), encoder, data: Vec::new() })
    }

    /// Takes a piece of the body, wherever it was cut, and gives the batches that are full.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Batch>> {
        self.data.clear();
        self.lines.push(piece, &mut self.data).map_err(broken)?;
        self.encode()
    }

    /// Takes the end of the body. Gives the last batches, and how many rows there were.
    pub fn finish(mut self) -> Result<(Vec<Batch>, u64)> {
        self.data.clear();
        let rows = self.lines.finish(&mut self.data).map_err(broken)?;
        let mut batches = self.encode()?;
        batches.extend(self.encoder.finish()?);
        Ok((batches, rows))
    }

    fn encode(&mut self) -> Result<Vec<Batch>> {
        let mut batches = Vec::new();
        let mut data = self.data.as_slice();
        while !data.is_empty() {
            batches.extend(self.encoder.push(&mut data)?);
        }
        Ok(batches)
    }
}

/// What the database writes is whole: something has become of it since.
fn broken(malformed: Malformed) -> Error {
    Error::new(
        Reason::ChecksumMismatch,
        format!("what the database wrote is not whole any more: {malformed}"),
    )
}

#[derive(Debug)]
enum Rows {
    Csv(CsvRows),
    Json(JsonRows),
    Parquet(ParquetRows),
}

impl Encoder {
    /// An encoder for one [`copy_statement`]; `columns` and `shapes` are those of the query's result.
    pub fn new(format: &Format, columns: &[Column], shapes: &[Option<Shape>]) -> Result<Self> {
        let rows = match format.format_type {
            FormatType::Csv => Rows::Csv(CsvRows::new(format.csv.as_ref(), columns, shapes)),
            FormatType::Json => Rows::Json(JsonRows::new(columns, shapes, Layout::Array)),
            FormatType::Ndjson => Rows::Json(JsonRows::new(columns, shapes, Layout::Lines)),
            FormatType::Parquet => Rows::Parquet(ParquetRows::new(columns, shapes)?),
        };
        Ok(Self { reader: Reader::default(), rows })
    }

    /// Takes a piece of the data, wherever it was cut, from its front on: all of it, or until a batch is full.
    pub fn push(&mut self, piece: &mut &[u8]) -> Result<Option<Batch>> {
        while !piece.is_empty() {
            let is_full = match &mut self.rows {
                Rows::Csv(rows) => {
                    rows.output.reserve();
                    self.reader.read(piece, rows)?;
                    rows.is_full()
                }
                Rows::Json(rows) => {
                    rows.output.reserve();
                    self.reader.read(piece, rows)?;
                    rows.is_full()
                }
                Rows::Parquet(rows) => {
                    self.reader.read(piece, rows)?;
                    rows.is_full()
                }
            };
            if is_full {
                return self.take();
            }
        }
        Ok(None)
    }

    /// How many bytes are held of a value that has not ended, or whose CSV is not settled yet.
    pub(crate) fn held(&self) -> usize {
        let unsettled = match &self.rows {
            Rows::Csv(rows) => rows.output.held(),
            Rows::Json(rows) => rows.output.held(),
            Rows::Parquet(_) => 0,
        };
        self.reader.held() + unsettled
    }

    /// What is large for [`Encoder::held`]. Of a value for Parquet there are several copies on its way.
    pub(crate) const fn large(&self) -> usize {
        match &self.rows {
            Rows::Csv(_) | Rows::Json(_) => 4 << 20,
            Rows::Parquet(_) => 1 << 20,
        }
    }

    /// Takes the end of the data, and gives the last batch.
    pub fn finish(&mut self) -> Result<Option<Batch>> {
        self.reader.finish()?;
        self.take()
    }

    fn take(&mut self) -> Result<Option<Batch>> {
        match &mut self.rows {
            Rows::Csv(rows) => Ok(rows.output.take()),
            Rows::Json(rows) => Ok(rows.output.take()),
            Rows::Parquet(rows) => rows.take(),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int32Type;
    use pgexport_api::job::{Csv, Format, FormatType};
    use pgexport_api::reason::Reason;
    use proptest::prelude::*;

    use super::batch::BATCH_BYTES;
    use super::binary::tests::framed;
    use super::{Batch, Encoder, Payload};
    use crate::decode::{Scalar, Shape};
    use crate::plan::Column;

    fn columns(shapes: &[Option<Shape>]) -> Vec<Column> {
        let column = |index| Column { name: format!("c\"{index}"), column_type: String::new() };
        (0..shapes.len()).map(column).collect()
    }

    /// The batches of some rows that come in pieces.
    fn batches(format: &Format, shapes: &[Option<Shape>], data: &[u8], piece: usize) -> Vec<Batch> {
        let mut encoder = Encoder::new(format, &columns(shapes), shapes).unwrap();
        let mut batches = Vec::new();
        for mut piece in data.chunks(piece) {
            while !piece.is_empty() {
                batches.extend(encoder.push(&mut piece).unwrap());
            }
        }
        batches.extend(encoder.finish().unwrap());
        batches
    }

    fn bytes(batch: &Batch) -> &[u8] {
        let Payload::Bytes(bytes) = &batch.data else { panic!("a batch of bytes") };
        bytes
    }

    fn text(batches: &[Batch]) -> String {
        String::from_utf8(batches.iter().flat_map(|batch| bytes(batch).to_vec()).collect()).unwrap()
    }

    fn format(format_type: FormatType) -> Format {
        Format { format_type, csv: None, parquet: None }
    }

    #[test]
    fn a_row_has_the_form_of_its_format() {
        let shapes = [
            Some(Shape::Scalar(Scalar::Int4)),
            Some(Shape::Scalar(Scalar::Text)),
            Some(Shape::Scalar(Scalar::Json)),
            None,
        ];
        let row = |values: [Option<&[u8]>; 4]| values.map(|value| value.map(<[u8]>::to_vec)).to_vec();
        let rows = [
            row([Some(&[0, 0, 0, 7]), Some(b"a,\n"), Some(b"[1,\n2]"), Some(b"3")]),
            row([None, None, None, None]),
            row([None, Some(b""), None, None]),
        ];
        let data = framed(&rows, 0);
        assert_eq!(
            text(&batches(&format(FormatType::Ndjson), &shapes, &data, 7)),
            "{\"c\\\"0\":7,\"c\\\"1\":\"a,\\n\",\"c\\\"2\":[1, 2],\"c\\\"3\":3}\n\
             {\"c\\\"0\":null,\"c\\\"1\":null,\"c\\\"2\":null,\"c\\\"3\":null}\n\
             {\"c\\\"0\":null,\"c\\\"1\":\"\",\"c\\\"2\":null,\"c\\\"3\":null}\n"
        );
        assert_eq!(
            text(&batches(&format(FormatType::Csv), &shapes, &data, 7)),
            "7,\"a,\n\",\"[1,\n2]\",3\n,,,\n,\"\",,\n"
        );
        let forced = Format {
            format_type: FormatType::Csv,
            csv: Some(Csv { force_quote: vec!["c\"0".to_owned(), "c\"3".to_owned()], ..Csv::default() }),
            parquet: None,
        };
        assert_eq!(
            text(&batches(&forced, &shapes, &data, 7)),
            "\"7\",\"a,\n\",\"[1,\n2]\",\"3\"\n,,,\n,\"\",,\n"
        );
    }

    #[test]
    fn records_have_a_column_a_column() {
        let shapes = [Some(Shape::Scalar(Scalar::Int4)), None];
        let rows = [vec![Some(vec![0, 0, 0, 7]), None], vec![None, Some("é".into())]];
        let batches = batches(&format(FormatType::Parquet), &shapes, &framed(&rows, 0), 3);
        let [Batch { data: Payload::Records(records), rows: 2 }] = batches.as_slice() else {
            panic!("one batch")
        };
        let numbers: Vec<_> = records.column(0).as_primitive::<Int32Type>().iter().collect();
        let texts: Vec<_> = records.column(1).as_string::<i32>().iter().collect();
        assert_eq!((numbers, texts), (vec![Some(7), None], vec![None, Some("é")]));
        let latin = framed(&[vec![None, Some(vec![0xe9])]], 0);
        let mut encoder = Encoder::new(&format(FormatType::Parquet), &columns(&shapes), &shapes).unwrap();
        let error = encoder.push(&mut latin.as_slice()).unwrap_err();
        assert_eq!(error.reason(), Reason::DataError);
        assert!(error.to_string().contains("\"c\\\"1\""), "{error}");
    }

    #[test]
    fn records_hold_whole_rows_wherever_the_data_is_cut() {
        const VALUE: usize = 400_000;
        let shapes = [Some(Shape::Scalar(Scalar::Text)), Some(Shape::Scalar(Scalar::Int4))];
        let rows = vec![vec![Some(vec![b'x'; VALUE]), Some(vec![0, 0, 0, 7])]; 20];
        let data = framed(&rows, 0);
        for piece in [1000, VALUE - 1, VALUE + 20, usize::MAX] {
            let batches = batches(&format(FormatType::Parquet), &shapes, &data, piece);
            let counts: Vec<_> = batches.iter().map(|batch| batch.rows).collect();
            assert!(counts.len() > 1 && counts.iter().sum::<u64>() == 20, "{piece}: {counts:?}");
        }
    }

    #[test]
    fn records_end_by_what_they_hold_and_not_by_what_came_for_it() {
        // 1e100000: ten bytes, and as many digits.
        let huge: Vec<u8> = [1_u16, 25_000, 0, 0, 1].into_iter().flat_map(u16::to_be_bytes).collect();
        let shapes = [Some(Shape::Scalar(Scalar::Numeric))];
        let rows = vec![vec![Some(huge)]; 100];
        let batches = batches(&format(FormatType::Parquet), &shapes, &framed(&rows, 0), usize::MAX);
        let counts: Vec<_> = batches.iter().map(|batch| batch.rows).collect();
        assert!(counts.len() >= 9 && counts.iter().sum::<u64>() == 100, "{counts:?}");
    }

    #[test]
    fn batches_end_with_rows_when_they_are_full() {
        let shapes = [Some(Shape::Scalar(Scalar::Text))];
        let rows = vec![vec![Some(vec![b'x'; BATCH_BYTES / 2])]; 5];
        let batches = batches(&format(FormatType::Csv), &shapes, &framed(&rows, 0), usize::MAX);
        let counts: Vec<_> = batches.iter().map(|batch| (batch.rows, bytes(batch).len())).collect();
        let row = BATCH_BYTES / 2 + 1;
        assert_eq!(counts, [(2, 2 * row), (2, 2 * row), (1, row)]);
    }

    #[test]
    fn rows_that_are_larger_than_a_batch_pass_in_several() {
        let (comma, clean) = (b"x,".repeat(8 * BATCH_BYTES), vec![b'x'; 16 * BATCH_BYTES]);
        for (shape, value, streams) in [
            (Scalar::Text, &comma, true),
            (Scalar::Text, &clean, false),
            (Scalar::Bytea, &comma, true),
            (Scalar::Json, &clean, false),
        ] {
            for format_type in [FormatType::Csv, FormatType::Ndjson] {
                let rows = vec![vec![Some(value.clone()), None]; 2];
                let shapes = [Some(Shape::Scalar(shape)), Some(Shape::Scalar(Scalar::Int4))];
                let batches = batches(&format(format_type), &shapes, &framed(&rows, 0), 100_000);
                assert_eq!(batches.iter().map(|batch| batch.rows).sum::<u64>(), 2);
                if streams || format_type == FormatType::Ndjson {
                    assert!(batches.iter().all(|batch| bytes(batch).len() < 3 * BATCH_BYTES), "{shape:?}");
                }
            }
        }
    }

    /// Shapes that may come in parts, and a value's text in CSV.
    fn whole(shape: Scalar, value: &[u8]) -> Vec<u8> {
        match shape {
            Scalar::Jsonb => [&[1], value].concat(),
            _ => value.to_vec(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// A large value is a small one many times: what needs quotes may be in any of its parts, or in none.
        #[test]
        fn parts_make_what_the_whole_makes(
            shape in prop::sample::select(vec![Scalar::Text, Scalar::Json, Scalar::Jsonb, Scalar::Bytea]),
            piece in "[a-z\\\\]{1,20}",
            odd in "[,\"\n\r\\\\';]{0,2}",
            place in 0_usize..200_000,
            size in 1000_usize..200_000,
            quote in prop::sample::select(vec!["\"", "'", "a"]),
            escape in prop::sample::select(vec!["\"", "\\"]),
            force in any::<bool>(),
        ) {
            let mut value = piece.as_bytes().repeat(150_000 / piece.len());
            let place = place.min(value.len());
            value.splice(place..place, odd.bytes());
            let force_quote = if force { vec!["*".to_owned()] } else { Vec::new() };
            let csv = Csv { quote: Some(quote.to_owned()), escape: Some(escape.to_owned()), force_quote, ..Csv::default() };
            let csv = Format { format_type: FormatType::Csv, csv: Some(csv), parquet: None };
            let dialect = super::csv::dialect_of(&csv);
            let shapes = [Some(Shape::Scalar(shape))];
            let data = framed(&[vec![Some(whole(shape, &value))]], 0);
            let plain = match shape {
                Scalar::Bytea => format!("\\x{}", hex::encode(&value)).into_bytes(),
                _ => value.clone(),
            };
            let mut wanted = Vec::new();
            dialect.text(&plain, force, &mut wanted);
            wanted.push(b'\n');
            prop_assert!(text(&batches(&csv, &shapes, &data, size)).as_bytes() == wanted);
            let json = text(&batches(&format(FormatType::Ndjson), &shapes, &data, size));
            let json = json.strip_prefix("{\"c\\\"0\":").and_then(|json| json.strip_suffix("}\n")).unwrap();
            match shape {
                Scalar::Text => prop_assert!(serde_json::from_str::<String>(json).unwrap().as_bytes() == value),
                Scalar::Bytea => prop_assert!(serde_json::from_str::<String>(json).unwrap().as_bytes() == plain),
                Scalar::Json => prop_assert!(json.as_bytes() == crate::decode::ends_lines(&value).as_ref()),
                _ => prop_assert!(json.as_bytes() == value),
            }
        }
    }
}
