//! From bodies to files: headers, and the brackets and commas of a JSON array.

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use pgexport_api::job::{Csv, Format, FormatType};

use crate::plan::PlannedDataset;

/// Makes a file of the bodies of one or more chunks (see [`crate::encode`]), piece by piece and in constant memory. Bodies
/// are whole when they are joined; their pieces may be cut anywhere.
///
/// - NDJSON: the bodies as they are.
/// - CSV: the header line, if the format has one, then the bodies.
/// - JSON: `[`, the rows with a comma at each line's end but the last, `]`; a line a row. No row: `[]`.
#[derive(Clone, Debug)]
pub struct Framer {
    head: Bytes,
    lines: Lines,
}

/// What becomes of line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    /// They stay.
    Kept,
    /// JSON: nothing has been seen.
    None,
    /// JSON: inside of a row.
    Inside,
    /// JSON: a row has ended, and it is open whether another one follows.
    Ended,
}

impl Framer {
    /// For a file of this data set.
    #[must_use]
    pub fn new(format: &Format, dataset: &PlannedDataset) -> Self {
        match format.format_type {
            FormatType::Ndjson => Self { head: Bytes::new(), lines: Lines::Kept },
            FormatType::Json => Self { head: Bytes::from_static(b"["), lines: Lines::None },
            FormatType::Csv => {
                let header = format.csv.as_ref().is_none_or(|csv: &Csv| csv.header);
                let line = dataset.csv_header.as_ref().filter(|_| header);
                Self {
                    head: line.map_or_else(Bytes::new, |line| Bytes::from(line.clone())),
                    lines: Lines::Kept,
                }
            }
        }
    }

    /// What the file begins with. It may be empty.
    #[must_use]
    pub fn head(&self) -> Bytes {
        self.head.clone()
    }

    /// The next piece of a body, framed. It may be empty.
    #[must_use]
    pub fn body(&mut self, piece: Bytes) -> Bytes {
        if self.lines == Lines::Kept || piece.is_empty() { piece } else { self.rows(&piece) }
    }

    /// What the file ends with. It may be empty.
    #[must_use]
    pub const fn tail(&self) -> Bytes {
        Bytes::from_static(match self.lines {
            Lines::Kept => b"",
            Lines::None => b"]\n",
            Lines::Inside | Lines::Ended => b"\n]\n",
        })
    }

    /// A line end is held back until it is known whether another row follows.
    fn rows(&mut self, mut piece: &[u8]) -> Bytes {
        let mut framed = BytesMut::with_capacity(piece.len() + piece.len() / 32 + 2);
        while !piece.is_empty() {
            match self.lines {
                Lines::None => framed.extend_from_slice(b"\n"),
                Lines::Ended => framed.extend_from_slice(b",\n"),
                Lines::Kept | Lines::Inside => {}
            }
            if let Some(end) = memchr(b'\n', piece) {
                framed.extend_from_slice(&piece[..end]);
                piece = &piece[end + 1..];
                self.lines = Lines::Ended;
            } else {
                framed.extend_from_slice(piece);
                piece = &[];
                self.lines = Lines::Inside;
            }
        }
        framed.freeze()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
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
        }
    }

    fn format(format_type: FormatType, header: Option<bool>) -> Format {
        Format { format_type, csv: header.map(|header| Csv { header, ..Csv::default() }) }
    }

    fn frame(format: &Format, pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
        let mut framer = Framer::new(format, &dataset());
        let mut file = framer.head().to_vec();
        for piece in pieces {
            file.extend_from_slice(&framer.body(Bytes::from(piece)));
        }
        file.extend_from_slice(&framer.tail());
        file
    }

    /// Cuts bytes at places given as shares of their length.
    fn cut(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        places.windows(2).map(|place| bytes[place[0]..place[1]].to_vec()).collect()
    }

    fn naive_json(rows: &[String]) -> String {
        if rows.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", rows.join(",\n")) }
    }

    #[test]
    fn an_empty_data_set_is_an_empty_array_or_a_lone_header() {
        assert_eq!(frame(&format(FormatType::Json, None), []), b"[]\n");
        assert_eq!(frame(&format(FormatType::Json, None), [Vec::new()]), b"[]\n");
        assert_eq!(frame(&format(FormatType::Ndjson, None), []), b"");
        assert_eq!(frame(&format(FormatType::Csv, None), []), b"id,text\n");
        assert_eq!(frame(&format(FormatType::Csv, Some(false)), []), b"");
    }

    #[test]
    fn csv_files_have_one_header_however_many_bodies() {
        let bodies = [b"1,a\n".to_vec(), b"2,\"b\nc\"\n".to_vec()];
        assert_eq!(frame(&format(FormatType::Csv, Some(true)), bodies), b"id,text\n1,a\n2,\"b\nc\"\n");
    }

    proptest! {
        #[test]
        fn json_cut_anywhere_is_what_joining_rows_makes_and_parses(
            values in prop::collection::vec((any::<i64>(), ".{0,20}"), 0..20),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let documents: Vec<_> = values.iter().map(|(id, text)| serde_json::json!({"id": id, "text": text})).collect();
            let rows: Vec<String> = documents.iter().map(ToString::to_string).collect();
            let body: String = rows.iter().flat_map(|row| [row.as_str(), "\n"]).collect();
            let framed = frame(&format(FormatType::Json, None), cut(body.as_bytes(), &cuts));
            prop_assert_eq!(String::from_utf8_lossy(&framed), naive_json(&rows));
            prop_assert_eq!(serde_json::from_slice::<Vec<serde_json::Value>>(&framed)?, documents);
            let lines = frame(&format(FormatType::Ndjson, None), cut(body.as_bytes(), &cuts));
            prop_assert_eq!(lines, body.into_bytes());
        }
    }
}
