//! When runs are due: a cron expression in a time zone. Scheduled times are instants, so that a time that a clock shows twice
//! is two of them.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgexport_api::time_zone;

/// The fields of a cron expression.
const FIELDS: [&str; 5] = ["minute", "hour", "day of the month", "month", "day of the week"];

/// A schedule that cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// It is not what cron writes.
    #[error("schedule: {schedule:?} is no cron expression of five fields, such as \"0 2 * * *\": {why}")]
    Schedule {
        /// The expression.
        schedule: String,
        /// What is wrong with it.
        why: String,
    },
    /// It names a day that no year has.
    #[error("schedule: the time that {0:?} names never comes: correct the day or the month")]
    Never(String),
    /// There is no such time zone.
    #[error("timeZone: {0:?} is not the IANA name of a time zone: write one such as Europe/Berlin or UTC")]
    TimeZone(String),
}

/// A schedule in its time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    cron: Cron,
    zone: TimeZone,
}

impl Calendar {
    /// Reads a cron expression and the name of a time zone.
    pub fn new(schedule: &str, zone: &str) -> Result<Self, CalendarError> {
        let zone = time_zone::find(zone).ok_or_else(|| CalendarError::TimeZone(zone.to_owned()))?;
        let cron =
            parse(schedule).map_err(|why| CalendarError::Schedule { schedule: schedule.to_owned(), why })?;
        let calendar = Self { cron, zone };
        match calendar.next(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(calendar),
            None => Err(CalendarError::Never(schedule.to_owned())),
        }
    }

    /// The first scheduled time after an instant.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let from = after.to_zoned(self.zone.clone());
        let found = self.cron.find_next_occurrence(&from, false).ok()?.timestamp();
        (found > after).then_some(found)
    }

    /// The last scheduled time up to an instant, if it is later than `after`.
    #[must_use]
    pub fn latest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let from = until.to_zoned(self.zone.clone());
        let found = self.cron.find_previous_occurrence(&from, true).ok()?.timestamp();
        (after < found && found <= until).then_some(found)
    }
}

fn parse(schedule: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let error = match parser.parse(schedule) {
        Ok(cron) => return Ok(cron),
        Err(error) => error.to_string(),
    };
    // Which of the fields it is, the parser does not say.
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    let is_wrong = |(place, field): &(usize, &str)| {
        let mut alone = ["*"; FIELDS.len()];
        alone[*place] = field;
        parser.parse(&alone.join(" ")).is_err()
    };
    let named = (fields.len() == FIELDS.len())
        .then(|| fields.iter().copied().enumerate().find(is_wrong))
        .flatten()
        .map(|(place, field)| format!("{field:?} is no {}: ", FIELDS[place]));
    Err(format!("{}{error}", named.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The scheduled times from an instant to another one, as the zone's clock and offset show them.
    fn shown(schedule: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
        let calendar = Calendar::new(schedule, zone).unwrap();
        let mut times = Vec::new();
        let mut last = at(from);
        while let Some(next) = calendar.next(last).filter(|next| *next <= at(until)) {
            times.push(next.to_zoned(calendar.zone.clone()).strftime("%dT%H:%M%:z").to_string());
            last = next;
        }
        times
    }

    /// In Berlin, clocks went from 02:00 to 03:00 on 29 March 2026.
    #[test]
    fn a_time_that_a_clock_skips() {
        let shown =
            |schedule: &str| shown(schedule, "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T20:00:00Z");
        // At a fixed time: the first moment that there is.
        assert_eq!(shown("30 2 * * *"), ["29T03:00+02:00"]);
        assert_eq!(shown("0 3 * * *"), ["29T03:00+02:00"]);
        assert_eq!(shown("30 1 * * *"), ["29T01:30+01:00"]);
        // At several times: what is skipped is left out.
        assert_eq!(shown("0 2,3 * * *"), ["29T03:00+02:00"]);
        assert_eq!(shown("30 2,4 * * *"), ["29T04:30+02:00"]);
        let hours = shown("30 * * * *");
        let around = hours.iter().position(|time| time == "29T01:30+01:00").unwrap();
        assert_eq!(hours[around + 1], "29T03:30+02:00");
    }

    /// In Berlin, clocks went from 03:00 to 02:00 on 25 October 2026.
    #[test]
    fn a_time_that_a_clock_shows_twice() {
        let shown =
            |schedule: &str| shown(schedule, "Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T12:00:00Z");
        // At a fixed time: once, the first time.
        assert_eq!(shown("30 2 * * *"), ["25T02:30+02:00"]);
        assert_eq!(shown("0 3 * * *"), ["25T03:00+01:00"]);
        // At several times: both times.
        assert_eq!(shown("0 2,3 * * *"), ["25T02:00+02:00", "25T02:00+01:00", "25T03:00+01:00"]);
        let hours = shown("30 * * * *");
        let around = hours.iter().position(|time| time == "25T02:30+02:00").unwrap();
        assert_eq!(hours[around + 1], "25T02:30+01:00");
    }

    #[test]
    fn other_zones_have_other_transitions() {
        // Lord Howe Island moves its clocks by half an hour.
        let lord_howe =
            shown("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", "2026-10-04T00:00:00Z");
        assert_eq!(lord_howe, ["04T02:30+11:00"]);
        // Clocks of Santiago skip midnight.
        let santiago = shown("0 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", "2026-09-07T00:00:00Z");
        assert_eq!(santiago, ["06T01:00-03:00"]);
        assert_eq!(
            shown("0 2 * * *", "UTC", "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"),
            ["29T02:00+00:00"]
        );
    }

    #[test]
    fn names_ranges_steps_and_nicknames_are_read() {
        let next = |schedule: &str| Calendar::new(schedule, "UTC").unwrap().next(at("2026-11-25T20:00:30Z"));
        for (schedule, wanted) in [
            ("* * * * *", "2026-11-25T20:01:00Z"),
            ("*/20 8-18 * * MON-FRI", "2026-11-26T08:00:00Z"),
            ("0 0 29 FEB *", "2028-02-29T00:00:00Z"),
            ("0 0 L * *", "2026-11-30T00:00:00Z"),
            ("0 0 1 * 7", "2026-11-29T00:00:00Z"),
            ("0 0 * * FRIL", "2026-11-27T00:00:00Z"),
            ("0 0 * * MON#2", "2026-12-14T00:00:00Z"),
            ("0 0 15W * *", "2026-12-15T00:00:00Z"),
            ("0 0 13 * FRI", "2026-11-27T00:00:00Z"),
            ("0 0 13 * +FRI", "2027-08-13T00:00:00Z"),
            ("@daily", "2026-11-26T00:00:00Z"),
            (" 5  4 * * * ", "2026-11-26T04:05:00Z"),
        ] {
            assert_eq!(next(schedule), Some(at(wanted)), "{schedule}");
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused_with_the_field() {
        let refused = |schedule: &str, zone: &str| Calendar::new(schedule, zone).unwrap_err().to_string();
        for (schedule, wanted) in [
            ("60 * * * *", "\"60\" is no minute"),
            ("0 24 * * *", "\"24\" is no hour"),
            ("0 0 0 * *", "\"0\" is no day of the month"),
            ("0 0 * 13 *", "\"13\" is no month"),
            ("0 0 * * 8", "\"8\" is no day of the week"),
            ("0 0 * * SOME", "is no day of the week"),
            ("0 0 * *", "five fields"),
            ("0 0 0 * * *", "five fields"),
            ("@sometimes", "five fields"),
            ("", "five fields"),
            ("\u{e9}\u{df} * * * *", "is no minute"),
            ("0 0 30 2 *", "never comes"),
        ] {
            let message = refused(schedule, "UTC");
            assert!(message.starts_with("schedule: ") && message.contains(wanted), "{schedule}: {message}");
        }
        assert!(refused("* * * * *", "Europe/Bonn").starts_with("timeZone: \"Europe/Bonn\""));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

        /// Forwards and backwards, the same times are found, in all zones and around all transitions of a year.
        #[test]
        fn the_latest_time_is_the_one_that_comes_first_before(
            schedule in prop_oneof![
                Just("*/7 * * * *".to_owned()), Just("30 * * * *".to_owned()),
                (0..60_u8, 0..4_u8).prop_map(|(minute, hour)| format!("{minute} {hour} * * *")),
                (0..60_u8, 0..4_u8).prop_map(|(minute, hour)| format!("{minute} {hour},{} * * *", hour + 1)),
            ],
            zone in proptest::sample::select(vec![
                "UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "Australia/Lord_Howe", "Africa/Casablanca",
                "Asia/Tehran", "America/Havana",
            ]),
            start in 1_767_225_600_i64..1_798_761_600,
        ) {
            let calendar = Calendar::new(&schedule, zone).unwrap();
            let mut last = Timestamp::from_second(start).unwrap();
            for _ in 0..50 {
                let next = calendar.next(last).unwrap();
                let second = jiff::SignedDuration::from_secs(1);
                prop_assert_eq!(calendar.latest(last, next), Some(next));
                prop_assert_eq!(calendar.latest(last, next - second), None);
                prop_assert_eq!(next.as_second() % 60, 0);
                last = next;
            }
        }

        /// Whatever is written there, it is read or refused.
        #[test]
        fn no_schedule_does_harm(schedule in "[ -~]{0,40}|([0-9*/,LW#-]{1,6} ){4}[0-9*/,L#-]{1,6}") {
            let _ = Calendar::new(&schedule, "Europe/Berlin");
        }
    }
}
