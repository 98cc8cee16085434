//! Whether windows are open at an instant, and when they will be.
//!
//! What clocks show becomes an instant as in [`crate::daytime`], for beginnings and ends alike, so that windows which meet on
//! the clock meet in time too. Entry: [`window_state`].

use jiff::{ToSpan as _, civil::Date};
use pipekeeper_model::{Millis, Timestamp, Weekday, Window, WindowRule};
use thiserror::Error;

use crate::daytime::Clock;

/// Whether windows let something happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowState {
    /// Now.
    Open,
    /// Not now.
    Closed {
        /// When they will; none if not within a year.
        until: Option<Timestamp>,
    },
}

/// Windows cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("judge the windows: {0}")]
pub struct WindowError(String);

/// How far ahead an opening is sought.
const HORIZON: Millis = Millis::days(366);
/// A span lasts a week at most; a day more on both sides for what clocks skip and repeat.
const REACH: i64 = 8;

/// Whether windows are open at an instant: no denying one holds it, and an allowing one does if there is any.
pub fn window_state(windows: &[Window], at: Timestamp) -> Result<WindowState, WindowError> {
    let mut now = at;
    while now < at + HORIZON {
        let week = windows
            .iter()
            .map(|window| Occurrences::around(window, now))
            .collect::<Result<Vec<_>, _>>()
            .map_err(WindowError)?;
        if is_open(&week, now) {
            return Ok(if now == at {
                WindowState::Open
            } else {
                WindowState::Closed { until: Some(now) }
            });
        }
        // Nothing changes but where a span begins or ends.
        let Some(next) = week.iter().filter_map(|one| one.next_border(now)).min() else {
            break;
        };
        now = next;
    }
    Ok(WindowState::Closed { until: None })
}

fn is_open(week: &[Occurrences<'_>], now: Timestamp) -> bool {
    let mut has_allowing = false;
    let mut is_allowed = false;
    for one in week {
        match one.rule {
            WindowRule::Deny(_) if one.hold(now) => return false,
            WindowRule::Deny(_) => {}
            WindowRule::Allow(_) => {
                has_allowing = true;
                is_allowed |= one.hold(now);
            }
        }
    }
    is_allowed || !has_allowing
}

/// When a window's span was and will be, near an instant.
struct Occurrences<'w> {
    rule: &'w WindowRule,
    spans: Vec<(Timestamp, Timestamp)>,
}

impl<'w> Occurrences<'w> {
    fn around(window: &'w Window, now: Timestamp) -> Result<Self, String> {
        let clock = Clock::new(&window.timezone, now)?;
        let span = window.span();
        let mut spans = Vec::new();
        for offset in -REACH..=REACH {
            let first = later(clock.local.date(), offset)?;
            if span.begins_on(weekday(first)) {
                let last = later(first, i64::from(span.days()))?;
                let (begin, end) = (time(span.begin())?, time(span.end())?);
                spans.push((clock.on(first.into(), begin)?, clock.on(last.into(), end)?));
            }
        }
        Ok(Self {
            rule: &window.rule,
            spans,
        })
    }

    fn hold(&self, now: Timestamp) -> bool {
        self.spans.iter().any(|(begin, end)| *begin <= now && now < *end)
    }

    fn next_border(&self, now: Timestamp) -> Option<Timestamp> {
        let borders = self.spans.iter().flat_map(|(begin, end)| [*begin, *end]);
        borders.filter(|border| *border > now).min()
    }
}

fn later(day: Date, days: i64) -> Result<Date, String> {
    day.checked_add(days.days())
        .map_err(|_| "the calendar ends".to_owned())
}

fn time(time: pipekeeper_model::TimeOfDay) -> Result<jiff::civil::Time, String> {
    let (hour, minute) = (time.hour().cast_signed(), time.minute().cast_signed());
    jiff::civil::Time::new(hour, minute, 0, 0).map_err(|_| format!("`{time}` is no time of day"))
}

fn weekday(day: Date) -> Weekday {
    match day.weekday() {
        jiff::civil::Weekday::Monday => Weekday::Mon,
        jiff::civil::Weekday::Tuesday => Weekday::Tue,
        jiff::civil::Weekday::Wednesday => Weekday::Wed,
        jiff::civil::Weekday::Thursday => Weekday::Thu,
        jiff::civil::Weekday::Friday => Weekday::Fri,
        jiff::civil::Weekday::Saturday => Weekday::Sat,
        jiff::civil::Weekday::Sunday => Weekday::Sun,
    }
}

#[cfg(test)]
mod tests;
