//! The memory of parts, used again: fresh memory costs the kernel more than it costs us to fill it.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::part::FIRST_PART;

/// Buffers that nobody holds. There are never more than were held at once.
static IDLE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Below this a buffer of a whole part's size would be a waste.
const SMALL: usize = 1 << 20;

/// An empty buffer with room for so many bytes.
pub(crate) fn take(size: usize) -> Vec<u8> {
    let size = if (SMALL..FIRST_PART).contains(&size) { FIRST_PART } else { size };
    let idle = if size == FIRST_PART { idle().pop() } else { None };
    idle.unwrap_or_else(|| Vec::with_capacity(size))
}

/// A buffer's bytes. When the last of those who hold them lets go, the buffer is idle.
pub(crate) fn shared(buffer: Vec<u8>) -> Bytes {
    Bytes::from_owner(Held(buffer))
}

struct Held(Vec<u8>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        // Small ones are small files, and larger ones parts of files that are very long: neither comes again soon.
        if buffer.capacity() == FIRST_PART {
            buffer.clear();
            idle().push(buffer);
        }
    }
}

fn idle() -> std::sync::MutexGuard<'static, Vec<Vec<u8>>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{FIRST_PART, shared, take};

    #[test]
    fn a_buffer_comes_again_empty_once_nobody_holds_it() {
        let mut buffer = take(FIRST_PART);
        assert_eq!((buffer.len(), buffer.capacity()), (0, FIRST_PART));
        buffer.extend_from_slice(b"part");
        let (place, part) = (buffer.as_ptr(), shared(buffer));
        let other = part.slice(1..);
        drop(part);
        assert_eq!(other, b"art"[..]);
        drop(other);
        // Other tests may use some too.
        let again: Vec<_> = (0..64).map(|_| take(FIRST_PART)).collect();
        assert!(again.iter().all(Vec::is_empty));
        assert!(again.iter().any(|buffer| buffer.as_ptr() == place));
    }
}
