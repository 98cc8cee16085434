use jiff::{
    ToSpan as _,
    civil::DateTime,
    tz::{TimeZone, TimeZoneDatabase},
};
use pipekeeper_model::{Millis, Timestamp, Weekday, Window, WindowRule};
use proptest::prelude::*;

use super::{WindowState, weekday, window_state};

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn deny(span: &str, timezone: &str) -> Window {
    Window {
        rule: WindowRule::Deny(span.parse().unwrap()),
        timezone: timezone.to_owned(),
    }
}

fn allow(span: &str, timezone: &str) -> Window {
    Window {
        rule: WindowRule::Allow(span.parse().unwrap()),
        timezone: timezone.to_owned(),
    }
}

/// `open`, `never`, or the instant of the opening.
fn state(windows: &[Window], now: &str) -> String {
    match window_state(windows, at(now)).unwrap() {
        WindowState::Open => "open".to_owned(),
        WindowState::Closed { until: None } => "never".to_owned(),
        WindowState::Closed { until: Some(until) } => {
            jiff::Timestamp::from_millisecond(until.0).unwrap().to_string()
        }
    }
}

#[test]
fn a_weekend_is_closed_and_office_hours_are_open() {
    let weekend = [deny("Fri 18:00 - Mon 08:00", "Asia/Shanghai")];
    assert_eq!(state(&weekend, "2026-11-27T09:59:59Z"), "open");
    assert_eq!(state(&weekend, "2026-11-27T10:00:00Z"), "2026-11-30T00:00:00Z");
    assert_eq!(state(&weekend, "2026-11-30T00:00:00Z"), "open");
    let office = [allow("Mon-Fri 09:00 - 17:00", "Asia/Shanghai")];
    assert_eq!(state(&office, "2026-11-27T08:59:59Z"), "open");
    assert_eq!(state(&office, "2026-11-27T09:00:00Z"), "2026-11-30T01:00:00Z");
}

#[test]
fn what_is_denied_is_not_allowed() {
    let windows = [
        allow("09:00 - 12:00", "UTC"),
        allow("14:00 - 17:00", "UTC"),
        deny("Wed 08:00 - 15:00", "UTC"),
    ];
    assert_eq!(state(&windows, "2026-12-01T11:00:00Z"), "open");
    assert_eq!(state(&windows, "2026-12-01T17:00:00Z"), "2026-12-02T15:00:00Z");
    assert_eq!(state(&[], "2026-12-01T17:00:00Z"), "open");
    assert_eq!(state(&[deny("Mon-Sun", "UTC")], "2026-12-01T17:00:00Z"), "never");
}

#[test]
fn clocks_that_jump_neither_lose_nor_repeat_a_window() {
    // Two o'clock is followed by three.
    let spring = [deny("02:30 - 04:00", "Europe/Berlin")];
    assert_eq!(state(&spring, "2026-03-29T00:59:59Z"), "open");
    assert_eq!(state(&spring, "2026-03-29T01:00:00Z"), "2026-03-29T02:00:00Z");
    // A window that lies in what is skipped is none.
    let skipped = [allow("02:10 - 02:50", "Europe/Berlin")];
    assert_eq!(state(&skipped, "2026-03-28T01:50:00Z"), "2026-03-30T00:10:00Z");
    // The hour from two to three comes twice; each border counts once.
    let autumn = [deny("01:00 - 02:30", "Europe/Berlin")];
    assert_eq!(state(&autumn, "2026-10-24T23:00:00Z"), "2026-10-25T00:30:00Z");
    assert_eq!(state(&autumn, "2026-10-25T01:00:00Z"), "open");
    // The weekend is an hour shorter, and an hour longer.
    let weekend = [deny("Fri 18:00 - Mon 08:00", "Europe/Berlin")];
    assert_eq!(state(&weekend, "2026-03-28T00:00:00Z"), "2026-03-30T06:00:00Z");
    assert_eq!(state(&weekend, "2026-10-24T00:00:00Z"), "2026-10-26T07:00:00Z");
}

#[test]
fn zones_meet_in_winter_alone() {
    let windows = [
        allow("Mon 09:00 - 10:00", "America/New_York"),
        deny("13:00 - 14:00", "UTC"),
    ];
    assert_eq!(state(&windows, "2026-07-01T00:00:00Z"), "2026-11-02T14:00:00Z");
}

#[test]
fn a_zone_that_is_none_is_an_error() {
    let error = window_state(&[deny("Sat", "Mars/Olympus")], Timestamp(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "judge the windows: unknown time zone `Mars/Olympus`"
    );
}

const MINUTE: i64 = 60_000;
/// How far around an instant the reference looks, in minutes.
const AROUND: i64 = 20 * 24 * 60;

/// What the clocks of a zone show, minute by minute: the latest that they ever showed.
struct Clocks {
    start: i64,
    shown: Vec<DateTime>,
}

impl Clocks {
    fn of(zone: &TimeZone, now: Timestamp) -> Self {
        let start = now.0 - AROUND * MINUTE;
        let mut latest = DateTime::MIN;
        let shown = (0..2 * AROUND).map(|minute| {
            let instant = jiff::Timestamp::from_millisecond(start + minute * MINUTE).unwrap();
            latest = latest.max(zone.to_datetime(instant));
            latest
        });
        Self {
            start,
            shown: shown.collect(),
        }
    }

    /// The first minute at which the clocks show `local` or have gone past it.
    fn first(&self, local: DateTime) -> Timestamp {
        let minute = self.shown.partition_point(|shown| *shown < local);
        Timestamp(self.start + i64::try_from(minute).unwrap() * MINUTE)
    }
}

/// Every time near `now` that a window's span was.
fn spans(window: &Window, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    let zone = TimeZoneDatabase::bundled().get(&window.timezone).unwrap();
    let clocks = Clocks::of(&zone, now);
    let today = zone
        .to_datetime(jiff::Timestamp::from_millisecond(now.0).unwrap())
        .date();
    let span = window.span();
    let days = (-10..=10_i64).map(|offset| today.checked_add(offset.days()).unwrap());
    days.filter(|day| span.begins_on(weekday(*day)))
        .map(|day| {
            let end = day.checked_add(i64::from(span.days()).days()).unwrap();
            let (from, to) = (span.begin(), span.end());
            let hour = |hour: u8| i8::try_from(hour).unwrap();
            let from = day.at(hour(from.hour()), hour(from.minute()), 0, 0);
            let to = end.at(hour(to.hour()), hour(to.minute()), 0, 0);
            (clocks.first(from), clocks.first(to))
        })
        .collect()
}

fn is_open(windows: &[(Window, Vec<(Timestamp, Timestamp)>)], now: Timestamp) -> bool {
    let holds = |spans: &[(Timestamp, Timestamp)]| spans.iter().any(|(from, to)| *from <= now && now < *to);
    let allowing: Vec<_> = windows
        .iter()
        .filter(|(window, _)| matches!(window.rule, WindowRule::Allow(_)))
        .collect();
    let denied = windows
        .iter()
        .any(|(window, spans)| matches!(window.rule, WindowRule::Deny(_)) && holds(spans));
    !denied && (allowing.is_empty() || allowing.iter().any(|(_, spans)| holds(spans)))
}

/// Zones that change their clocks in different ways: by an hour, by half of one, at midnight, backwards in winter, by a day, never.
const ZONES: [&str; 8] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Beirut",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Asia/Shanghai",
    "UTC",
];

/// An instant within four days of a change of some zone's clocks.
fn near_a_change() -> impl Strategy<Value = Timestamp> {
    let days = 0..9_000_i64;
    (
        prop::sample::select(&ZONES[..6]),
        days,
        -4 * 24 * 60..4 * 24 * 60_i64,
    )
        .prop_map(|(zone, day, minutes)| {
            // From the year 2004.
            let start = jiff::Timestamp::from_second(1_072_915_200 + day * 86_400).unwrap();
            let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
            let change = zone
                .following(start)
                .next()
                .map_or(start, |change| change.timestamp());
            Timestamp(change.as_millisecond() + minutes * MINUTE)
        })
}

fn window() -> impl Strategy<Value = Window> {
    let day = || prop::sample::select(&Weekday::ALL[..]).prop_map(Weekday::as_str);
    let time = || (0..24_u8, prop::sample::select(&[0_u8, 10, 30, 59][..]));
    let time = move || time().prop_map(|(hour, minute)| format!("{hour:02}:{minute:02}"));
    let span = prop_oneof![
        (day(), time(), day(), time()).prop_map(|(a, b, c, d)| format!("{a} {b} - {c} {d}")),
        (day(), day(), time(), time()).prop_map(|(a, b, c, d)| format!("{a}-{b} {c} - {d}")),
        (day(), day()).prop_map(|(a, b)| format!("{a}-{b}")),
    ];
    (any::<bool>(), span, prop::sample::select(&ZONES[..])).prop_map(|(allows, span, zone)| {
        if allows {
            allow(&span, zone)
        } else {
            deny(&span, zone)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn windows_are_open_when_the_clocks_say_so(
        now in near_a_change(),
        windows in prop::collection::vec(window(), 1..4),
    ) {
        let known: Vec<_> = windows.iter().map(|window| (window.clone(), spans(window, now))).collect();
        let found = window_state(&windows, now).unwrap();
        prop_assert_eq!(found == WindowState::Open, is_open(&known, now));
        // The reference knows the week that follows.
        let known_until = now + Millis::days(8);
        let opening = match found {
            WindowState::Open => None,
            WindowState::Closed { until } => Some(until.map_or(known_until, |until| until.min(known_until))),
        };
        if let Some(opening) = opening {
            let minutes = (now.0..opening.0).step_by(usize::try_from(MINUTE).unwrap());
            for closed in minutes {
                prop_assert!(!is_open(&known, Timestamp(closed)), "open before {opening:?}: {closed}");
            }
            prop_assert!(opening == known_until || is_open(&known, opening));
        }
    }
}
