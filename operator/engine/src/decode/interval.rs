//! `interval`, in the style `iso_8601` of `EncodeInterval` in PostgreSQL's `datetime.c`.

use super::Decoded;
use super::cursor::Cursor;
use super::date::fraction;
use super::text::integer;

/// Appends its text.
pub(super) fn interval(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    let (microseconds, days, months) = (cursor.i64()?, cursor.i32()?, cursor.i32()?);
    cursor.end()?;
    match (microseconds, days, months) {
        (0, 0, 0) => out.extend_from_slice(b"PT0S"),
        // From PostgreSQL 17 on.
        (i64::MAX, i32::MAX, i32::MAX) => out.extend_from_slice(b"infinity"),
        (i64::MIN, i32::MIN, i32::MIN) => out.extend_from_slice(b"-infinity"),
        _ => {
            out.push(b'P');
            part((months / 12).into(), b'Y', out);
            part((months % 12).into(), b'M', out);
            part(days.into(), b'D', out);
            if microseconds != 0 {
                out.push(b'T');
                time(microseconds, out);
            }
        }
    }
    Ok(())
}

fn time(microseconds: i64, out: &mut Vec<u8>) {
    let (seconds, rest) = (microseconds / 1_000_000, microseconds % 1_000_000);
    part(seconds / 3600, b'H', out);
    part(seconds / 60 % 60, b'M', out);
    let seconds = seconds % 60;
    if seconds != 0 || rest != 0 {
        if microseconds < 0 {
            out.push(b'-');
        }
        integer(seconds.unsigned_abs(), out);
        fraction(rest, out);
        out.push(b'S');
    }
}

fn part(number: i64, unit: u8, out: &mut Vec<u8>) {
    if number != 0 {
        integer(number, out);
        out.push(unit);
    }
}

#[cfg(test)]
mod tests {
    use super::interval;

    #[test]
    fn parts_keep_their_signs() {
        for (microseconds, days, months, wanted) in [
            (0_i64, 0_i32, 0_i32, "PT0S"),
            (1, 0, 0, "PT0.000001S"),
            (-1, 0, 0, "PT-0.000001S"),
            (3_661_500_000, 3, 14, "P1Y2M3DT1H1M1.5S"),
            (-3_661_500_000, -3, -14, "P-1Y-2M-3DT-1H-1M-1.5S"),
            (7_200_000_000, 0, 0, "PT2H"),
            (0, 0, -12, "P-1Y"),
            (-60_000_000, 1, 1, "P1M1DT-1M"),
            (i64::MAX, i32::MAX, i32::MAX, "infinity"),
            (i64::MIN, i32::MIN, i32::MIN, "-infinity"),
            (i64::MIN, 0, 0, "PT-2562047788H-54.775808S"),
        ] {
            let value =
                [&microseconds.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat();
            let mut out = Vec::new();
            interval(&value, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }
}
