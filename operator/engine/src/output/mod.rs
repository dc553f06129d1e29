//! Files as customers see them: names, framing, compression, parts and checksums.

pub(crate) mod buffer;
mod checksum;
mod compress;
mod file;
mod frame;
mod name;
mod pack;
mod parquet;
mod part;

pub use self::parquet::ParquetJoiner;
pub use checksum::{Crc64Nvme, Crc64NvmeHasher};
pub use compress::{Compressor, compressed};
pub use file::{FileDigest, FileWriter, FinishedFile, PartDigest};
pub use frame::Framer;
pub use name::{file_name, media_type, with_extensions};
pub use pack::{Packer, Role};
pub use part::{FIRST_PART, MAX_PART, MAX_PARTS, part_size};
