//! `numeric`: digits of base 10,000 (`numeric_send` and `get_str_from_var` in `numeric.c`).

use super::cursor::Cursor;
use super::{Decoded, Malformed};

/// Its value times 10 to the power of `scale`, which is at least that of the value; none for NaN and the infinities.
pub(crate) fn decimal(value: &[u8], scale: i8) -> Decoded<Option<i128>> {
    const TOO_LONG: Malformed = Malformed("a numeric has more digits than its type");
    let mut cursor = Cursor::new(value);
    let (count, weight, sign, _) = (cursor.u16()?, cursor.i16()?, cursor.u16()?, cursor.u16()?);
    let negative = match sign {
        0 => false,
        0x4000 => true,
        0xC000 | 0xD000 | 0xF000 => return Ok(None),
        _ => return Err(Malformed("a numeric has an unknown sign")),
    };
    let mut sum: i128 = 0;
    let mut power = 4 * i32::from(weight) + i32::from(scale);
    for _ in 0..count {
        let group = i128::from(cursor.u16()?);
        let part = match u32::try_from(power) {
            Ok(power) => 10_i128.checked_pow(power).and_then(|factor| factor.checked_mul(group)),
            // Only the last group has digits behind the scale, and they are 0.
            Err(_) => 10_i128.checked_pow(power.unsigned_abs()).map(|divisor| group / divisor),
        };
        sum = part.and_then(|part| sum.checked_add(part)).ok_or(TOO_LONG)?;
        power -= 4;
    }
    cursor.end()?;
    Ok(Some(if negative { -sum } else { sum }))
}

/// Appends its text.
pub(super) fn numeric(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    let (count, weight, sign, scale) = (cursor.u16()?, cursor.i16()?, cursor.u16()?, cursor.u16()?);
    let groups = cursor.take(2 * usize::from(count))?;
    cursor.end()?;
    match sign {
        0 => {}
        0x4000 => out.push(b'-'),
        0xC000 | 0xD000 | 0xF000 => {
            let text: &[u8] = match sign {
                0xC000 => b"NaN",
                0xD000 => b"Infinity",
                _ => b"-Infinity",
            };
            out.extend_from_slice(text);
            return Ok(());
        }
        _ => return Err(Malformed("a numeric has an unknown sign")),
    }
    // The group of weight 0 is the last one before the point; groups that are not there are 0.
    let (groups, _) = groups.as_chunks::<2>();
    let weight = i32::from(weight);
    let group = |place: i32| {
        let bytes = usize::try_from(weight - place).ok().and_then(|index| groups.get(index));
        bytes.map_or(0, |bytes| u16::from_be_bytes(*bytes))
    };
    if weight < 0 {
        out.push(b'0');
    } else {
        super::text::integer(group(weight), out);
        for place in (0..weight).rev() {
            out.extend_from_slice(&four(group(place))?);
        }
    }
    let mut left = usize::from(scale);
    if left > 0 {
        out.push(b'.');
    }
    let mut place = -1;
    while left > 0 {
        let digits = four(group(place))?;
        let here = left.min(4);
        out.extend_from_slice(&digits[..here]);
        left -= here;
        place -= 1;
    }
    Ok(())
}

/// The four digits of a group.
fn four(group: u16) -> Decoded<[u8; 4]> {
    if group >= 10_000 {
        return Err(Malformed("a numeric's digit is not below 10,000"));
    }
    let ([a, b], [c, d]) = (super::date::two(group / 100), super::date::two(group % 100));
    Ok([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::{decimal, numeric};

    fn value(weight: i16, sign: u16, scale: u16, groups: &[u16]) -> Vec<u8> {
        let mut value = u16::try_from(groups.len()).unwrap().to_be_bytes().to_vec();
        value.extend(weight.to_be_bytes());
        for number in [sign, scale].iter().chain(groups) {
            value.extend(number.to_be_bytes());
        }
        value
    }

    fn text(weight: i16, sign: u16, scale: u16, groups: &[u16]) -> String {
        let value = value(weight, sign, scale, groups);
        let mut out = Vec::new();
        numeric(&value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_have_as_many_digits_as_the_scale_says() {
        assert_eq!(text(0, 0, 0, &[]), "0");
        assert_eq!(text(0, 0, 3, &[]), "0.000");
        assert_eq!(text(0, 0x4000, 1, &[12, 5000]), "-12.5");
        assert_eq!(text(1, 0, 2, &[1, 2, 300]), "10002.03");
        assert_eq!(text(2, 0, 0, &[7]), "700000000");
        assert_eq!(text(-1, 0, 4, &[1]), "0.0001");
        assert_eq!(text(-2, 0, 9, &[1230]), "0.000012300");
        assert_eq!(text(0, 0xC000, 0, &[]), "NaN");
        assert_eq!(text(0, 0xD000, 0, &[]), "Infinity");
        assert_eq!(text(0, 0xF000, 0, &[]), "-Infinity");
    }

    #[test]
    fn decimals_are_whole_numbers_of_their_last_place() {
        let found = |weight, sign, scale: u16, groups: &[u16]| {
            let value = value(weight, sign, scale, groups);
            decimal(&value, i8::try_from(scale).unwrap())
        };
        assert_eq!(found(0, 0, 2, &[]), Ok(Some(0)));
        assert_eq!(found(0, 0x4000, 1, &[12, 5000]), Ok(Some(-125)));
        assert_eq!(found(1, 0, 2, &[1, 2, 300]), Ok(Some(1_000_203)));
        assert_eq!(found(2, 0, 0, &[7]), Ok(Some(700_000_000)));
        assert_eq!(found(-1, 0, 4, &[1]), Ok(Some(1)));
        assert_eq!(found(-2, 0, 9, &[1230]), Ok(Some(12_300)));
        let most = [9999; 9].iter().chain(&[9900]).copied().collect::<Vec<u16>>();
        assert_eq!(found(8, 0, 2, &most), Ok(Some(10_i128.pow(38) - 1)));
        for special in [0xC000, 0xD000, 0xF000] {
            assert_eq!(found(0, special, 0, &[]), Ok(None));
        }
        assert!(found(10, 0, 2, &[1; 11]).is_err(), "more digits than 128 bits hold");
        assert!(found(0, 1, 0, &[]).is_err());
    }

    #[test]
    fn what_is_no_numeric_is_refused() {
        for value in [
            &[0, 0, 0, 0, 1, 0, 0, 0][..],
            &[0, 1, 0, 0, 0, 0, 0, 0],
            &[0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        ] {
            assert!(numeric(value, &mut Vec::new()).is_err(), "{value:?}");
        }
    }
}
