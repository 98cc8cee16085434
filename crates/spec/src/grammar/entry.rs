//! The keys of entries and steps.

use pipekeeper_model::plan::Feature;

use super::{
    ACTS, ENV, FREE, Key, Kinds, NAME, Object, RUNTIME, Shape, TEXTS, Text,
    file::SHELLS,
    key, needs,
    parts::{
        APPROVE, ARTIFACT, BUILD, CHECKOUT, LOCK, ONE_LOCK, ONE_SECRET, POD, REPORTS, RESOURCES, RETRY,
        REUSE, SERVICE, START, SYNC, WAIT,
    },
    word,
};

const WORK: Kinds = Kinds::WORK;
const GROUP: Kinds = Kinds::GROUP;
const LEAVES: Kinds = Kinds::LEAVES;

/// The keys that say what an entry is.
pub(crate) const DEFINING: [(&str, Kinds); 11] = [
    ("run", WORK),
    ("command", WORK),
    ("steps", WORK),
    ("build", WORK),
    ("approve", Kinds::APPROVE),
    ("promote", Kinds::PROMOTE),
    ("sync", Kinds::SYNC),
    ("wait", Kinds::WAIT),
    ("call", Kinds::CALL),
    ("parallel", GROUP),
    ("serial", GROUP),
];

const RUN: Key = key("run", ACTS, Shape::Text(Text::Script), "A script for the shell.");
const COMMAND: Key = key(
    "command",
    ACTS,
    Shape::List(&RUNTIME),
    "A program and its arguments, run without a shell.",
);
const BUILD_KEY: Key = key(
    "build",
    needs(Feature::Build),
    Shape::Object(&BUILD),
    "An image build.",
);
const IMAGE: Key = key(
    "image",
    needs(Feature::Image),
    Shape::Text(Text::PlanTime),
    "The image to work in.",
);
const SHELL: Key = key("shell", ACTS, Shape::Words(&SHELLS), "The shell of `run`.");
const WORKING_DIR: Key = key(
    "working_dir",
    ACTS,
    Shape::Text(Text::Path),
    "A folder of the workspace to work in.",
);
const TIMEOUT: Key = key(
    "timeout",
    ACTS,
    Shape::Text(Text::Duration),
    "The limit of an attempt's running time, or how long a gate stays open.",
);

/// An entry of `actions`, `finally`, `parallel` or `serial`.
pub(crate) static ENTRY: Object = Object {
    what: "an entry",
    keys: &[
        key("name", ACTS, NAME, "Its name, unique in the file."),
        RUN.on(WORK),
        key(
            "steps",
            ACTS,
            Shape::List(&Shape::Object(&STEP)),
            "Several commands over one workspace.",
        )
        .on(WORK),
        COMMAND.on(WORK),
        BUILD_KEY.on(WORK),
        key(
            "approve",
            ACTS,
            Shape::AnyOf(&[Shape::Text(Text::PlanTime), Shape::Object(&APPROVE)]),
            "A gate: people decide.",
        )
        .on(Kinds::APPROVE),
        key(
            "promote",
            needs(Feature::Promote),
            NAME,
            "The environment that is to run what was built.",
        )
        .on(Kinds::PROMOTE),
        key(
            "sync",
            needs(Feature::Sync),
            Shape::AnyOf(&[NAME, Shape::Object(&SYNC)]),
            "An app, or a folder, that a cluster is to match.",
        )
        .on(Kinds::SYNC),
        key(
            "wait",
            ACTS,
            Shape::AnyOf(&[Shape::Words(&[word("tag")]), Shape::Object(&WAIT)]),
            "A pause; beside `promote`, `tag` ends it when the tag has moved.",
        )
        .on(Kinds::WAIT.and(Kinds::PROMOTE)),
        key("call", needs(Feature::Call), NAME, "Another pipeline to run.").on(Kinds::CALL),
        key(
            "parallel",
            ACTS,
            Shape::Entries,
            "Entries that may run at the same time.",
        )
        .on(GROUP),
        key(
            "serial",
            ACTS,
            Shape::Entries,
            "Entries that run one after the other.",
        )
        .on(GROUP),
        key(
            "needs",
            ACTS,
            Shape::AnyOf(&[NAME, Shape::List(&NAME)]),
            "The entries it waits for, instead of all before it.",
        ),
        key(
            "ungated",
            ACTS,
            Shape::Bool,
            "Earlier `approve` entries do not stand in front of its `needs`.",
        ),
        key(
            "if",
            ACTS,
            Shape::Text(Text::Condition),
            "An expression; when false, it is skipped.",
        ),
        key(
            "start",
            ACTS,
            Shape::AnyOf(&[
                Shape::Words(&[word("auto"), word("manual"), word("confirm")]),
                Shape::Object(&START),
            ]),
            "What sets it going when its turn has come.",
        )
        .on(LEAVES),
        TIMEOUT.on(LEAVES),
        key(
            "retry",
            ACTS,
            Shape::Object(&RETRY),
            "When another attempt is made.",
        )
        .on(WORK),
        key(
            "allow_failure",
            ACTS,
            Shape::Bool,
            "Its failure leaves the run green.",
        )
        .on(LEAVES),
        key("env", ACTS, ENV, "Variables.").on(WORK.and(GROUP)),
        IMAGE.on(WORK.and(GROUP)),
        key(
            "cluster",
            needs(Feature::Cluster),
            Shape::Text(Text::PlanName),
            "The cluster to work in.",
        )
        .on(WORK.and(GROUP)),
        key(
            "environment",
            ACTS,
            Shape::Text(Text::PlanName),
            "The Environment that it works on: its variables, cluster, approvals, windows and branches hold for it.",
        )
        .on(WORK.and(GROUP)),
        key(
            "lock",
            ACTS,
            Shape::AnyOf(&[
                Shape::Text(Text::PlanName),
                Shape::Object(&LOCK),
                Shape::List(&ONE_LOCK),
            ]),
            "Locks held from its first start to its last end, all taken at once.",
        ),
        key(
            "matrix",
            ACTS,
            Shape::Map {
                key: Text::Identifier,
                of: &Shape::List(&Shape::Text(Text::Cell)),
            },
            "Axes: one node for each combination of values.",
        )
        .on(WORK),
        SHELL.on(WORK),
        WORKING_DIR.on(WORK),
        key(
            "checkout",
            ACTS,
            Shape::AnyOf(&[Shape::Bool, Shape::Object(&CHECKOUT)]),
            "Whether and how the source arrives.",
        )
        .on(WORK),
        key(
            "use",
            ACTS,
            TEXTS,
            "Artifacts of other actions, `ACTION.ARTIFACT`; also waits for them.",
        )
        .on(WORK),
        key(
            "artifacts",
            ACTS,
            Shape::Map {
                key: Text::Name,
                of: &Shape::AnyOf(&[
                    Shape::Text(Text::Glob),
                    Shape::List(&Shape::Text(Text::Glob)),
                    Shape::Object(&ARTIFACT),
                ]),
            },
            "Files that it keeps for others.",
        )
        .on(WORK),
        key(
            "cache",
            ACTS,
            Shape::AnyOf(&[NAME, Shape::List(&NAME)]),
            "Caches of the file that it uses.",
        )
        .on(WORK),
        key("secrets", ACTS, Shape::List(&ONE_SECRET), "Secrets that it gets.").on(WORK),
        key(
            "credentials",
            needs(Feature::Credentials),
            Shape::List(&Shape::Text(Text::Credential)),
            "Borrowed rights: `git`, `registry:NAME`, `cluster:NAME`.",
        )
        .on(WORK),
        key(
            "services",
            needs(Feature::Services),
            Shape::Map {
                key: Text::Name,
                of: &Shape::Object(&SERVICE),
            },
            "Containers beside it.",
        )
        .on(WORK),
        key(
            "reports",
            ACTS,
            Shape::Object(&REPORTS),
            "Test reports to collect.",
        )
        .on(WORK),
        key(
            "resources",
            needs(Feature::Resources),
            Shape::Object(&RESOURCES),
            "What it asks of its host.",
        )
        .on(WORK),
        key(
            "reuse",
            ACTS,
            Shape::Object(&REUSE),
            "When an earlier success stands in for it.",
        )
        .on(WORK),
        key(
            "plan",
            needs(Feature::DynamicPlan),
            Shape::Text(Text::Path),
            "A file that it writes with further nodes.",
        )
        .on(WORK),
        key(
            "pod",
            needs(Feature::Pod),
            Shape::Object(&POD),
            "Fields of its pod, within what the cluster allows.",
        )
        .on(WORK),
        key(
            "log_limit",
            ACTS,
            Shape::Text(Text::Size),
            "The most log that it may write, such as `100Mi`.",
        )
        .on(WORK),
        key(
            "images",
            needs(Feature::Promote),
            Shape::AnyOf(&[RUNTIME, Shape::List(&RUNTIME)]),
            "The images to promote.",
        )
        .on(Kinds::PROMOTE),
        key(
            "with",
            needs(Feature::Call),
            Shape::Map {
                key: Text::Identifier,
                of: &RUNTIME,
            },
            "Parameters of the called pipeline.",
        )
        .on(Kinds::CALL),
    ],
};

/// One of `steps`.
static STEP: Object = Object {
    what: "a step",
    keys: &[
        key("name", ACTS, FREE, "A name for people."),
        RUN,
        COMMAND,
        BUILD_KEY,
        IMAGE,
        SHELL,
        key("env", ACTS, ENV, "Variables of this step."),
        key(
            "timeout",
            ACTS,
            Shape::Text(Text::Length),
            "The limit of this step's running time.",
        ),
        WORKING_DIR,
    ],
};
