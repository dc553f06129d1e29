//! `bit` and `bit varying` (`varbit.c` of PostgreSQL).

use super::cursor::Cursor;
use super::{Decoded, Malformed};

/// Appends a digit a bit.
pub(super) fn bits(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    let mut left = cursor.count()?;
    let bytes = cursor.take(left.div_ceil(8))?;
    for byte in bytes {
        let here = left.min(8);
        let digits: [u8; 8] = std::array::from_fn(|bit| b'0' + ((byte >> (7 - bit)) & 1));
        out.extend_from_slice(&digits[..here]);
        left -= here;
    }
    if left > 0 {
        return Err(Malformed("a bit string is shorter than it says"));
    }
    cursor.end()
}

#[cfg(test)]
mod tests {
    use super::bits;

    #[test]
    fn the_last_byte_may_be_filled_in_part() {
        for (value, wanted) in [
            (&[0, 0, 0, 0][..], ""),
            (&[0, 0, 0, 3, 0b1010_0000], "101"),
            (&[0, 0, 0, 9, 0xff, 0x80], "111111111"),
        ] {
            let mut out = Vec::new();
            bits(value, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }
}
