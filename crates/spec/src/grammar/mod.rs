//! The language as data: every key of a file with its shape, its treatment and a line of help.
//!
//! The shape check, the JSON Schema and the key table are all made from it, so they cannot disagree. It says nothing
//! about meaning: names, order and expressions are [`crate::lower`]'s.

mod entry;
mod file;
mod fixed;
mod parts;
mod text;

use pipekeeper_model::plan::Feature;

pub(crate) use entry::{DEFINING, ENTRY};
pub(crate) use file::FILE;
pub(crate) use fixed::Fixed;
pub(crate) use parts::RESOURCES;
pub(crate) use text::Text;

/// What a key of the file leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// This version acts on it.
    Acts,
    /// It is recorded in the plan, and a backend or version that cannot do it refuses by name.
    Needs(Feature),
}

/// What a value looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Text(Text),
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    Words(&'static [Word]),
    List(&'static Shape),
    /// Keys of the user's choice.
    Map {
        key: Text,
        of: &'static Shape,
    },
    Object(&'static Object),
    /// A mapping that has exactly one of some keys.
    Choice {
        object: &'static Object,
        of: &'static [&'static str],
    },
    /// One of several, told apart by the kind of value.
    AnyOf(&'static [Shape]),
    /// A list of entries, each an [`ENTRY`].
    Entries,
}

/// One word of a fixed set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word {
    pub(crate) text: &'static str,
    pub(crate) treatment: Treatment,
}

/// A mapping with fixed keys.
#[derive(Debug)]
pub(crate) struct Object {
    /// What it is, for messages.
    pub(crate) what: &'static str,
    pub(crate) keys: &'static [Key],
}

/// One key of a mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) treatment: Treatment,
    pub(crate) shape: Shape,
    pub(crate) help: &'static str,
    pub(crate) presence: Presence,
    /// For keys of an entry: the kinds of entry that take it.
    pub(crate) kinds: Kinds,
}

/// Whether a key must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    Optional,
}

/// A set of kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    pub(crate) const WORK: Self = Self(1);
    pub(crate) const APPROVE: Self = Self(2);
    pub(crate) const PROMOTE: Self = Self(4);
    pub(crate) const SYNC: Self = Self(8);
    pub(crate) const WAIT: Self = Self(16);
    pub(crate) const CALL: Self = Self(32);
    pub(crate) const GROUP: Self = Self(64);
    pub(crate) const LEAVES: Self = Self(63);
    pub(crate) const ALL: Self = Self(127);

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn holds(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

pub(crate) const ACTS: Treatment = Treatment::Acts;

const fn needs(feature: Feature) -> Treatment {
    Treatment::Needs(feature)
}

pub(crate) const fn key(name: &'static str, treatment: Treatment, shape: Shape, help: &'static str) -> Key {
    Key {
        name,
        treatment,
        shape,
        help,
        presence: Presence::Optional,
        kinds: Kinds::ALL,
    }
}

impl Key {
    pub(crate) const fn required(mut self) -> Self {
        self.presence = Presence::Required;
        self
    }

    const fn on(mut self, kinds: Kinds) -> Self {
        self.kinds = kinds;
        self
    }
}

pub(crate) const fn word(text: &'static str) -> Word {
    Word {
        text,
        treatment: ACTS,
    }
}

const fn word_needs(text: &'static str, feature: Feature) -> Word {
    Word {
        text,
        treatment: needs(feature),
    }
}

pub(crate) const FREE: Shape = Shape::Text(Text::Free);
pub(crate) const NAME: Shape = Shape::Text(Text::Name);
const RUNTIME: Shape = Shape::Text(Text::Runtime);
const GLOB: Shape = Shape::Text(Text::Glob);
pub(crate) const ZONE: Shape = Shape::Text(Text::Zone);
const CLOCK: Shape = Shape::Text(Text::Clock);
pub(crate) const GLOBS: Shape = Shape::AnyOf(&[GLOB, Shape::List(&GLOB)]);
const PATHS: Shape = Shape::AnyOf(&[Shape::Text(Text::Path), Shape::List(&Shape::Text(Text::Path))]);
pub(crate) const TEXTS: Shape = Shape::AnyOf(&[FREE, Shape::List(&FREE)]);
pub(crate) const POSITIVE: Shape = Shape::Int { min: 1, max: 100_000 };
const ENV: Shape = Shape::Map {
    key: Text::Variable,
    of: &RUNTIME,
};
const PLAN_ENV: Shape = Shape::Map {
    key: Text::Variable,
    of: &Shape::Text(Text::PlanTime),
};
const BETWEEN: Shape = Shape::List(&CLOCK);
const OUTCOMES: Shape = Shape::Words(&[
    word("succeeded"),
    word("failed"),
    word("rejected"),
    word("errored"),
    word("timed_out"),
    word("cancelled"),
    word("superseded"),
    word("skipped"),
    word("lost"),
]);
