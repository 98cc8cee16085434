//! One measured figure: samples, the floor's samples beside them, the target, and what came of it.

use std::fmt::Write as _;

/// Measured values in the order they were taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The smallest sample that this share of all samples does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        // Counts of samples are far below what a float holds exactly.
        let at = (share * last as f64).round() as usize;
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }

    /// The median of the ratios of what was measured together.
    pub(crate) fn ratio(&self, floor: &Self) -> f64 {
        if self.count() != floor.count() {
            return self.median() / floor.median();
        }
        let pairs = self.0.iter().zip(&floor.0);
        pairs.map(|(ours, floor)| ours / floor).collect::<Self>().median()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// What a figure is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// It stands beside others.
    None,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Figure {
    /// What was measured, with its unit at the end.
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) ours: Samples,
    /// What the floor is, and its samples.
    pub(crate) floor: Option<(&'static str, Samples)>,
    pub(crate) target: Target,
}

impl Figure {
    /// The cells of its line, the row's name apart.
    pub(crate) fn cells(&self) -> Vec<String> {
        let floor = self.floor.as_ref();
        vec![
            self.what.to_owned(),
            spread(&self.ours, self.unit),
            floor.map_or_else(String::new, |(what, samples)| {
                format!("{}: {}", what, spread(samples, self.unit))
            }),
            self.ratio().map(number).unwrap_or_default(),
            self.target_text(),
            self.verdict(),
            self.ours.count().to_string(),
        ]
    }

    fn ratio(&self) -> Option<f64> {
        self.floor.as_ref().map(|(_, floor)| self.ours.ratio(floor))
    }

    fn target_text(&self) -> String {
        match self.target {
            Target::AtMost(most) => format!("≤ {} {}", number(most), self.unit),
            Target::AtLeast(least) => format!("≥ {} {}", number(least), self.unit),
            Target::RatioAtMost(most) => format!("≤ {} × floor", number(most)),
            Target::RatioAtLeast(least) => format!("≥ {} × floor", number(least)),
            Target::None => String::new(),
        }
    }

    fn verdict(&self) -> String {
        let measured = self.ours.median();
        let ratio = self.ratio().unwrap_or(f64::NAN);
        let over = match self.target {
            Target::AtMost(most) => measured / most,
            Target::AtLeast(least) => least / measured,
            Target::RatioAtMost(most) => ratio / most,
            Target::RatioAtLeast(least) => least / ratio,
            Target::None => return String::new(),
        };
        if over <= 1.0 {
            "met".to_owned()
        } else {
            format!("missed by {}×", number(over))
        }
    }
}

fn spread(samples: &Samples, unit: &str) -> String {
    let mut text = format!("{} {unit}", number(samples.median()));
    if samples.count() > 1 {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            " ({}–{})",
            number(samples.quantile(0.0)),
            number(samples.quantile(1.0))
        );
    }
    text
}

/// Three figures, as many as such measurements carry.
fn number(value: f64) -> String {
    if value >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Figure, Samples, Target};

    fn samples(values: &[f64]) -> Samples {
        values.iter().copied().collect()
    }

    #[test]
    fn a_ratio_is_of_pairs() {
        let ours = samples(&[2.0, 40.0, 6.0]);
        let floor = samples(&[1.0, 20.0, 3.0]);
        assert_eq!(ours.ratio(&floor), 2.0);
        assert_eq!(samples(&[3.0]).ratio(&floor), 1.0);
    }

    #[test]
    fn quantiles_are_samples() {
        let ours = samples(&[5.0, 1.0, 3.0]);
        assert_eq!(
            (ours.quantile(0.0), ours.median(), ours.quantile(0.99)),
            (1.0, 3.0, 5.0)
        );
    }

    #[test]
    fn a_missed_target_says_by_how_much() {
        let figure = |target| Figure {
            what: "w",
            unit: "ms",
            ours: samples(&[3.0]),
            floor: Some(("f", samples(&[2.0]))),
            target,
        };
        assert_eq!(figure(Target::AtMost(3.0)).verdict(), "met");
        assert_eq!(figure(Target::AtLeast(6.0)).verdict(), "missed by 2.00×");
        assert_eq!(figure(Target::RatioAtMost(1.0)).verdict(), "missed by 1.50×");
        assert_eq!(figure(Target::RatioAtLeast(0.5)).verdict(), "met");
    }
}
