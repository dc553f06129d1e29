//! Floats as PostgreSQL prints them with `extra_float_digits` above 0: the shortest text that is read back as the same
//! value (`src/common/d2s.c`). Unlike Ryu it takes no text that lies halfway between two values, so that a reader's way
//! of rounding does not matter: `1e23` is printed as `9.999999999999999e+22`.

/// Appends a `double precision`.
pub(super) fn float8(value: f64, out: &mut Vec<u8>) {
    if special(value, out) {
        return;
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value);
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-4..1e15).contains(&magnitude) {
        return plain(text, out);
    }
    let bits = magnitude.to_bits();
    let binary = Binary::new(bits & ((1 << 52) - 1), (bits >> 52) & 0x7ff, 52, 1023);
    let decimal = Decimal::of(text);
    let decimal = if binary.is_bounded_by(decimal) {
        candidates(|digits| format!("{magnitude:.digits$e}"))
            .find(|candidate| {
                candidate.value::<f64>() == Some(magnitude) && !binary.is_bounded_by(*candidate)
            })
            .unwrap_or(decimal)
    } else {
        decimal
    };
    decimal.scientific(value.is_sign_negative(), out);
}

/// Appends a `real`.
pub(super) fn float4(value: f32, out: &mut Vec<u8>) {
    if special(f64::from(value), out) {
        return;
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value);
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-4..1e6).contains(&magnitude) {
        return plain(text, out);
    }
    let bits = u64::from(magnitude.to_bits());
    let binary = Binary::new(bits & ((1 << 23) - 1), bits >> 23, 23, 127);
    let decimal = Decimal::of(text);
    let decimal = if binary.is_bounded_by(decimal) {
        candidates(|digits| format!("{magnitude:.digits$e}"))
            .find(|candidate| {
                candidate.value::<f32>() == Some(magnitude) && !binary.is_bounded_by(*candidate)
            })
            .unwrap_or(decimal)
    } else {
        decimal
    };
    decimal.scientific(value.is_sign_negative(), out);
}

fn special(value: f64, out: &mut Vec<u8>) -> bool {
    let text: &[u8] = if value.is_nan() {
        b"NaN"
    } else if value == f64::INFINITY {
        b"Infinity"
    } else if value == f64::NEG_INFINITY {
        b"-Infinity"
    } else {
        return false;
    };
    out.extend_from_slice(text);
    true
}

/// Ryu's text, without the `.0` of whole numbers.
fn plain(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
}

/// Each rounding of a value to a number of digits, the shortest first.
fn candidates(round: impl Fn(usize) -> String) -> impl Iterator<Item = Decimal> {
    (0..17).map(move |digits| Decimal::of(&round(digits)))
}

/// `digits * 10^exponent`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decimal {
    digits: u64,
    exponent: i32,
}

impl Decimal {
    /// Of a text such as `-12.5e-7`, without its sign; zeros at the end go into the exponent.
    fn of(text: &str) -> Self {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let mut decimal = Self { digits: 0, exponent: exponent.parse().unwrap_or_default() };
        let mut fraction = false;
        for byte in mantissa.bytes() {
            match byte {
                b'.' => fraction = true,
                b'0'..=b'9' => {
                    decimal.digits = decimal.digits.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                    decimal.exponent -= i32::from(fraction);
                }
                _ => {}
            }
        }
        while decimal.digits != 0 && decimal.digits.is_multiple_of(10) {
            decimal.digits /= 10;
            decimal.exponent += 1;
        }
        decimal
    }

    fn value<T: std::str::FromStr>(self) -> Option<T> {
        format!("{}e{}", self.digits, self.exponent).parse().ok()
    }

    /// As `d.ddde+xx`.
    fn scientific(self, negative: bool, out: &mut Vec<u8>) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(self.digits);
        let (first, rest) = digits.split_at(1);
        if negative {
            out.push(b'-');
        }
        out.extend_from_slice(first.as_bytes());
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest.as_bytes());
        }
        let exponent = rest.bytes().fold(self.exponent, |exponent, _| exponent + 1);
        out.extend([b'e', if exponent < 0 { b'-' } else { b'+' }]);
        if exponent.abs() < 10 {
            out.push(b'0');
        }
        super::text::integer(exponent.abs(), out);
    }
}

/// `mantissa * 2^exponent`, a float above 0.
#[derive(Clone, Copy, Debug)]
struct Binary {
    mantissa: u64,
    exponent: i32,
    /// Whether the next smaller value is only half as far away as the next larger one.
    narrow: bool,
}

impl Binary {
    fn new(fraction: u64, stored: u64, bits: u32, offset: i32) -> Self {
        let hidden = if stored == 0 { 0 } else { 1 << bits };
        let stored = i32::try_from(stored.max(1)).unwrap_or_default();
        let exponent = stored - offset - i32::try_from(bits).unwrap_or_default();
        Self { mantissa: hidden | fraction, exponent, narrow: fraction == 0 && stored > 1 }
    }

    /// Whether a decimal number lies exactly halfway to the next value in either direction.
    fn is_bounded_by(self, decimal: Decimal) -> bool {
        let above = (2 * self.mantissa + 1, self.exponent - 1);
        let below = if self.narrow {
            (4 * self.mantissa - 1, self.exponent - 2)
        } else {
            ((2 * self.mantissa).saturating_sub(1), self.exponent - 1)
        };
        [above, below].into_iter().any(|(odd, exponent)| equal(decimal, odd, exponent))
    }
}

/// Whether `decimal == odd * 2^exponent`, with an odd number. Both sides are compared as an odd number times a power of
/// two; an odd number that exceeds 64 bits is none of a float's.
fn equal(decimal: Decimal, odd: u64, exponent: i32) -> bool {
    if decimal.digits == 0 {
        return false;
    }
    let twos = decimal.digits.trailing_zeros();
    let scaled = |number: u64, fives: u32| 5_u64.checked_pow(fives)?.checked_mul(number);
    let fives = decimal.exponent.unsigned_abs();
    let (ours, theirs) = if decimal.exponent < 0 {
        (Some(decimal.digits >> twos), scaled(odd, fives))
    } else {
        (scaled(decimal.digits >> twos, fives), Some(odd))
    };
    ours.is_some() && ours == theirs && i64::from(twos) + i64::from(decimal.exponent) == i64::from(exponent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{float4, float8};

    fn text8(value: f64) -> String {
        let mut out = Vec::new();
        float8(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn text4(value: f32) -> String {
        let mut out = Vec::new();
        float4(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// What PostgreSQL 15 prints.
    #[test]
    fn texts_are_those_of_postgresql() {
        for (value, wanted) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.3, "0.3"),
            (0.1 + 0.2, "0.30000000000000004"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456_789_012_345.0, "123456789012345"),
            (999_999_999_999_999.9, "999999999999999.9"),
            (1e15, "1e+15"),
            (1.5e15, "1.5e+15"),
            (9_007_199_254_740_993.0, "9.007199254740992e+15"),
            (1e22, "1e+22"),
            (1e23, "9.999999999999999e+22"),
            (2e23, "1.9999999999999998e+23"),
            (1_152_921_504_606_846_976.0, "1.152921504606847e+18"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text8(value), wanted);
        }
        for (value, wanted) in [
            (0.1, "0.1"),
            (999_999.0, "999999"),
            (1e6, "1e+06"),
            (9.536_743e-7, "9.536743e-07"),
            (f32::MAX, "3.4028235e+38"),
            (1e-45, "1e-45"),
            (-0.0, "-0"),
            (f32::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text4(value), wanted);
        }
    }

    proptest! {
        #[test]
        fn texts_are_read_back_as_the_same_value(bits in any::<u64>(), small in any::<u32>()) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                prop_assert_eq!(text8(value).parse::<f64>().unwrap().to_bits(), bits);
            }
            let value = f32::from_bits(small);
            if value.is_finite() {
                prop_assert_eq!(text4(value).parse::<f32>().unwrap().to_bits(), small);
            }
        }
    }
}
