//! Files as customers see them: names, framing, parts and checksums.

mod checksum;
mod file;
mod frame;
mod name;
mod part;

pub use checksum::{Crc64Nvme, Crc64NvmeHasher};
pub use file::{FileDigest, FileWriter, FinishedFile, PartDigest};
pub use frame::Framer;
pub use name::file_name;
pub use part::{FIRST_PART, MAX_PART, MAX_PARTS, part_size};
