//! Times of day in a zone, turned into instants.
//!
//! A time that a day skips (spring) counts as the first moment after the gap; one that a day has twice (autumn) as the
//! first of the two.

use chrono::{DateTime, Days, LocalResult, NaiveDateTime, NaiveTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use pipekeeper_model::{Timestamp, plan::WaitFor};

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
            clock.on(clock.local.date(), parse(time)?)
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

struct Clock {
    zone: Tz,
    now: DateTime<Utc>,
    local: NaiveDateTime,
}

impl Clock {
    fn new(timezone: &str, now: Timestamp) -> Result<Self, String> {
        let zone: Tz = timezone
            .parse()
            .map_err(|_| format!("unknown time zone `{timezone}`"))?;
        let now = DateTime::from_timestamp_millis(now.0).ok_or("the present time is out of range")?;
        Ok(Self {
            zone,
            now,
            local: now.with_timezone(&zone).naive_local(),
        })
    }

    /// The next moment after now at which the zone's clocks show `time`.
    fn next(&self, time: NaiveTime) -> Result<Timestamp, String> {
        let today = self.on(self.local.date(), time)?;
        if today.0 > self.now.timestamp_millis() {
            return Ok(today);
        }
        let tomorrow = self
            .local
            .date()
            .checked_add_days(Days::new(1))
            .ok_or("the calendar ends")?;
        self.on(tomorrow, time)
    }

    fn on(&self, date: chrono::NaiveDate, time: NaiveTime) -> Result<Timestamp, String> {
        let mut local = date.and_time(time);
        // No gap is longer than a day, and gaps end on a quarter of an hour.
        for _ in 0..=96 {
            match self.zone.from_local_datetime(&local) {
                LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => {
                    return Ok(Timestamp(instant.timestamp_millis()));
                }
                LocalResult::None => local = next_quarter(local),
            }
        }
        Err(format!("the zone `{}` has no such time", self.zone))
    }
}

fn next_quarter(local: NaiveDateTime) -> NaiveDateTime {
    let past = local.and_utc().timestamp().rem_euclid(900);
    local + TimeDelta::seconds(900 - past)
}

fn parse(time: &str) -> Result<NaiveTime, String> {
    NaiveTime::parse_from_str(time, "%H:%M")
        .map_err(|_| format!("`{time}` is no time of day: write it like `22:00`"))
}

#[cfg(test)]
mod tests {
    use pipekeeper_model::{Millis, Timestamp, plan::WaitFor};

    use super::instant;

    fn at(text: &str) -> Timestamp {
        Timestamp(
            chrono::DateTime::parse_from_rfc3339(text)
                .unwrap()
                .timestamp_millis(),
        )
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
