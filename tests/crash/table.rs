//! Plays rounds side by side and tells how they went.

use std::{
    env, fmt,
    io::Write,
    num::NonZero,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::round::Played;

/// Everything that was played.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    rounds: u32,
    deaths: u32,
    /// Attempts that ended before their ticket and were made anew.
    again: u32,
    failures: Vec<String>,
    time: Duration,
}

/// How many rounds to play.
pub(crate) fn rounds(usual: u32) -> u32 {
    env::var("CRASH_ROUNDS").map_or(usual, |text| text.parse().unwrap())
}

impl Table {
    /// Plays so many rounds.
    pub(crate) fn play(
        &mut self,
        what: &str,
        rounds: u32,
        round: impl Fn(u32) -> Result<Played, String> + Sync,
    ) {
        let begun = Instant::now();
        let next = AtomicU32::new(0);
        let results = Mutex::new(Vec::new());
        // A round mostly waits for other processes.
        let players = 2 * thread::available_parallelism().map_or(1, NonZero::get);
        thread::scope(|scope| {
            for _ in 0..players {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= rounds {
                            break;
                        }
                        let result =
                            round(number).map_err(|error| format!("{what}, round {number}: {error}"));
                        results.lock().unwrap().push(result);
                    }
                });
            }
        });
        let mut row = Row {
            what: what.to_owned(),
            rounds,
            deaths: 0,
            again: 0,
            failures: Vec::new(),
            time: begun.elapsed(),
        };
        for result in results.into_inner().unwrap() {
            match result {
                Ok(played) => {
                    row.deaths += played.deaths;
                    row.again += played.again;
                }
                Err(failure) => {
                    say(&failure);
                    row.failures.push(failure);
                }
            }
        }
        say(&row);
        self.rows.push(row);
    }

    /// Prints it all, and fails if anything failed.
    pub(crate) fn close(self) {
        let sum = |count: fn(&Row) -> u32| self.rows.iter().map(count).sum();
        let total = Row {
            what: "all".to_owned(),
            rounds: sum(|row| row.rounds),
            deaths: sum(|row| row.deaths),
            again: sum(|row| row.again),
            failures: self.rows.iter().flat_map(|row| row.failures.clone()).collect(),
            time: self.rows.iter().map(|row| row.time).sum(),
        };
        say(format_args!(
            "{:<22} {:>6} {:>6} {:>6} {:>6} {:>9}",
            "point", "rounds", "deaths", "again", "failed", "time"
        ));
        for row in &self.rows {
            say(row);
        }
        say(&total);
        assert!(total.failures.is_empty(), "{}", total.failures.join("\n\n"));
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<22} {:>6} {:>6} {:>6} {:>6} {:>7.1} s",
            self.what,
            self.rounds,
            self.deaths,
            self.again,
            self.failures.len(),
            self.time.as_secs_f64()
        )
    }
}

/// Past the test harness, which would keep it for itself.
fn say(line: impl fmt::Display) {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "{line}").unwrap();
}
