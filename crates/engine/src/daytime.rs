//! Times of day in a zone, turned into instants.
//!
//! A time that a day skips (spring) counts as the first moment after the gap; one that a day has twice (autumn) as the
//! first of the two.

use jiff::{
    civil::{DateTime, Time},
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};
use pipekeeper_model::{Millis, Timestamp, plan::WaitFor};

/// The instant that a wait which begins `now` ends; not after `now` means there is nothing to wait for.
pub(crate) fn instant(wait: &WaitFor, now: Timestamp) -> Result<Timestamp, String> {
    match wait {
        WaitFor::Elapsed { length } => Ok(now + *length),
        WaitFor::At { time, timezone } => {
            let clock = Clock::new(timezone, now)?;
            let time = parse(time)?;
            clock.next(time)
        }
        WaitFor::After { time, timezone } => {
            let clock = Clock::new(timezone, now)?;
            clock.on(clock.local, parse(time)?)
        }
        WaitFor::Between { from, to, timezone } => {
            let clock = Clock::new(timezone, now)?;
            let (from, to, present) = (parse(from)?, parse(to)?, clock.local.time());
            let is_inside = if from <= to {
                from <= present && present < to
            } else {
                from <= present || present < to
            };
            if is_inside { Ok(now) } else { clock.next(from) }
        }
    }
}

/// The clocks of a zone at an instant.
pub(crate) struct Clock {
    zone: TimeZone,
    now: Timestamp,
    /// What they show.
    pub(crate) local: DateTime,
}

impl Clock {
    /// Zones come from the table in this program, so that every machine decides the same.
    pub(crate) fn new(timezone: &str, now: Timestamp) -> Result<Self, String> {
        let zone = TimeZoneDatabase::bundled()
            .get(timezone)
            .map_err(|_| format!("unknown time zone `{timezone}`"))?;
        let instant = jiff::Timestamp::from_millisecond(now.0)
            .map_err(|_| "the present time is out of range".to_owned())?;
        Ok(Self {
            local: zone.to_datetime(instant),
            zone,
            now,
        })
    }

    /// The next moment after now at which the zone's clocks show `time`.
    fn next(&self, time: Time) -> Result<Timestamp, String> {
        let today = self.on(self.local, time)?;
        if today > self.now {
            return Ok(today);
        }
        let tomorrow = self
            .local
            .date()
            .tomorrow()
            .map_err(|_| "the calendar ends".to_owned())?;
        self.on(tomorrow.into(), time)
    }

    /// When the zone's clocks show `time` on the day of `day`.
    pub(crate) fn on(&self, day: DateTime, time: Time) -> Result<Timestamp, String> {
        let local = day.date().to_datetime(time);
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        let instant = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local),
            // By the clocks of after the gap, the time comes before it.
            AmbiguousOffset::Gap { after, .. } => after.to_timestamp(local).map(|early| {
                let gap = self.zone.following(early).next();
                gap.map_or(early, |gap| gap.timestamp())
            }),
        };
        let instant = instant.map_err(|_| "the calendar ends".to_owned())?;
        Ok(Timestamp(instant.as_millisecond()))
    }
}

/// An instant as the clocks of a zone show it, `Mon 08:00 Asia/Shanghai`; with the date if that is a week or more ahead.
pub(crate) fn shown(at: Timestamp, timezone: &str, now: Timestamp) -> String {
    let format = if at < now + Millis::days(7) {
        "%a %H:%M"
    } else {
        "%a %Y-%m-%d %H:%M"
    };
    match Clock::new(timezone, at) {
        Ok(clock) => format!("{} {timezone}", clock.local.strftime(format)),
        Err(_) => at.time_of_day(),
    }
}

fn parse(time: &str) -> Result<Time, String> {
    Time::strptime("%H:%M", time).map_err(|_| format!("`{time}` is no time of day: write it like `22:00`"))
}

#[cfg(test)]
mod tests {
    use pipekeeper_model::{Millis, Timestamp, plan::WaitFor};

    use super::instant;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn wait_at(time: &str, timezone: &str) -> WaitFor {
        WaitFor::At {
            time: time.to_owned(),
            timezone: timezone.to_owned(),
        }
    }

    #[test]
    fn the_next_occurrence_may_be_tomorrow() {
        let wait = wait_at("22:00", "Asia/Shanghai");
        assert_eq!(
            instant(&wait, at("2026-01-01T13:00:00Z")),
            Ok(at("2026-01-01T14:00:00Z"))
        );
        assert_eq!(
            instant(&wait, at("2026-01-01T14:00:00Z")),
            Ok(at("2026-01-02T14:00:00Z"))
        );
    }

    #[test]
    fn a_skipped_time_is_the_end_of_the_gap_and_a_doubled_one_the_first() {
        let wait = wait_at("02:30", "Europe/Berlin");
        assert_eq!(
            instant(&wait, at("2026-03-29T00:00:00Z")),
            Ok(at("2026-03-29T01:00:00Z"))
        );
        assert_eq!(
            instant(&wait, at("2026-10-24T23:00:00Z")),
            Ok(at("2026-10-25T00:30:00Z"))
        );
        // Half an hour is skipped here, from two o'clock.
        assert_eq!(
            instant(
                &wait_at("02:10", "Australia/Lord_Howe"),
                at("2026-10-03T14:00:00Z")
            ),
            Ok(at("2026-10-03T15:30:00Z"))
        );
        // A midnight that does not exist begins the day an hour late.
        assert_eq!(
            instant(&wait_at("00:00", "Asia/Beirut"), at("2026-03-28T12:00:00Z")),
            Ok(at("2026-03-28T22:00:00Z"))
        );
    }

    #[test]
    fn a_window_over_midnight_is_open_on_both_sides() {
        let between = |now| {
            let (from, to) = ("22:00".to_owned(), "06:00".to_owned());
            instant(
                &WaitFor::Between {
                    from,
                    to,
                    timezone: "UTC".to_owned(),
                },
                at(now),
            )
        };
        assert_eq!(between("2026-01-01T23:00:00Z"), Ok(at("2026-01-01T23:00:00Z")));
        assert_eq!(between("2026-01-01T05:59:00Z"), Ok(at("2026-01-01T05:59:00Z")));
        assert_eq!(between("2026-01-01T06:00:00Z"), Ok(at("2026-01-01T22:00:00Z")));
    }

    #[test]
    fn nonsense_is_an_error_and_elapsed_time_needs_no_zone() {
        assert!(instant(&wait_at("25:00", "UTC"), Timestamp(0)).is_err());
        assert!(instant(&wait_at("10:00", "Mars/Olympus"), Timestamp(0)).is_err());
        assert_eq!(
            instant(&WaitFor::Elapsed { length: Millis(5) }, Timestamp(1)),
            Ok(Timestamp(6))
        );
    }
}
