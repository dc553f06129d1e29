//! CRC-64/NVME, the checksum that S3 keeps of a whole object.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, Digest, checksum_combine};
use serde::{Deserialize, Serialize};

/// A CRC-64/NVME, by default that of no bytes; as text it is Base64 over its eight bytes, as in S3's `x-amz-checksum-crc64nvme`.
#[derive(Serialize, Deserialize, Clone, Copy, Default, PartialEq, Eq)]
#[serde(into = "String", try_from = "String")]
pub struct Crc64Nvme(u64);

/// Computes a [`Crc64Nvme`] piece by piece.
#[derive(Clone, Copy, Debug)]
pub struct Crc64NvmeHasher(Digest);

/// A text that is no [`Crc64Nvme`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a CRC64NVME is eight bytes in Base64")]
pub struct InvalidCrc64Nvme;

impl Default for Crc64NvmeHasher {
    fn default() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Nvme))
    }
}

impl Crc64NvmeHasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    #[must_use]
    pub fn checksum(&self) -> Crc64Nvme {
        Crc64Nvme(self.0.finalize())
    }
}

impl Crc64Nvme {
    /// The checksum of these bytes and of so many after them, of which the other one is.
    #[must_use]
    pub fn followed_by(self, other: Self, bytes: u64) -> Self {
        Self(checksum_combine(CrcAlgorithm::Crc64Nvme, self.0, other.0, bytes))
    }
}

impl fmt::Display for Crc64Nvme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&STANDARD.encode(self.0.to_be_bytes()))
    }
}

impl fmt::Debug for Crc64Nvme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Crc64Nvme({self})")
    }
}

impl FromStr for Crc64Nvme {
    type Err = InvalidCrc64Nvme;

    fn from_str(text: &str) -> Result<Self, InvalidCrc64Nvme> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidCrc64Nvme)?;
        let bytes = bytes.try_into().map_err(|_| InvalidCrc64Nvme)?;
        Ok(Self(u64::from_be_bytes(bytes)))
    }
}

impl From<Crc64Nvme> for String {
    fn from(checksum: Crc64Nvme) -> Self {
        checksum.to_string()
    }
}

impl TryFrom<String> for Crc64Nvme {
    type Error = InvalidCrc64Nvme;

    fn try_from(text: String) -> Result<Self, InvalidCrc64Nvme> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::{Crc64Nvme, Crc64NvmeHasher, InvalidCrc64Nvme};

    /// The check value of CRC-64/NVME in the catalogue of parametrised CRC algorithms.
    #[test]
    fn the_catalogue_s_check_value_comes_out_in_pieces_too() {
        let mut hasher = Crc64NvmeHasher::default();
        hasher.update(b"1234");
        hasher.update(b"56789");
        assert_eq!(hasher.checksum(), Crc64Nvme(0xae8b_1486_0a79_9888));
    }

    #[test]
    fn no_bytes_have_the_default() {
        assert_eq!(Crc64NvmeHasher::default().checksum(), Crc64Nvme::default());
    }

    #[test]
    fn text_is_read_as_it_is_written() {
        let text = Crc64Nvme(0xae8b_1486_0a79_9888).to_string();
        assert_eq!(text, "rosUhgp5mIg=");
        assert_eq!(text.parse(), Ok(Crc64Nvme(0xae8b_1486_0a79_9888)));
        assert_eq!("AAAA".parse::<Crc64Nvme>(), Err(InvalidCrc64Nvme));
    }
}
