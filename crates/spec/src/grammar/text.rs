//! The grammars of single texts.

use std::str::FromStr as _;

use croner::Cron;
use jiff::tz::TimeZoneDatabase;
use pipekeeper_model::{Bytes, Millis, Name, plan::Credential};

use super::fixed::Fixed;
use crate::{codes, diagnostic::Code, suggest::did_you_mean};

/// What a text must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// Any text without expressions.
    Free,
    Name,
    /// A name that expressions can spell.
    Identifier,
    /// A shell script; values reach it as variables.
    Script,
    /// An expression that says whether.
    Condition,
    /// Such an expression without `actions`.
    PlanCondition,
    /// A text that may hold expressions.
    Runtime,
    /// A text that may hold expressions without `actions`.
    PlanTime,
    /// A name that may be made of such expressions.
    PlanName,
    /// A duration that may be made of such expressions.
    Duration,
    /// A duration.
    Length,
    Glob,
    Path,
    /// `HH:MM`.
    Clock,
    Zone,
    Cron,
    Cpu,
    Memory,
    Size,
    /// An environment variable.
    Variable,
    /// The key of a label or a taint of a cluster's node.
    Label,
    Credential,
    /// A value of a matrix axis.
    Cell,
    /// What documents alone have.
    Fixed(Fixed),
}

/// Why a text does not fit.
#[derive(Debug)]
pub(crate) struct Misfit {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Text {
    /// Whether `${{ }}` may stand in it.
    pub(crate) fn takes_templates(self) -> bool {
        matches!(
            self,
            Self::Condition
                | Self::PlanCondition
                | Self::Runtime
                | Self::PlanTime
                | Self::PlanName
                | Self::Duration
        )
    }

    /// Checks a text that holds no template.
    pub(crate) fn check(self, text: &str) -> Result<(), Misfit> {
        match self {
            Self::Free
            | Self::Script
            | Self::Condition
            | Self::PlanCondition
            | Self::Runtime
            | Self::PlanTime => Ok(()),
            Self::Name | Self::PlanName => text
                .parse::<Name>()
                .map(drop)
                .map_err(|error| misfit(codes::BAD_NAME, error.to_string())),
            Self::Identifier => check_identifier(text),
            Self::Duration | Self::Length => text
                .parse::<Millis>()
                .map(drop)
                .map_err(|error| misfit(codes::BAD_DURATION, error.to_string())),
            Self::Glob => check_glob(text),
            Self::Path => check_path(text),
            Self::Clock => check_clock(text),
            Self::Zone => check_zone(text),
            Self::Cron => check_cron(text),
            Self::Cpu => check_quantity(text, &["", "m"], "CPUs like `2`, `0.5` or `500m`"),
            Self::Memory => check_quantity(
                text,
                &["", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"],
                "memory like `512Mi` or `4Gi`",
            ),
            Self::Size => text
                .parse::<Bytes>()
                .map(drop)
                .map_err(|error| misfit(codes::BAD_QUANTITY, error.to_string())),
            Self::Variable => check_variable(text),
            Self::Label => check_label(text),
            Self::Credential => check_credential(text),
            Self::Cell => check_cell(text),
            Self::Fixed(kind) => kind.check(text),
        }
    }
}

pub(super) fn misfit(code: Code, message: String) -> Misfit {
    let (message, help) = match message.split_once(": ") {
        Some((what, why)) => (format!("cannot {what}"), Some(why.to_owned())),
        None => (message, None),
    };
    Misfit { code, message, help }
}

fn check_identifier(text: &str) -> Result<(), Misfit> {
    let starts_well = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let holds_well = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if starts_well && holds_well && text.parse::<Name>().is_ok() {
        Ok(())
    } else {
        Err(misfit(
            codes::BAD_NAME,
            format!(
                "use `{text}` as a name in expressions: it has 1 to 63 letters, digits or `_` and starts with a letter"
            ),
        ))
    }
}

fn check_variable(text: &str) -> Result<(), Misfit> {
    let starts_well = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let holds_well = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if starts_well && holds_well && text.len() <= 255 {
        Ok(())
    } else {
        Err(misfit(
            codes::BAD_VARIABLE,
            format!(
                "use `{text}` as a variable: it has letters, digits and `_` and does not start with a digit"
            ),
        ))
    }
}

fn check_glob(text: &str) -> Result<(), Misfit> {
    let glob = text.strip_prefix('!').unwrap_or(text);
    if glob.is_empty() {
        return Err(misfit(
            codes::BAD_GLOB,
            "use an empty glob: write `**` for everything".to_owned(),
        ));
    }
    pipekeeper_model::check_glob(glob)
        .map_err(|why| misfit(codes::BAD_GLOB, format!("read the glob `{text}`: {why}")))
}

fn check_path(text: &str) -> Result<(), Misfit> {
    let leaves = text.split('/').any(|part| part == "..");
    if text.is_empty() || text.starts_with('/') || leaves || text.contains('\0') {
        Err(misfit(
            codes::BAD_PATH,
            format!(
                "use the path `{text}`: paths are below the workspace, or below HOME with `~/`, without `..`"
            ),
        ))
    } else {
        Ok(())
    }
}

fn check_clock(text: &str) -> Result<(), Misfit> {
    let read = || {
        let (hour, minute) = text.split_once(':')?;
        let is_two = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        (is_two(hour) && is_two(minute)).then_some(())?;
        let (hour, minute): (u8, u8) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(())
    };
    read().ok_or_else(|| {
        misfit(
            codes::BAD_TIME,
            format!("read the time of day `{text}`: write it like `\"22:00\"`, in quotes"),
        )
    })
}

fn check_zone(text: &str) -> Result<(), Misfit> {
    let zones = TimeZoneDatabase::bundled();
    // It is found in any case of letters; other readers of the file may want the right one.
    if zones.get(text).is_ok_and(|zone| zone.iana_name() == Some(text)) {
        return Ok(());
    }
    let names: Vec<_> = zones.available().collect();
    Err(Misfit {
        code: codes::BAD_TIMEZONE,
        message: format!("`{text}` is no time zone"),
        help: Some(
            did_you_mean(text, names.iter().map(|name| name.as_str()))
                .unwrap_or_else(|| "use an IANA name such as `Europe/Berlin` or `UTC`".to_owned()),
        ),
    })
}

/// `H` stands for a value that is drawn from the pipeline's name; any value shows whether the rest is well formed.
fn check_cron(text: &str) -> Result<(), Misfit> {
    let plain = plain_cron(text);
    let fields = plain.split_whitespace().count();
    let problem = if !plain.starts_with('@') && fields != 5 {
        format!("it has {fields} fields; write `minute hour day month weekday`")
    } else {
        match Cron::from_str(&plain) {
            Ok(_) => return Ok(()),
            Err(error) => {
                let text = error.to_string().to_lowercase();
                let text = text.strip_prefix("component error: ").unwrap_or(&text);
                text.trim_end_matches('.').to_owned()
            }
        }
    };
    Err(misfit(
        codes::BAD_CRON,
        format!("read the cron pattern `{text}`: {problem}"),
    ))
}

/// Puts a value in the place of each `H`, `H/15` and `H(0-29)`.
fn plain_cron(text: &str) -> String {
    let fields = text.split_whitespace().map(|field| {
        let Some(rest) = field.strip_prefix('H') else {
            return field.to_owned();
        };
        let (range, rest) = match rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            Some((range, rest)) => (range, rest),
            None => ("", rest),
        };
        match (range, rest) {
            ("", "") => "1".to_owned(),
            ("", rest) => format!("*{rest}"),
            (range, rest) => format!("{range}{rest}"),
        }
    });
    fields.collect::<Vec<_>>().join(" ")
}

fn check_quantity(text: &str, units: &[&str], wanted: &str) -> Result<(), Misfit> {
    let digits = text
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b'.')
        .count();
    let fits = text.split_at_checked(digits).is_some_and(|(number, unit)| {
        units.contains(&unit) && number.parse::<f64>().is_ok_and(|number| number > 0.0)
    });
    if fits {
        Ok(())
    } else {
        Err(misfit(
            codes::BAD_QUANTITY,
            format!("read the quantity `{text}`: write {wanted}"),
        ))
    }
}

/// A name of at most 63 characters, behind a domain's if there is a `/`.
fn check_label(text: &str) -> Result<(), Misfit> {
    let is_word = |word: &str, longest: usize| {
        let ends = [word.bytes().next(), word.bytes().next_back()];
        word.len() <= longest
            && ends
                .iter()
                .all(|end| end.is_some_and(|end| end.is_ascii_alphanumeric()))
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let (domain, name) = text.split_once('/').unwrap_or(("x", text));
    if is_word(domain, 253) && is_word(name, 63) {
        Ok(())
    } else {
        Err(misfit(
            codes::BAD_NAME,
            format!("use `{text}` as a label: write it like `disk` or `kubernetes.io/arch`"),
        ))
    }
}

fn check_credential(text: &str) -> Result<(), Misfit> {
    match text.parse::<Credential>() {
        Ok(_) => Ok(()),
        Err(error) => Err(misfit(codes::BAD_CREDENTIAL, error.to_string())),
    }
}

fn check_cell(text: &str) -> Result<(), Misfit> {
    let holds_well = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-+:@/ ~".contains(&b));
    if holds_well && !text.is_empty() && text.len() <= 63 {
        Ok(())
    } else {
        Err(misfit(
            codes::MATRIX,
            format!(
                "use `{text}` as a matrix value: it has 1 to 63 letters, digits, spaces or `_.-+:@/~`, for it becomes part of a name"
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn texts_fit_or_not() {
        let table = [
            (
                Text::Clock,
                vec!["22:00", "00:59"],
                vec!["24:00", "9:00", "22.00", "a:bc", ""],
            ),
            (
                Text::Zone,
                vec!["UTC", "Asia/Shanghai"],
                vec!["Asia/Shanghay", ""],
            ),
            (
                Text::Cron,
                vec![
                    "H 2 * * *",
                    "*/5 * * * MON-FRI",
                    "H(0-29)/10 * * * *",
                    "@daily",
                    "H/15 * * * *",
                ],
                vec!["* * *", "61 * * * *", "hello", "", "* * * * * *"],
            ),
            (
                Text::Cpu,
                vec!["2", "500m", "0.5"],
                vec!["0", "2 cpus", "-1", "m", ""],
            ),
            (Text::Memory, vec!["4Gi", "512M"], vec!["4gb", "", "Gi"]),
            (
                Text::Path,
                vec!["a/b", "~/.m2", "."],
                vec!["/etc", "../x", "a/../../x", ""],
            ),
            (Text::Variable, vec!["A_1", "_x"], vec!["1A", "A-B", "", "É"]),
            (
                Text::Glob,
                vec!["src/**", "!docs/**", "v*"],
                vec!["[", "!", "", "{a"],
            ),
            (
                Text::Label,
                vec!["disk", "kubernetes.io/arch"],
                vec!["", "/arch", "-disk", "a/b/c", "a b"],
            ),
            (
                Text::Credential,
                vec!["git", "registry:harbor"],
                vec!["registry:", "svn", "cluster"],
            ),
            (
                Text::Cell,
                vec!["sqlite", "linux/amd64"],
                vec!["", "a,b", "a=b", "é"],
            ),
            (Text::Identifier, vec!["profile"], vec!["a-b", "1a", ""]),
        ];
        for (kind, good, bad) in table {
            for text in good {
                assert!(kind.check(text).is_ok(), "{kind:?} refuses {text}");
            }
            for text in bad {
                assert!(kind.check(text).is_err(), "{kind:?} takes {text}");
            }
        }
    }
}
