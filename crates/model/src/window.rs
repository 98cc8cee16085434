//! Windows of the week in which an environment may move or may not, as documents write them.
//!
//! What clocks show is turned into instants elsewhere; here is only what was written.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A span of the week in a zone, and what it means for moves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    /// When, and whether that allows or denies.
    #[serde(flatten)]
    pub rule: WindowRule,
    /// The IANA zone whose clocks count.
    #[serde(default = "utc", skip_serializing_if = "is_utc")]
    pub timezone: String,
}

/// What a window means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowRule {
    /// Moves happen in this span, and in no time that no such window holds.
    Allow(WeekSpan),
    /// No move happens in this span, whatever else allows it.
    Deny(WeekSpan),
}

impl Window {
    /// The span of the week.
    pub fn span(&self) -> WeekSpan {
        match self.rule {
            WindowRule::Allow(span) | WindowRule::Deny(span) => span,
        }
    }
}

fn utc() -> String {
    "UTC".to_owned()
}

fn is_utc(zone: &str) -> bool {
    zone == "UTC"
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weekday {
    /// The first.
    Mon,
    /// The second.
    Tue,
    /// The third.
    Wed,
    /// The fourth.
    Thu,
    /// The fifth.
    Fri,
    /// The sixth.
    Sat,
    /// The last.
    Sun,
}

impl Weekday {
    /// Every day.
    pub const ALL: [Self; 7] = [
        Self::Mon,
        Self::Tue,
        Self::Wed,
        Self::Thu,
        Self::Fri,
        Self::Sat,
        Self::Sun,
    ];

    /// As documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mon => "Mon",
            Self::Tue => "Tue",
            Self::Wed => "Wed",
            Self::Thu => "Thu",
            Self::Fri => "Fri",
            Self::Sat => "Sat",
            Self::Sun => "Sun",
        }
    }

    /// Days from this one to the next `later`: 0 to 6.
    pub fn days_until(self, later: Self) -> u8 {
        let (from, to) = (self as u8, later as u8);
        (to + DAYS - from) % DAYS
    }

    fn after(self, days: u8) -> Self {
        let at = usize::from((self as u8 + days) % DAYS);
        Self::ALL.get(at).copied().unwrap_or(self)
    }
}

const DAYS: u8 = 7;
const EVERY_DAY: (Weekday, Weekday) = (Weekday::Mon, Weekday::Sun);

/// A time of day, to the minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeOfDay {
    minutes: u16,
}

impl TimeOfDay {
    const MIDNIGHT: Self = Self { minutes: 0 };

    /// The hour, 0 to 23.
    pub fn hour(self) -> u8 {
        u8::try_from(self.minutes / 60).unwrap_or(0)
    }

    /// The minute of the hour.
    pub fn minute(self) -> u8 {
        u8::try_from(self.minutes % 60).unwrap_or(0)
    }

    fn read(text: &str) -> Option<Self> {
        let (hour, minute) = text.split_once(':')?;
        let is_two = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        (is_two(hour) && is_two(minute)).then_some(())?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(Self {
            minutes: hour * 60 + minute,
        })
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.hour(), self.minute())
    }
}

/// A span that every week has: once, or once a day on some of its days.
///
/// Written `Fri 18:00 - Mon 08:00`, `Mon-Fri 09:00 - 17:00`, `22:00 - 06:00` or `Sat-Sun`. Of a span of each day, an end that is
/// not after the beginning is the next day's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WeekSpan {
    /// The first day on which it begins.
    first: Weekday,
    /// The last one, which may be the first.
    last: Weekday,
    from: TimeOfDay,
    to: TimeOfDay,
    /// Days from the one of the beginning to the one of the end: 0 to 7.
    days: u8,
}

impl WeekSpan {
    /// Whether it begins on this day.
    pub fn begins_on(self, day: Weekday) -> bool {
        self.first.days_until(day) <= self.first.days_until(self.last)
    }

    /// When it begins on such a day.
    pub fn begin(self) -> TimeOfDay {
        self.from
    }

    /// When it ends, on the day that is [`Self::days`] later.
    pub fn end(self) -> TimeOfDay {
        self.to
    }

    /// Days from the one of its beginning to the one of its end: 0 to 7.
    pub fn days(self) -> u8 {
        self.days
    }

    fn daily((first, last): (Weekday, Weekday), from: TimeOfDay, to: TimeOfDay) -> Self {
        let is_every_day = first.days_until(last) == DAYS - 1;
        let (first, last) = if is_every_day { EVERY_DAY } else { (first, last) };
        Self {
            first,
            last,
            from,
            to,
            days: u8::from(to <= from),
        }
    }

    fn weekly((first, from): (Weekday, TimeOfDay), (end, to): (Weekday, TimeOfDay)) -> Self {
        let days = first.days_until(end);
        Self {
            first,
            last: first,
            from,
            to,
            days: if days == 0 && to <= from { DAYS } else { days },
        }
    }

    fn read(text: &str) -> Option<Self> {
        let Some((begin, end)) = text.split_once(" - ") else {
            return Some(Self::daily(
                read_days(text)?,
                TimeOfDay::MIDNIGHT,
                TimeOfDay::MIDNIGHT,
            ));
        };
        let (begin_days, from) = match begin.split_once(' ') {
            None => (None, TimeOfDay::read(begin)?),
            Some((days, time)) => (Some(read_days(days)?), TimeOfDay::read(time)?),
        };
        match end.split_once(' ') {
            None => Some(Self::daily(
                begin_days.unwrap_or(EVERY_DAY),
                from,
                TimeOfDay::read(end)?,
            )),
            Some((day, time)) => {
                let (first, last) = begin_days?;
                let end = (read_day(day)?, TimeOfDay::read(time)?);
                (first == last).then(|| Self::weekly((first, from), end))
            }
        }
    }
}

fn read_days(text: &str) -> Option<(Weekday, Weekday)> {
    match text.split_once('-') {
        None => read_day(text).map(|day| (day, day)),
        Some((first, last)) => Some((read_day(first)?, read_day(last)?)),
    }
}

fn read_day(text: &str) -> Option<Weekday> {
    Weekday::ALL.into_iter().find(|day| day.as_str() == text)
}

/// The text is no span of the week.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "read the window `{0}`: write it like `Fri 18:00 - Mon 08:00`, `Mon-Fri 09:00 - 17:00`, `22:00 - 06:00` or `Sat-Sun`"
)]
pub struct ParseWeekSpanError(String);

impl FromStr for WeekSpan {
    type Err = ParseWeekSpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::read(text).ok_or_else(|| ParseWeekSpanError(text.to_owned()))
    }
}

impl TryFrom<String> for WeekSpan {
    type Error = ParseWeekSpanError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<WeekSpan> for String {
    fn from(span: WeekSpan) -> Self {
        span.to_string()
    }
}

impl fmt::Display for WeekSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            first,
            last,
            from,
            to,
            days,
        } = *self;
        if days != u8::from(to <= from) {
            let end = first.after(days);
            return write!(f, "{} {from} - {} {to}", first.as_str(), end.as_str());
        }
        let is_whole_day = from == TimeOfDay::MIDNIGHT && to == TimeOfDay::MIDNIGHT;
        let is_every_day = (first, last) == EVERY_DAY;
        if !is_every_day || is_whole_day {
            f.write_str(first.as_str())?;
            if first != last {
                write!(f, "-{}", last.as_str())?;
            }
            if is_whole_day {
                return Ok(());
            }
            f.write_str(" ")?;
        }
        write!(f, "{from} - {to}")
    }
}

#[cfg(test)]
mod tests {
    use super::{WeekSpan, Weekday, Window};

    #[test]
    fn spans_have_one_way_to_be_written() {
        for (text, canonical) in [
            ("Fri 18:00 - Mon 08:00", "Fri 18:00 - Mon 08:00"),
            ("Mon-Fri 09:00 - 17:00", "Mon-Fri 09:00 - 17:00"),
            ("Sat-Mon 22:00 - 06:00", "Sat-Mon 22:00 - 06:00"),
            ("22:00 - 06:00", "22:00 - 06:00"),
            ("Thu-Wed 22:00 - 06:00", "22:00 - 06:00"),
            ("Sat-Sun", "Sat-Sun"),
            ("Sat", "Sat"),
            ("Mon-Sun", "Mon-Sun"),
            ("Sat 00:00 - Sun 00:00", "Sat"),
            ("Fri 22:00 - Sat 06:00", "Fri 22:00 - 06:00"),
            ("Fri 18:00 - Fri 19:00", "Fri 18:00 - 19:00"),
            ("Fri 08:00 - Sat 09:00", "Fri 08:00 - Sat 09:00"),
            ("Fri 18:00 - Fri 18:00", "Fri 18:00 - Fri 18:00"),
            ("Fri 18:00 - Fri 09:00", "Fri 18:00 - Fri 09:00"),
        ] {
            let span: WeekSpan = text.parse().unwrap();
            assert_eq!(span.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse(), Ok(span), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_a_span() {
        for text in [
            "",
            "Fri",
            "fri",
            "Friday",
            "Fri 18:00",
            "Fri 18:00-Mon 08:00",
            "18:00 - Mon 08:00",
            "Mon-Fri 18:00 - Mon 08:00",
            "Fri 24:00 - Mon 08:00",
            "Fri 8:00 - Mon 08:00",
            "Fri 18:00 - Mon 08:00 ",
        ] {
            assert_eq!(text.parse::<WeekSpan>().is_ok(), text == "Fri", "{text}");
        }
    }

    #[test]
    fn days_may_go_over_the_end_of_the_week() {
        let span: WeekSpan = "Sat-Mon 22:00 - 06:00".parse().unwrap();
        let days: Vec<&str> = Weekday::ALL
            .into_iter()
            .filter(|day| span.begins_on(*day))
            .map(Weekday::as_str)
            .collect();
        assert_eq!(days, ["Mon", "Sat", "Sun"]);
        assert_eq!(span.days(), 1);
    }

    #[test]
    fn windows_are_stored_as_documents_write_them() {
        for text in [
            r#"{"deny":"Fri 18:00 - Mon 08:00","timezone":"Asia/Shanghai"}"#,
            r#"{"allow":"09:00 - 17:00"}"#,
        ] {
            let window: Window = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&window).unwrap(), text);
        }
        for text in [
            r#"{"timezone":"UTC"}"#,
            r#"{"deny":"always"}"#,
            r#"{"maybe":"Sat"}"#,
        ] {
            assert!(serde_json::from_str::<Window>(text).is_err(), "{text}");
        }
    }
}
