//! Sizes of parts. S3 takes at most 10,000 parts of at most 5 GiB, all but the last of at least 5 MiB, and files of at most
//! 5 TiB; nobody knows a file's size before its end. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>

/// The size of the first parts, in bytes.
pub const FIRST_PART: usize = 8 << 20;

/// The size of the last parts of the longest files, in bytes.
pub const MAX_PART: usize = 1 << 30;

/// How many parts a file may have.
pub const MAX_PARTS: u32 = 10_000;

/// Sizes double after so many parts: files of up to 6 GiB are held in parts of 8 MiB, of up to 100 GiB in parts of 128 MiB,
/// of up to 800 GiB in parts of 512 MiB.
const STEP: u32 = 800;

/// The size of the part with this number, from 0. Equal bytes are always cut equally.
#[must_use]
pub fn part_size(number: u32) -> usize {
    let doublings = (number / STEP).min((MAX_PART / FIRST_PART).ilog2());
    FIRST_PART << doublings
}

#[cfg(test)]
mod tests {
    use super::{FIRST_PART, MAX_PART, MAX_PARTS, part_size};

    #[test]
    fn the_longest_file_fits_into_the_greatest_number_of_parts() {
        let total: u64 = (0..MAX_PARTS).map(|number| part_size(number) as u64).sum();
        assert!(total >= 5 << 40, "{total}");
    }

    #[test]
    fn sizes_grow_from_the_first_to_the_last_and_stay_in_bounds() {
        assert_eq!((part_size(0), part_size(799), part_size(800)), (FIRST_PART, FIRST_PART, 2 * FIRST_PART));
        assert!((1..MAX_PARTS).all(|number| part_size(number) >= part_size(number - 1)));
        assert_eq!((part_size(MAX_PARTS - 1), part_size(u32::MAX)), (MAX_PART, MAX_PART));
    }
}
