//! JSON documents, one a line.

use bytes::BytesMut;

use super::binary::{Reader, Values};
use crate::error::Result;

/// Takes documents in the framing of COPY's binary format, and writes a line for each.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    reader: Reader,
    /// Bytes of the last line, while it has not ended.
    partial: usize,
}

/// Appends lines.
struct Lines<'a> {
    out: &'a mut BytesMut,
    rows: u64,
    partial: &'a mut usize,
}

impl Values for Lines<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        let start = self.out.len();
        self.out.extend_from_slice(bytes);
        // PostgreSQL keeps the text of a `json` value. Line breaks stand in it between tokens only: in strings they are
        // escaped.
        for byte in &mut self.out[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        *self.partial += bytes.len();
    }

    fn end(&mut self) {
        self.out.extend_from_slice(b"\n");
        self.rows += 1;
        *self.partial = 0;
    }
}

impl Decoder {
    /// Takes the next piece, appends what it holds to `out`, and counts the lines that ended in it.
    pub(super) fn push(&mut self, piece: &[u8], out: &mut BytesMut) -> Result<u64> {
        let mut lines = Lines { out, rows: 0, partial: &mut self.partial };
        self.reader.push(piece, &mut lines)?;
        Ok(lines.rows)
    }

    /// Checks that the data was complete.
    pub(super) fn finish(&self) -> Result<()> {
        self.reader.finish()
    }

    /// How many bytes of a line that has not ended were appended.
    pub(super) const fn partial(&self) -> usize {
        self.partial
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::Decoder;

    #[test]
    fn line_breaks_between_tokens_become_spaces() {
        let document = b"{\"a\":{\r\n\"b\": \"\\n\"}}";
        let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        data.extend(1_i16.to_be_bytes());
        data.extend(i32::try_from(document.len()).unwrap().to_be_bytes());
        data.extend(document);
        let (head, tail) = data.split_at(35);
        let (mut decoder, mut out) = (Decoder::default(), BytesMut::new());
        assert_eq!(decoder.push(head, &mut out).unwrap(), 0);
        assert_eq!(decoder.partial(), 10);
        assert_eq!(decoder.push(tail, &mut out).unwrap(), 1);
        assert_eq!(decoder.partial(), 0);
        decoder.push(&(-1_i16).to_be_bytes(), &mut out).unwrap();
        decoder.finish().unwrap();
        assert_eq!(out, "{\"a\":{  \"b\": \"\\n\"}}\n".as_bytes());
    }
}
