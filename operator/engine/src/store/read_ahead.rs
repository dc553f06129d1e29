//! Files that are read one after the other, ahead of who writes them: while the bytes of one range are written, the next ranges,
//! of this file and of those after it, are on their way.
//!
//! Each range has room from the moment that it is asked for until its last byte is taken. So the room bounds both how many
//! requests are under way and how many bytes wait. Ranges get it in their order: whoever has some has the range that is taken
//! next, so nobody waits for room that only it could free.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use pgexport_api::reason::Reason;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::{ByteRange, Reading, Store, Version, replaced};
use crate::error::{Error, Result};
use crate::output::{FIRST_PART, buffer};

/// How many ranges are read ahead for each file under transfer: while the bytes of one are written, the other is on its way.
pub const RANGES_IN_FLIGHT: usize = 2;

/// The most bytes of a range: as a part's, so that their buffers are used again.
pub const RANGE: usize = FIRST_PART;

/// The longest piece of a range that is handed out.
const PIECE: usize = 256 << 10;

/// The room for what is read ahead, shared by all who read.
#[derive(Clone, Debug)]
pub struct ReadAhead {
    room: Arc<Semaphore>,
    /// How many ranges there is room for.
    ranges: usize,
    /// The most bytes of each.
    size: usize,
}

impl ReadAhead {
    /// Room for the ranges of so many files under transfer. A single one may have all of it.
    #[must_use]
    pub fn new(files: usize) -> Self {
        Self::of(files.max(1) * RANGES_IN_FLIGHT, RANGE)
    }

    fn of(ranges: usize, size: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(ranges)), ranges, size }
    }

    /// Reads files, of which keys and lengths are told, in their order.
    #[must_use]
    pub fn read(&self, store: Arc<dyn Store>, files: Vec<(String, u64)>) -> FileSequence {
        let Self { room, ranges: limit, size } = self.clone();
        let wanted = files.into_iter().flat_map(move |(key, bytes)| {
            ranges(bytes, size).map(move |(range, told)| (key.clone(), range, told))
        });
        let from = store.clone();
        let ahead = stream::iter(wanted)
            .then(move |wanted| {
                let room = room.clone();
                async move { (wanted, room.acquire_owned().await.map_err(closed)) }
            })
            .map(move |((key, range, told), room)| {
                let store = from.clone();
                let fetch = async move { fetch(store.as_ref(), key, range, told, room?).await };
                // A task of its own, as nobody polls this stream while bytes are written. It ends with its handle.
                let (fetch, handle) = fetch.remote_handle();
                tokio::spawn(fetch);
                handle
            })
            .buffered(limit);
        FileSequence { store, ahead: ahead.boxed(), current: None, version: None }
    }
}

/// Files' bytes, one file after the other. Whoever drops it stops what is under way.
pub struct FileSequence {
    store: Arc<dyn Store>,
    ahead: BoxStream<'static, Result<Fetched>>,
    /// The range that is being taken.
    current: Option<Fetched>,
    /// That of the file that is being taken.
    version: Option<Version>,
}

impl FileSequence {
    /// The next bytes of the current file, in pieces of at most a few hundred KiB; `None` where it ends: those of the next file follow.
    /// All bytes of a file come, also where it is longer than was told. After one that is shorter nothing comes, and after an error it is not to be asked again.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(range) = &mut self.current else {
                let Some(range) = self.ahead.try_next().await? else { return Ok(None) };
                self.begin(range)?;
                continue;
            };
            if let Some(piece) = range.next().await? {
                return Ok(Some(piece));
            }
            let ends_file = range.is_last;
            self.current = None;
            if ends_file {
                self.version = None;
                return Ok(None);
            }
        }
    }

    fn begin(&mut self, range: Fetched) -> Result<()> {
        match (&self.version, &range.version) {
            (Some(first), Some(other)) if first != other => {
                return Err(replaced(&self.store.uri(&range.key)));
            }
            (None, Some(first)) => self.version = Some(first.clone()),
            _ => {}
        }
        if range.is_short {
            self.ahead = stream::empty().boxed();
        }
        self.current = Some(range);
        Ok(())
    }
}

/// A range that has been read.
struct Fetched {
    key: String,
    version: Option<Version>,
    bytes: Bytes,
    /// What follows, where the file is longer than was told: it has no room, and is read when it is taken.
    rest: Option<BoxStream<'static, Result<Bytes>>>,
    /// Whether it has less than was told.
    is_short: bool,
    /// Whether the file ends with it.
    is_last: bool,
    /// Freed with it.
    _room: OwnedSemaphorePermit,
}

impl Fetched {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if !self.bytes.is_empty() {
            return Ok(Some(self.bytes.split_to(self.bytes.len().min(PIECE))));
        }
        match &mut self.rest {
            Some(rest) => rest.try_next().await,
            None => Ok(None),
        }
    }
}

/// Reads a range of which `told` bytes are expected.
async fn fetch(
    store: &dyn Store,
    key: String,
    range: ByteRange,
    told: usize,
    room: OwnedSemaphorePermit,
) -> Result<Fetched> {
    let Reading { version, mut pieces } = store.read_range(&key, range).await?;
    let mut bytes = buffer::take(told);
    let mut rest = None;
    while let Some(piece) = pieces.try_next().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > told {
            rest = Some(pieces);
            break;
        }
    }
    let is_short = bytes.len() < told;
    let is_last = is_short || range.length.is_none();
    Ok(Fetched { key, version, bytes: buffer::shared(bytes), rest, is_short, is_last, _room: room })
}

/// The ranges of a file of so many bytes, with the bytes that each is expected to have. The last one is open: a file that is longer
/// than was told is read as a whole.
fn ranges(bytes: u64, size: usize) -> impl Iterator<Item = (ByteRange, usize)> + Send {
    let count = bytes.div_ceil(size as u64).max(1);
    (0..count).map(move |number| {
        let from = number * size as u64;
        let length = (number + 1 < count).then_some(size as u64);
        (ByteRange { from, length }, usize::try_from(bytes - from).unwrap_or(size).min(size))
    })
}

fn closed(error: AcquireError) -> Error {
    Error::new(Reason::InternalError, "there is no room for reading ahead any more").with_source(error)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use pgexport_api::sink::Volume;
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::{FileSequence, ReadAhead, ranges};
    use crate::store::Store;
    use crate::store::volume::VolumeStore;

    fn store(folder: &Path) -> Arc<dyn Store> {
        let volume = Volume { claim_name: "exports".to_owned(), path: String::new() };
        Arc::new(VolumeStore::new(&volume, folder.to_owned()).unwrap())
    }

    /// Writes files of so many bytes, and reads them as if they had as many as is told.
    fn read(ahead: &ReadAhead, folder: &Path, files: &[(usize, u64)]) -> (Vec<Vec<u8>>, FileSequence) {
        let mut bodies = Vec::new();
        let mut told = Vec::new();
        for (number, (bytes, length)) in files.iter().enumerate() {
            let body: Vec<u8> = (0..=250).cycle().skip(number * 7).take(*bytes).collect();
            std::fs::write(folder.join(number.to_string()), &body).unwrap();
            bodies.push(body);
            told.push((number.to_string(), *length));
        }
        (bodies, ahead.read(store(folder), told))
    }

    async fn next_file(files: &mut FileSequence) -> crate::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(piece) = files.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    proptest! {
        #[test]
        fn bytes_come_in_their_order_whatever_the_sizes_of_ranges_and_files(
            files in prop::collection::vec(0_usize..40, 0..12),
            size in 1_usize..20,
            room in 1_usize..6,
        ) {
            let folder = TempDir::new().unwrap();
            let files: Vec<_> = files.into_iter().map(|bytes| (bytes, bytes as u64)).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (bodies, mut sequence) = read(&ReadAhead::of(room, size), folder.path(), &files);
                for body in bodies {
                    assert_eq!(next_file(&mut sequence).await.unwrap(), body);
                }
                assert_eq!(sequence.next().await.unwrap(), None);
            });
        }
    }

    #[test]
    fn ranges_are_all_bytes_once_and_the_last_one_is_open() {
        for bytes in [0, 1, 7, 8, 9, 16, 17] {
            let ranges: Vec<_> = ranges(bytes, 8).collect();
            let told = ranges.iter().map(|(_, told)| *told as u64).sum::<u64>();
            let from = ranges.iter().map(|(range, _)| range.from);
            assert_eq!(told, bytes);
            assert!(from.eq((0..ranges.len() as u64).map(|number| number * 8)), "{bytes}");
            let (last, others) = ranges.split_last().unwrap();
            assert!(
                last.0.length.is_none() && others.iter().all(|(range, _)| range.length == Some(8)),
                "{bytes}"
            );
        }
    }

    #[tokio::test]
    async fn a_longer_file_comes_whole_and_a_shorter_one_is_the_last() {
        let folder = TempDir::new().unwrap();
        let files = [(30, 5), (20, 0), (9, 9), (9, u64::MAX), (4, 4)];
        let (bodies, mut sequence) = read(&ReadAhead::of(3, 8), folder.path(), &files);
        for body in &bodies[..4] {
            assert_eq!(next_file(&mut sequence).await.unwrap(), *body);
        }
        assert_eq!(next_file(&mut sequence).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_file_that_is_missing_is_told_in_its_turn() {
        let folder = TempDir::new().unwrap();
        let (bodies, mut sequence) = read(&ReadAhead::of(4, 8), folder.path(), &[(30, 30), (9, 9)]);
        std::fs::remove_file(folder.path().join("1")).unwrap();
        assert_eq!(next_file(&mut sequence).await.unwrap(), bodies[0]);
        let error = next_file(&mut sequence).await.unwrap_err();
        assert!(error.to_string().contains("volume://exports/1 does not exist"), "{error}");
    }

    #[tokio::test]
    async fn a_range_keeps_its_room_until_it_is_taken() {
        let folder = TempDir::new().unwrap();
        let ahead = ReadAhead::of(3, 8);
        let (bodies, mut sequence) = read(&ahead, folder.path(), &[(80, 80), (80, 80)]);
        assert_eq!(ahead.room.available_permits(), 3);
        assert_eq!(sequence.next().await.unwrap().unwrap(), bodies[0][..8]);
        assert_eq!(ahead.room.available_permits(), 0, "one is taken, and two wait");
        // Another sequence gets its turn, and both come to their ends.
        let mut other = ahead.read(store(folder.path()), vec![("1".to_owned(), 80)]);
        let (first, second) = tokio::join!(next_file(&mut sequence), next_file(&mut other));
        assert_eq!((first.unwrap(), second.unwrap()), (bodies[0][8..].to_vec(), bodies[1].clone()));
        drop(sequence);
        assert_eq!(next_file(&mut other).await.unwrap(), b"");
        let all = tokio::time::timeout(Duration::from_secs(30), ahead.room.acquire_many(3)).await;
        assert!(all.is_ok(), "room is lost");
    }
}
