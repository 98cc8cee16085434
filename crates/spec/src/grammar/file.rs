//! The keys of the file itself: triggers, parameters, caches and defaults.

use pipekeeper_model::plan::Feature;

use super::{
    ACTS, CLOCK, ENV, FREE, GLOBS, Key, Kinds, NAME, OUTCOMES, Object, PATHS, POSITIVE, Shape, TEXTS, Text,
    Word, ZONE, key, needs, word, word_needs,
};

/// The whole file.
pub(crate) static FILE: Object = Object {
    what: "a pipeline",
    keys: &[
        key(
            "name",
            ACTS,
            NAME,
            "The pipeline's name; default: the file's name.",
        ),
        key(
            "on",
            ACTS,
            Shape::Object(&ON),
            "What starts a run; default: every push, and by hand.",
        ),
        key(
            "params",
            ACTS,
            Shape::Map {
                key: Text::Identifier,
                of: &Shape::Object(&PARAM),
            },
            "Typed values that a run is given.",
        ),
        key("env", ACTS, ENV, "Variables of every action."),
        key(
            "image",
            needs(Feature::Image),
            Shape::Text(Text::PlanTime),
            "The image of actions that name none.",
        ),
        key(
            "cluster",
            needs(Feature::Cluster),
            Shape::Text(Text::PlanName),
            "The cluster of actions that name none.",
        ),
        key(
            "shell",
            ACTS,
            Shape::Words(&SHELLS),
            "The shell of actions that name none.",
        ),
        key(
            "max_parallel",
            ACTS,
            POSITIVE,
            "How many actions of a run may work at once.",
        ),
        key(
            "on_failure",
            ACTS,
            Shape::Words(&[word("stop"), word("continue")]),
            "Whether one failure stops what has not started (default) or only what needs it.",
        ),
        key(
            "concurrency",
            ACTS,
            Shape::AnyOf(&[Shape::Text(Text::PlanTime), Shape::Object(&CONCURRENCY)]),
            "How runs of this pipeline stand to each other.",
        ),
        key(
            "caches",
            ACTS,
            Shape::Map {
                key: Text::Name,
                of: &Shape::Object(&CACHE),
            },
            "Disposable speed-ups that actions name in `cache`.",
        ),
        key(
            "include",
            needs(Feature::Include),
            Shape::AnyOf(&[FREE, Shape::Object(&INCLUDE), Shape::List(&INCLUDED)]),
            "Other files to take definitions from.",
        ),
        key("actions", ACTS, Shape::Entries, "What a run does: a serial list.").required(),
        key(
            "finally",
            ACTS,
            Shape::Entries,
            "What runs after success, failure and cancel.",
        )
        .on(Kinds::ALL),
    ],
};

pub(super) const SHELLS: [Word; 2] = [word("sh"), word("bash")];

const INCLUDED: Shape = Shape::AnyOf(&[FREE, Shape::Object(&INCLUDE)]);

static INCLUDE: Object = Object {
    what: "an include",
    keys: &[
        key(
            "repository",
            needs(Feature::Include),
            FREE,
            "The other repository.",
        ),
        key("file", needs(Feature::Include), FREE, "The file there.").required(),
        key(
            "ref",
            needs(Feature::Include),
            FREE,
            "The protected branch or tag.",
        ),
    ],
};

static ON: Object = Object {
    what: "`on`",
    keys: &[
        key(
            "push",
            ACTS,
            Shape::AnyOf(&[Shape::Bool, Shape::Object(&PUSH)]),
            "Commits on a branch.",
        ),
        key(
            "tag",
            ACTS,
            Shape::AnyOf(&[
                Shape::Bool,
                Shape::Text(Text::Glob),
                Shape::List(&Shape::Text(Text::Glob)),
            ]),
            "Tags, by name.",
        ),
        merge_request("merge_request"),
        merge_request("pull_request"),
        key(
            "cron",
            needs(Feature::CronTrigger),
            Shape::List(&Shape::Object(&CRON)),
            "Schedules.",
        ),
        key("manual", ACTS, Shape::Bool, "A person, by hand."),
        key(
            "image",
            needs(Feature::ImageTrigger),
            Shape::AnyOf(&[Shape::Object(&ON_IMAGE), Shape::List(&Shape::Object(&ON_IMAGE))]),
            "A registry said that an image arrived.",
        ),
        key(
            "pipeline",
            needs(Feature::PipelineTrigger),
            Shape::AnyOf(&[
                Shape::Object(&ON_PIPELINE),
                Shape::List(&Shape::Object(&ON_PIPELINE)),
            ]),
            "Another pipeline finished.",
        ),
    ],
};

static PUSH: Object = Object {
    what: "`push`",
    keys: &[
        key("branches", ACTS, GLOBS, "Globs; `!` excludes."),
        key("paths", ACTS, GLOBS, "Globs of changed files; `!` excludes."),
    ],
};

const fn merge_request(name: &'static str) -> Key {
    key(
        name,
        needs(Feature::MergeRequestTrigger),
        ON_MERGE_REQUEST,
        "Merge requests; both words mean the same.",
    )
}

const ON_MERGE_REQUEST: Shape = Shape::AnyOf(&[Shape::Bool, Shape::Object(&MERGE_REQUEST)]);

static MERGE_REQUEST: Object = Object {
    what: "`merge_request`",
    keys: &[
        key(
            "into",
            needs(Feature::MergeRequestTrigger),
            GLOBS,
            "Globs of target branches.",
        ),
        key(
            "test",
            needs(Feature::MergeRequestTrigger),
            Shape::Words(&[word("head"), word("merged")]),
            "Test the branch's head (default) or the merge's result.",
        ),
    ],
};

static CRON: Object = Object {
    what: "a schedule",
    keys: &[
        key("name", needs(Feature::CronTrigger), NAME, "Its name.").required(),
        key(
            "at",
            needs(Feature::CronTrigger),
            Shape::Text(Text::Cron),
            "A cron pattern; `H` spreads the load.",
        )
        .required(),
        key(
            "timezone",
            needs(Feature::CronTrigger),
            ZONE,
            "An IANA name; default UTC.",
        ),
        key(
            "branches",
            needs(Feature::CronTrigger),
            GLOBS,
            "Globs of branches.",
        ),
        key(
            "if_changed",
            needs(Feature::CronTrigger),
            Shape::Bool,
            "Only if the branch moved since the last run.",
        ),
    ],
};

static ON_IMAGE: Object = Object {
    what: "an image trigger",
    keys: &[
        key(
            "repository",
            needs(Feature::ImageTrigger),
            FREE,
            "The image's repository.",
        )
        .required(),
        key("tags", needs(Feature::ImageTrigger), GLOBS, "Globs of tags."),
        key(
            "semver",
            needs(Feature::ImageTrigger),
            FREE,
            "A range of versions.",
        ),
        key(
            "regex",
            needs(Feature::ImageTrigger),
            FREE,
            "A regular expression for tags.",
        ),
    ],
};

static ON_PIPELINE: Object = Object {
    what: "a pipeline trigger",
    keys: &[
        key(
            "name",
            needs(Feature::PipelineTrigger),
            NAME,
            "The other pipeline.",
        )
        .required(),
        key(
            "outcome",
            needs(Feature::PipelineTrigger),
            Shape::AnyOf(&[OUTCOMES, Shape::List(&OUTCOMES)]),
            "How it must have ended; default succeeded.",
        ),
    ],
};

/// A typed parameter.
pub(super) static PARAM: Object = Object {
    what: "a parameter",
    keys: &[
        key(
            "type",
            ACTS,
            Shape::Words(&[word("string"), word("int"), word("bool"), word("enum")]),
            "What it takes; default string.",
        ),
        key("values", ACTS, TEXTS, "The words of an enum."),
        key("default", ACTS, FREE, "Its value when a run does not say."),
        key("help", ACTS, FREE, "A line for people."),
    ],
};

static CONCURRENCY: Object = Object {
    what: "`concurrency`",
    keys: &[
        key(
            "group",
            ACTS,
            Shape::Text(Text::PlanTime),
            "Runs of the same group stand in each other's way.",
        )
        .required(),
        key(
            "on_new",
            ACTS,
            Shape::Words(&[word("cancel_running"), word("cancel_waiting"), word("queue")]),
            "What a newer run does to older ones; default queue.",
        ),
        key(
            "scope",
            ACTS,
            Shape::Words(&[word("pipeline"), word("project"), word("server")]),
            "Across what the group's name is shared.",
        ),
    ],
};

static CACHE: Object = Object {
    what: "a cache",
    keys: &[
        key(
            "paths",
            ACTS,
            PATHS,
            "Folders: below HOME with `~/`, else below the workspace.",
        )
        .required(),
        key(
            "key",
            ACTS,
            Shape::AnyOf(&[Shape::Text(Text::Runtime), Shape::Object(&CACHE_KEY)]),
            "What its content depends on.",
        ),
        key("restore", ACTS, TEXTS, "Prefixes of older keys to fall back on."),
        key(
            "mode",
            ACTS,
            Shape::Words(&[word("archive"), word_needs("volume", Feature::VolumeCache)]),
            "A keyed archive (default) or a shared volume of the cluster.",
        ),
        key(
            "volume",
            needs(Feature::VolumeCache),
            NAME,
            "The volume's name in the Cluster document.",
        ),
        key(
            "access",
            needs(Feature::VolumeCache),
            Shape::Words(&[word("many"), word_needs("one", Feature::SoleVolume)]),
            "How many actions may have the volume at once.",
        ),
    ],
};

static CACHE_KEY: Object = Object {
    what: "a cache key",
    keys: &[
        key("files", ACTS, GLOBS, "Files whose contents are part of the key."),
        key("text", ACTS, Shape::Text(Text::Runtime), "Further text."),
    ],
};

/// A moment of the clock, shared by `start` and `wait`.
pub(super) const TIMEZONE: Key = key("timezone", ACTS, ZONE, "An IANA name; default UTC.");
/// A time of day.
pub(super) const fn clock(name: &'static str, help: &'static str) -> Key {
    key(name, ACTS, CLOCK, help)
}
