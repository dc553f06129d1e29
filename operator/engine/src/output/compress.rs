//! Compression: bytes become gzip members (RFC 1952) or Zstandard frames (RFC 8878). A file may hold several, one after
//! the other, so files are made of chunks that are compressed already, byte by byte.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::GzEncoder;
use pgexport_api::job::Compression;
use pgexport_api::reason::Reason;

use crate::error::{Error, Result};

/// The level of `gzip` itself. On NDJSON of the sample data, level 4 is a fifth faster and 4 % larger, level 1 three times as
/// fast and two thirds larger.
const GZIP_LEVEL: u32 = 6;

/// On the same data as fast again as level 3, and no larger; four times as fast as gzip.
const ZSTD_LEVEL: i32 = 1;

/// So many bytes are deflated at a time, however they come. What deflate makes of them depends on where they are cut, as it looks
/// ahead; and a file that is made again has to be the same.
const GZIP_BLOCK: usize = 64 * 1024;

/// Compresses bytes to one member or frame, the same ones however the bytes are cut.
pub enum Compressor {
    /// Leaves bytes as they are.
    None(Vec<u8>),
    /// A gzip member.
    Gzip(Box<Gzip>),
    /// A Zstandard frame.
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

/// A gzip member in the making.
pub struct Gzip {
    encoder: GzEncoder<Vec<u8>>,
    /// What is not a whole block yet.
    block: Vec<u8>,
}

impl Gzip {
    fn write(&mut self, mut data: &[u8]) -> std::io::Result<()> {
        while !data.is_empty() {
            let (here, rest) = data.split_at(data.len().min(GZIP_BLOCK - self.block.len()));
            data = rest;
            self.block.extend_from_slice(here);
            if self.block.len() == GZIP_BLOCK {
                self.encoder.write_all(&self.block)?;
                self.block.clear();
            }
        }
        Ok(())
    }

    fn finish(mut self) -> std::io::Result<Vec<u8>> {
        self.encoder.write_all(&self.block)?;
        self.encoder.finish()
    }
}

impl Compressor {
    /// Begins a member or frame.
    pub fn new(compression: Compression) -> Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(Vec::new()),
            Compression::Gzip => {
                let encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL));
                Self::Gzip(Box::new(Gzip { encoder, block: Vec::with_capacity(GZIP_BLOCK) }))
            }
            Compression::Zstd => {
                let mut encoder =
                    zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).map_err(failed)?;
                encoder.include_checksum(true).map_err(failed)?;
                Self::Zstd(Box::new(encoder))
            }
        })
    }

    /// Takes bytes, and gives what is ready of the compressed ones.
    pub fn push(&mut self, data: &[u8]) -> Result<Bytes> {
        let ready = match self {
            Self::None(ready) => {
                ready.extend_from_slice(data);
                ready
            }
            Self::Gzip(gzip) => {
                gzip.write(data).map_err(failed)?;
                gzip.encoder.get_mut()
            }
            Self::Zstd(encoder) => {
                encoder.write_all(data).map_err(failed)?;
                encoder.get_mut()
            }
        };
        Ok(std::mem::take(ready).into())
    }

    /// Ends the member or frame, and gives what is left of it.
    pub fn finish(self) -> Result<Bytes> {
        match self {
            Self::None(ready) => Ok(ready),
            Self::Gzip(gzip) => gzip.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
        .map(Bytes::from)
        .map_err(failed)
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Compressor")
    }
}

/// Bytes as a member or frame of their own. None become none.
pub fn compressed(compression: Compression, data: Bytes) -> Result<Bytes> {
    if data.is_empty() || compression == Compression::None {
        return Ok(data);
    }
    let mut compressor = Compressor::new(compression)?;
    let mut whole = compressor.push(&data)?.to_vec();
    whole.extend_from_slice(&compressor.finish()?);
    Ok(whole.into())
}

/// Compressing into memory fails for want of it, if at all.
fn failed(error: std::io::Error) -> Error {
    Error::new(Reason::InternalError, "compressing failed").with_source(error)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use bytes::Bytes;
    use pgexport_api::job::Compression;
    use proptest::prelude::*;

    use super::{Compressor, compressed};

    fn plain(compression: Compression, data: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match compression {
            Compression::None => plain.extend_from_slice(data),
            Compression::Gzip => {
                flate2::read::MultiGzDecoder::new(data).read_to_end(&mut plain).unwrap();
            }
            Compression::Zstd => plain = zstd::stream::decode_all(data).unwrap(),
        }
        plain
    }

    proptest! {
        #[test]
        fn members_of_pieces_make_one_text(
            members in prop::collection::vec(prop::collection::vec("[a-c]{0,300}", 0..5), 1..5),
            compression in prop::sample::select(vec![Compression::None, Compression::Gzip, Compression::Zstd]),
        ) {
            let mut file = Vec::new();
            for pieces in &members {
                let mut compressor = Compressor::new(compression).unwrap();
                for piece in pieces {
                    file.extend_from_slice(&compressor.push(piece.as_bytes()).unwrap());
                }
                file.extend_from_slice(&compressor.finish().unwrap());
                file.extend_from_slice(&compressed(compression, Bytes::from_static(b",")).unwrap());
            }
            let wanted: String = members.iter().map(|pieces| pieces.concat() + ",").collect();
            prop_assert_eq!(plain(compression, &file), wanted.into_bytes());
        }
    }

    /// Some text, as `lengths` cut it.
    fn cut(compression: Compression, text: &[u8], lengths: &[usize]) -> Vec<u8> {
        let mut compressor = Compressor::new(compression).unwrap();
        let (mut file, mut rest) = (Vec::new(), text);
        for length in lengths.iter().cycle() {
            let (piece, others) = rest.split_at((*length).min(rest.len()));
            rest = others;
            file.extend_from_slice(&compressor.push(piece).unwrap());
            if rest.is_empty() {
                break;
            }
        }
        file.extend_from_slice(&compressor.finish().unwrap());
        file
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn files_are_the_same_however_their_bytes_come(
            words in prop::collection::vec(0_u32..500, 20_000..60_000),
            lengths in prop::collection::vec(1_usize..40_000, 1..20),
            compression in prop::sample::select(vec![Compression::Gzip, Compression::Zstd]),
        ) {
            let text: Vec<u8> = words.iter().flat_map(|word| format!("{word} ").into_bytes()).collect();
            prop_assert!(cut(compression, &text, &lengths) == cut(compression, &text, &[usize::MAX]));
        }
    }

    #[test]
    fn nothing_compressed_is_a_whole_file_and_no_member_is_none() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let empty = Compressor::new(compression).unwrap().finish().unwrap();
            assert!(!empty.is_empty());
            assert_eq!(plain(compression, &empty), b"");
            assert_eq!(compressed(compression, Bytes::new()).unwrap(), Bytes::new());
        }
    }
}
