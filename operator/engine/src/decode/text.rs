//! The text of a value, as its type's output function writes it.

use super::cursor::{Cursor, whole};
use super::date::Style;
use super::{
    Decoded, Malformed, Scalar, Shape, bit, date, float, geometry, interval, nested, network, numeric, search,
};

/// Appends the text of a value that is not NULL.
pub(crate) fn write_text(shape: &Shape, value: &[u8], out: &mut Vec<u8>) -> Decoded {
    match shape {
        Shape::Scalar(scalar) => write_scalar(*scalar, value, out),
        Shape::Decimal { .. } => numeric::numeric(value, out),
        Shape::Array { element, delimiter } => nested::array(element, *delimiter, value, out),
        Shape::Composite(attributes) => nested::composite(attributes, value, out),
        Shape::Range(bound) => nested::range(bound, value, out),
        Shape::Multirange(bound) => nested::multirange(bound, value, out),
    }
}

/// Appends the text of a scalar value.
pub(super) fn write_scalar(scalar: Scalar, value: &[u8], out: &mut Vec<u8>) -> Decoded {
    match scalar {
        Scalar::Bool => out.push(if boolean(value)? { b't' } else { b'f' }),
        Scalar::Int2 => integer(i16::from_be_bytes(whole(value)?), out),
        Scalar::Int4 => integer(i32::from_be_bytes(whole(value)?), out),
        Scalar::Int8 => integer(i64::from_be_bytes(whole(value)?), out),
        Scalar::Oid => integer(u32::from_be_bytes(whole(value)?), out),
        Scalar::Xid8 => integer(u64::from_be_bytes(whole(value)?), out),
        Scalar::Tid => tid(value, out)?,
        Scalar::Lsn => lsn(value, out)?,
        Scalar::Float4 => float::float4(f32::from_be_bytes(whole(value)?), out),
        Scalar::Float8 => float::float8(f64::from_be_bytes(whole(value)?), out),
        Scalar::Numeric => numeric::numeric(value, out)?,
        Scalar::Text | Scalar::Json => out.extend_from_slice(value),
        Scalar::Bytea => {
            out.extend_from_slice(b"\\x");
            hex(value, out);
        }
        Scalar::Jsonb | Scalar::Jsonpath => out.extend_from_slice(versioned(value)?),
        Scalar::Uuid => uuid(whole(value)?, out),
        Scalar::Date => date::date(i32::from_be_bytes(whole(value)?), out),
        Scalar::Time => date::time(i64::from_be_bytes(whole(value)?), out),
        Scalar::Timetz => date::timetz(value, out)?,
        Scalar::Timestamp => date::timestamp(i64::from_be_bytes(whole(value)?), Style::Iso, out),
        Scalar::Timestamptz => date::timestamptz(i64::from_be_bytes(whole(value)?), Style::Iso, out),
        Scalar::Interval => interval::interval(value, out)?,
        Scalar::Inet => network::inet(value, out)?,
        Scalar::Macaddr => network::macaddr(value, out)?,
        Scalar::Bit => bit::bits(value, out)?,
        Scalar::Point => geometry::point(value, out)?,
        Scalar::Lseg => geometry::lseg(value, out)?,
        Scalar::Box => geometry::rectangle(value, out)?,
        Scalar::Path => geometry::path(value, out)?,
        Scalar::Polygon => geometry::polygon(value, out)?,
        Scalar::Line => geometry::line(value, out)?,
        Scalar::Circle => geometry::circle(value, out)?,
        Scalar::Tsvector => search::tsvector(value, out)?,
    }
    Ok(())
}

pub(crate) fn boolean(value: &[u8]) -> Decoded<bool> {
    whole::<1>(value).map(|[byte]| byte != 0)
}

pub(super) fn integer(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends two hexadecimal digits a byte.
pub(crate) fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const BLOCK: usize = 64;
    let mut digits = [0_u8; 2 * BLOCK];
    for block in bytes.chunks(BLOCK) {
        for (pair, &byte) in digits.chunks_exact_mut(2).zip(block) {
            pair.copy_from_slice(&HEX[usize::from(byte)]);
        }
        out.extend_from_slice(&digits[..2 * block.len()]);
    }
}

/// The digits of each byte.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

/// What follows the version, of which there is only 1, in a `jsonb` and a `jsonpath`.
pub(crate) fn versioned(value: &[u8]) -> Decoded<&[u8]> {
    match value.split_first() {
        Some((1, text)) => Ok(text),
        _ => Err(Malformed("the version of a jsonb or jsonpath is not 1")),
    }
}

fn uuid(bytes: [u8; 16], out: &mut Vec<u8>) {
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let mut text = [b'-'; 36];
    for (place, byte) in PLACES.into_iter().zip(bytes) {
        text[place..place + 2].copy_from_slice(&HEX[usize::from(byte)]);
    }
    out.extend_from_slice(&text);
}

fn tid(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    let (block, offset) = (cursor.u32()?, cursor.u16()?);
    out.push(b'(');
    integer(block, out);
    out.push(b',');
    integer(offset, out);
    out.push(b')');
    cursor.end()
}

fn lsn(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    let (high, low) = (cursor.u32()?, cursor.u32()?);
    out.extend_from_slice(format!("{high:X}/{low:X}").as_bytes());
    cursor.end()
}

#[cfg(test)]
mod tests {
    use super::super::{Scalar, Shape};
    use super::write_text;

    fn text(scalar: Scalar, value: &[u8]) -> String {
        let mut out = Vec::new();
        write_text(&Shape::Scalar(scalar), value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn plain_values() {
        assert_eq!(text(Scalar::Bool, &[1]), "t");
        assert_eq!(text(Scalar::Bool, &[0]), "f");
        assert_eq!(text(Scalar::Int2, &i16::MIN.to_be_bytes()), "-32768");
        assert_eq!(text(Scalar::Int8, &i64::MIN.to_be_bytes()), "-9223372036854775808");
        assert_eq!(text(Scalar::Oid, &u32::MAX.to_be_bytes()), "4294967295");
        assert_eq!(text(Scalar::Xid8, &u64::MAX.to_be_bytes()), "18446744073709551615");
        assert_eq!(text(Scalar::Tid, &[0, 0, 0, 7, 0, 2]), "(7,2)");
        assert_eq!(text(Scalar::Lsn, &0x16_0b37_4800_u64.to_be_bytes()), "16/B374800");
        assert_eq!(text(Scalar::Bytea, &[]), "\\x");
        assert_eq!(text(Scalar::Bytea, &[0, 0xab, 0xff]), "\\x00abff");
        assert_eq!(text(Scalar::Bytea, &[0x5a; 200]), format!("\\x{}", "5a".repeat(200)));
        assert_eq!(text(Scalar::Jsonb, b"\x01[1]"), "[1]");
        let uuid: Vec<u8> = (0..16).map(|byte| byte * 17).collect();
        assert_eq!(text(Scalar::Uuid, &uuid), "00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn values_of_a_wrong_length_are_refused() {
        for scalar in [
            Scalar::Bool,
            Scalar::Int2,
            Scalar::Int4,
            Scalar::Int8,
            Scalar::Tid,
            Scalar::Lsn,
            Scalar::Float4,
            Scalar::Float8,
            Scalar::Numeric,
            Scalar::Jsonb,
            Scalar::Uuid,
            Scalar::Date,
            Scalar::Timetz,
            Scalar::Interval,
            Scalar::Inet,
            Scalar::Macaddr,
            Scalar::Bit,
            Scalar::Path,
            Scalar::Circle,
            Scalar::Tsvector,
        ] {
            for value in [&[][..], &[0; 33]] {
                let refused = write_text(&Shape::Scalar(scalar), value, &mut Vec::new()).is_err();
                assert!(refused, "{scalar:?} {value:?}");
            }
        }
    }
}
