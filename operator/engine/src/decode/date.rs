//! Dates, times and timestamps, in the ISO forms of `EncodeDateTime` in PostgreSQL's `datetime.c`.

use super::Decoded;
use super::cursor::Cursor;
use super::text::integer;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// How a date and a time are joined, and a zone is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// As text: `2026-01-02 03:04:05+00`.
    Iso,
    /// As JSON has it: `2026-01-02T03:04:05+00:00`.
    Xsd,
}

/// Appends a `date`: days since 2000.
pub(super) fn date(days: i32, out: &mut Vec<u8>) {
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        _ => {
            let before_christ = day(i64::from(days), out);
            era(before_christ, out);
        }
    }
}

/// Appends a `timestamp`: microseconds since 2000.
pub(super) fn timestamp(microseconds: i64, style: Style, out: &mut Vec<u8>) {
    moment(microseconds, style, b"", out);
}

/// Appends a `timestamptz`, in UTC.
pub(super) fn timestamptz(microseconds: i64, style: Style, out: &mut Vec<u8>) {
    moment(microseconds, style, if style == Style::Xsd { b"+00:00" } else { b"+00" }, out);
}

fn moment(microseconds: i64, style: Style, zone: &[u8], out: &mut Vec<u8>) {
    match microseconds {
        i64::MAX => return out.extend_from_slice(b"infinity"),
        i64::MIN => return out.extend_from_slice(b"-infinity"),
        _ => {}
    }
    let before_christ = day(microseconds.div_euclid(DAY), out);
    out.push(if style == Style::Xsd { b'T' } else { b' ' });
    time(microseconds.rem_euclid(DAY), out);
    out.extend_from_slice(zone);
    era(before_christ, out);
}

/// Appends a `time`: microseconds since midnight, up to 24:00:00.
pub(super) fn time(microseconds: i64, out: &mut Vec<u8>) {
    let (seconds, fraction) = (microseconds.div_euclid(SECOND), microseconds.rem_euclid(SECOND));
    clock(seconds, out);
    self::fraction(fraction, out);
}

/// Appends a `timetz`: a time, and seconds west of Greenwich.
pub(super) fn timetz(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    let (microseconds, west) = (cursor.i64()?, cursor.i32()?);
    time(microseconds, out);
    out.push(if west <= 0 { b'+' } else { b'-' });
    let seconds = west.unsigned_abs();
    let parts = [seconds / 3600, seconds / 60 % 60, seconds % 60];
    let shown = match parts {
        [_, 0, 0] => 1,
        [_, _, 0] => 2,
        _ => 3,
    };
    for (index, part) in parts.into_iter().take(shown).enumerate() {
        if index > 0 {
            out.push(b':');
        }
        padded(i64::from(part), out);
    }
    cursor.end()
}

/// Appends `.` and up to six digits of a second's microseconds, without zeros at the end; nothing for 0.
pub(super) fn fraction(microseconds: i64, out: &mut Vec<u8>) {
    if microseconds == 0 {
        return;
    }
    let rest = microseconds.unsigned_abs();
    let pairs =
        [rest / 10_000, rest / 100, rest].map(|number| two(u16::try_from(number % 100).unwrap_or_default()));
    let mut text = [b'.'; 7];
    text[1..].copy_from_slice(pairs.as_flattened());
    let length = text.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    out.extend_from_slice(&text[..length]);
}

/// The two digits of a number below 100.
pub(super) const fn two(number: u16) -> [u8; 2] {
    PAIRS[(number % 100) as usize]
}

/// The digits of each number below 100.
const PAIRS: [[u8; 2]; 100] = {
    let digits = b"0123456789";
    let mut table = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        table[number] = [digits[number / 10], digits[number % 10]];
        number += 1;
    }
    table
};

/// Appends at least two digits.
fn padded(number: i64, out: &mut Vec<u8>) {
    match u16::try_from(number) {
        Ok(number) if number < 100 => out.extend(two(number)),
        _ => integer(number, out),
    }
}

fn clock(seconds: i64, out: &mut Vec<u8>) {
    match u32::try_from(seconds) {
        Ok(seconds) if seconds < 360_000 => {
            let minutes = seconds / 60;
            let [hour, minute, second] = [minutes / 60, minutes % 60, seconds % 60]
                .map(|number| two(u16::try_from(number).unwrap_or_default()));
            let text = [hour[0], hour[1], b':', minute[0], minute[1], b':', second[0], second[1]];
            out.extend_from_slice(&text);
        }
        // No time of PostgreSQL's.
        _ => integer(seconds, out),
    }
}

/// Appends year, month and day of a count of days since 2000, in the Gregorian calendar; tells whether that was before the
/// year 1.
fn day(days: i64, out: &mut Vec<u8>) -> bool {
    let (year, month, day) = civil(days);
    // There is no year 0.
    let shown = if year > 0 { year } else { 1 - year };
    let ([month, of_month], [day, of_day]) = (two(month), two(day));
    match u16::try_from(shown) {
        Ok(year) if year < 10_000 => {
            let ([a, b], [c, d]) = (two(year / 100), two(year));
            out.extend_from_slice(&[a, b, c, d, b'-', month, of_month, b'-', day, of_day]);
        }
        _ => {
            integer(shown, out);
            out.extend_from_slice(&[b'-', month, of_month, b'-', day, of_day]);
        }
    }
    year <= 0
}

fn era(before_christ: bool, out: &mut Vec<u8>) {
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

/// Year, month and day, by Howard Hinnant's `civil_from_days`: years begin in March there, eras have 400 of them.
fn civil(days: i64) -> (i64, u16, u16) {
    // From 0000-03-01 to 2000-01-01.
    let days = days + 730_425;
    let era = days.div_euclid(146_097);
    // What is within an era fits, and is divided faster.
    let day_of_era = u32::try_from(days - era * 146_097).unwrap_or_default();
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = i64::from(year_of_era) + era * 400 + i64::from(month <= 2);
    (year, u16::try_from(month).unwrap_or_default(), u16::try_from(day).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use jiff::civil::Date;
    use proptest::prelude::*;

    use super::{DAY, Style, date, time, timestamp, timestamptz, timetz};

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_reach_from_the_julian_day_zero_to_infinity() {
        for (days, wanted) in [
            (0, "2000-01-01"),
            (-1, "1999-12-31"),
            (59, "2000-02-29"),
            (-730_119, "0001-01-01"),
            (-730_120, "0001-12-31 BC"),
            (-2_451_545, "4714-11-24 BC"),
            (2_921_940, "10000-01-01"),
            (2_145_031_948, "5874897-12-31"),
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
        ] {
            assert_eq!(text(|out| date(days, out)), wanted);
        }
    }

    #[test]
    fn fractions_of_seconds_have_no_zeros_at_their_end() {
        for (microseconds, wanted) in [
            (0, "00:00:00"),
            (1, "00:00:00.000001"),
            (3_723_120_000, "01:02:03.12"),
            (DAY - 1, "23:59:59.999999"),
            (DAY, "24:00:00"),
        ] {
            assert_eq!(text(|out| time(microseconds, out)), wanted);
        }
    }

    #[test]
    fn zones_have_as_many_parts_as_they_need() {
        for (west, wanted) in [
            (0, "00:00:00+00"),
            (-3600, "00:00:00+01"),
            (12_600, "00:00:00-03:30"),
            (-20_701, "00:00:00+05:45:01"),
        ] {
            let value = [&0_i64.to_be_bytes()[..], &i32::to_be_bytes(west)].concat();
            assert_eq!(text(|out| timetz(&value, out).unwrap()), wanted);
        }
    }

    #[test]
    fn json_s_timestamps_have_a_t_and_whole_zones() {
        assert_eq!(text(|out| timestamp(-1, Style::Iso, out)), "1999-12-31 23:59:59.999999");
        assert_eq!(text(|out| timestamp(0, Style::Xsd, out)), "2000-01-01T00:00:00");
        assert_eq!(text(|out| timestamptz(500_000, Style::Iso, out)), "2000-01-01 00:00:00.5+00");
        let before_christ = -730_120 * DAY;
        assert_eq!(text(|out| timestamptz(before_christ, Style::Xsd, out)), "0001-12-31T00:00:00+00:00 BC");
        for style in [Style::Iso, Style::Xsd] {
            assert_eq!(text(|out| timestamptz(i64::MAX, style, out)), "infinity");
            assert_eq!(text(|out| timestamp(i64::MIN, style, out)), "-infinity");
        }
    }

    proptest! {
        #[test]
        fn dates_are_those_of_another_calendar(days in -730_000..2_921_939_i32) {
            let wanted = Date::constant(2000, 1, 1).checked_add(jiff::Span::new().days(days)).unwrap();
            prop_assert_eq!(text(|out| date(days, out)), wanted.to_string());
        }

        #[test]
        fn any_number_ends_without_a_panic(days in any::<i32>(), microseconds in any::<i64>(), west in any::<i32>()) {
            let value = [&microseconds.to_be_bytes()[..], &west.to_be_bytes()].concat();
            text(|out| date(days, out));
            text(|out| timestamp(microseconds, Style::Iso, out));
            text(|out| timetz(&value, out).unwrap());
        }
    }
}
