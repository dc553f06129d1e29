//! From bodies to files: headers, and what a JSON array has around and between its rows.

use bytes::Bytes;
use pgexport_api::job::{Csv, Format, FormatType};

use crate::plan::PlannedDataset;

/// Makes a file of the bodies of one or more chunks (see [`crate::encode`]), which stay as they are:
///
/// - NDJSON: the bodies.
/// - CSV: the header line, if the format has one, then the bodies.
/// - Parquet: one body, which is the file; several are joined by [`super::ParquetJoiner`].
/// - JSON: `[`, the bodies with a comma between them, `]`; a line a row. No row: `[]`.
#[derive(Clone, Debug)]
pub struct Framer {
    head: Bytes,
    joints: Joints,
}

/// What stands before bodies and after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joints {
    /// Nothing.
    None,
    /// Those of a JSON array that has no row so far.
    Empty,
    /// Those of a JSON array that has rows.
    Begun,
}

impl Framer {
    /// For a file of this data set.
    #[must_use]
    pub fn new(format: &Format, dataset: &PlannedDataset) -> Self {
        match format.format_type {
            FormatType::Ndjson | FormatType::Parquet => Self { head: Bytes::new(), joints: Joints::None },
            FormatType::Json => Self { head: Bytes::from_static(b"["), joints: Joints::Empty },
            FormatType::Csv => {
                let header = format.csv.as_ref().is_none_or(|csv: &Csv| csv.header);
                let line = dataset.csv_header.as_ref().filter(|_| header);
                let head = line.map_or_else(Bytes::new, |line| Bytes::from(line.clone()));
                Self { head, joints: Joints::None }
            }
        }
    }

    /// What the file begins with. It may be empty.
    #[must_use]
    pub fn head(&self) -> Bytes {
        self.head.clone()
    }

    /// What stands before the next body that holds rows. It may be empty.
    #[must_use]
    pub fn joint(&mut self) -> Bytes {
        let joint: &[u8] = match self.joints {
            Joints::None => return Bytes::new(),
            Joints::Empty => b"\n",
            Joints::Begun => b",\n",
        };
        self.joints = Joints::Begun;
        Bytes::from_static(joint)
    }

    /// What the file ends with. It may be empty.
    #[must_use]
    pub const fn tail(&self) -> Bytes {
        Bytes::from_static(match self.joints {
            Joints::None => b"",
            Joints::Empty => b"]\n",
            Joints::Begun => b"\n]\n",
        })
    }
}

#[cfg(test)]
mod tests {
    use pgexport_api::job::{Csv, Format, FormatType, Strategy as Chunking};
    use proptest::prelude::*;

    use super::Framer;
    use crate::plan::PlannedDataset;

    fn dataset() -> PlannedDataset {
        PlannedDataset {
            name: "d".to_owned(),
            columns: Vec::new(),
            shapes: Vec::new(),
            query_sha256: String::new(),
            csv_header: Some("id,text\n".to_owned()),
            strategy: Chunking::None,
            reason: None,
            from: None,
            values: Vec::new(),
        }
    }

    fn format(format_type: FormatType, header: Option<bool>) -> Format {
        let csv = header.map(|header| Csv { header, ..Csv::default() });
        Format { format_type, csv, parquet: None }
    }

    /// A file of bodies, of which those that are empty hold no rows.
    fn frame(format: &Format, bodies: &[String]) -> String {
        let mut framer = Framer::new(format, &dataset());
        let mut file = framer.head().to_vec();
        for body in bodies.iter().filter(|body| !body.is_empty()) {
            file.extend_from_slice(&framer.joint());
            file.extend_from_slice(body.as_bytes());
        }
        file.extend_from_slice(&framer.tail());
        String::from_utf8(file).unwrap()
    }

    #[test]
    fn an_empty_data_set_is_an_empty_array_or_a_lone_header() {
        for bodies in [&[][..], &[String::new()]] {
            assert_eq!(frame(&format(FormatType::Json, None), bodies), "[]\n");
            assert_eq!(frame(&format(FormatType::Ndjson, None), bodies), "");
            assert_eq!(frame(&format(FormatType::Csv, None), bodies), "id,text\n");
            assert_eq!(frame(&format(FormatType::Csv, Some(false)), bodies), "");
        }
    }

    #[test]
    fn csv_files_have_one_header_however_many_bodies() {
        let bodies = ["1,a\n".to_owned(), "2,\"b\nc\"\n".to_owned()];
        assert_eq!(frame(&format(FormatType::Csv, Some(true)), &bodies), "id,text\n1,a\n2,\"b\nc\"\n");
    }

    proptest! {
        #[test]
        fn json_bodies_make_one_array_of_a_line_a_row(
            chunks in prop::collection::vec(prop::collection::vec((any::<i64>(), ".{0,20}"), 0..4), 0..8),
        ) {
            let row = |(id, text): &(i64, String)| serde_json::json!({"id": id, "text": text});
            let bodies: Vec<String> = chunks
                .iter()
                .map(|rows| rows.iter().map(|values| row(values).to_string()).collect::<Vec<_>>().join(",\n"))
                .collect();
            let file = frame(&format(FormatType::Json, None), &bodies);
            let rows: Vec<_> = chunks.iter().flatten().map(row).collect();
            prop_assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&file)?, rows.clone());
            let lines = if rows.is_empty() { 1 } else { rows.len() + 2 };
            prop_assert_eq!(file.lines().count(), lines);
        }
    }
}
