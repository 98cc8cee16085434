//! One report: its test cases, one after the other. Nothing is fetched, no document type is read, no entity is defined.

use pipekeeper_model::Millis;
use quick_xml::{
    Reader, XmlVersion,
    events::{BytesRef, BytesStart, Event},
};
use thiserror::Error;

/// How deep elements may lie in one another.
const DEEPEST: usize = 64;
/// How many cases one report may have.
const CASES: usize = 100_000;
/// Characters of a name, of a message and of the text of a failure.
const NAME: usize = 500;
const MESSAGE: usize = 1_000;
const TEXT: usize = 8_000;

/// One test case.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) suite: String,
    pub(super) name: String,
    pub(super) duration: Millis,
    pub(super) verdict: Verdict,
}

/// How it went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    Failed { message: String, text: String },
    Skipped,
}

/// Why a report cannot be read, or not to its end.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    #[error("{0}")]
    Xml(#[from] quick_xml::Error),
    #[error("it has a document type, which is not read")]
    DocumentType,
    #[error("it is nested deeper than {DEEPEST} elements")]
    TooDeep,
    #[error("it has more than {CASES} tests")]
    TooMany,
    #[error("it is no JUnit report: it has no `testsuite`")]
    NoSuite,
    #[error("it ends in the middle")]
    Unfinished,
}

/// What is being read.
#[derive(Default)]
struct State {
    /// The names of the suites that are open, each with the depth of its element.
    suites: Vec<(usize, String)>,
    case: Option<Case>,
    /// Whether the text is that of a failure.
    in_failure: bool,
    has_suite: bool,
    cases: usize,
}

/// Tells every case of a report; those before an error are told too.
pub(super) fn cases(text: &str, tell: &mut impl FnMut(Case)) -> Result<(), ReadError> {
    let mut reader = Reader::from_str(text);
    let mut state = State::default();
    let mut depth = 0_usize;
    loop {
        match reader.read_event()? {
            Event::Start(element) => {
                depth += 1;
                if depth > DEEPEST {
                    return Err(ReadError::TooDeep);
                }
                state.open(&element, depth)?;
            }
            Event::Empty(element) => {
                state.open(&element, depth + 1)?;
                state.close(element.local_name().as_ref(), depth + 1, tell);
            }
            Event::End(element) => {
                state.close(element.local_name().as_ref(), depth, tell);
                depth = depth.saturating_sub(1);
            }
            Event::Text(text) => state.text(&text.xml10_content()),
            Event::CData(text) => state.text(&text.xml10_content()),
            Event::GeneralRef(reference) => state.text(&resolved(&reference)),
            Event::DocType(_) => return Err(ReadError::DocumentType),
            Event::Eof if depth > 0 => return Err(ReadError::Unfinished),
            Event::Eof if !state.has_suite => return Err(ReadError::NoSuite),
            Event::Eof => return Ok(()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

impl State {
    fn open(&mut self, element: &BytesStart<'_>, depth: usize) -> Result<(), ReadError> {
        let told = |name: &str| attribute(element, name);
        match element.local_name().as_ref() {
            "testsuites" => self.has_suite = true,
            "testsuite" => {
                self.has_suite = true;
                self.suites.push((depth, cut(&told("name"), NAME)));
            }
            "testcase" => {
                self.cases += 1;
                if self.cases > CASES {
                    return Err(ReadError::TooMany);
                }
                self.case = Some(self.begin(&told));
            }
            "failure" | "error" => {
                if let Some(case) = &mut self.case
                    && !matches!(case.verdict, Verdict::Failed { .. })
                {
                    case.verdict = Verdict::Failed {
                        message: cut(told("message").trim(), MESSAGE),
                        text: String::new(),
                    };
                    self.in_failure = true;
                }
            }
            "skipped" => {
                if let Some(case) = &mut self.case {
                    case.verdict = Verdict::Skipped;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&self, told: &dyn Fn(&str) -> String) -> Case {
        let class = told("classname");
        let suite = if class.is_empty() {
            self.suites
                .last()
                .map(|(_, name)| name.clone())
                .unwrap_or_default()
        } else {
            class
        };
        // GoogleTest writes tests that are switched off so.
        let is_off = matches!(told("status").as_str(), "notrun" | "disabled");
        Case {
            suite: cut(&suite, NAME),
            name: cut(&told("name"), NAME),
            duration: duration(&told("time")),
            verdict: if is_off { Verdict::Skipped } else { Verdict::Passed },
        }
    }

    fn close(&mut self, name: &str, depth: usize, tell: &mut impl FnMut(Case)) {
        match name {
            "testcase" => {
                self.in_failure = false;
                if let Some(case) = self.case.take() {
                    tell(case.tidied());
                }
            }
            "testsuite" => self.suites.retain(|(known, _)| *known != depth),
            "failure" | "error" => self.in_failure = false,
            _ => {}
        }
    }

    fn text(&mut self, more: &str) {
        if let Some(Case {
            verdict: Verdict::Failed { text, .. },
            ..
        }) = self.case.as_mut().filter(|_| self.in_failure)
        {
            let room = TEXT.saturating_sub(text.len());
            text.push_str(&cut(more, room));
        }
    }
}

impl Case {
    /// Without the blank lines around a failure's text; its first line is the message if there is no other.
    fn tidied(mut self) -> Self {
        if let Verdict::Failed { message, text } = &mut self.verdict {
            *text = text.trim_end().trim_start_matches(['\n', '\r']).to_owned();
            if message.is_empty() {
                *message = cut(text.lines().next().unwrap_or_default().trim(), MESSAGE);
            }
        }
        self
    }
}

/// An attribute's value; one that is not there, or not well formed, is empty.
fn attribute(element: &BytesStart<'_>, name: &str) -> String {
    let mut attributes = element.attributes();
    // Looking for doubles takes the square of their number.
    let found = attributes
        .with_checks(false)
        .flatten()
        .find(|attribute| attribute.key.as_ref() == name);
    found
        .and_then(|attribute| {
            attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .ok()
                .map(|value| value.into_owned())
        })
        .unwrap_or_default()
}

/// The five entities that every document has, and characters by their number; others stay as they are.
fn resolved(reference: &BytesRef<'_>) -> String {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return character.to_string();
    }
    let name = reference.xml10_content();
    quick_xml::escape::resolve_predefined_entity(&name).map_or_else(|| format!("&{name};"), str::to_owned)
}

/// Seconds as a fraction, some with commas between the thousands.
fn duration(text: &str) -> Millis {
    const LONGEST: f64 = 1e9;
    let seconds: f64 = text.replace(',', "").trim().parse().unwrap_or(0.0);
    let seconds = if seconds.is_finite() { seconds } else { 0.0 };
    let length = std::time::Duration::from_secs_f64(seconds.clamp(0.0, LONGEST));
    Millis(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}

/// The start of a text, cut between characters.
fn cut(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most))
        .unwrap_or_default()
        .to_owned()
}
