//! The keys of entries and steps.

use pipekeeper_model::plan::Feature;

use super::{
    ACTS, BETWEEN, ENV, FREE, GLOBS, Key, Kinds, NAME, Object, PATHS, PLAN_ENV, RUNTIME, Shape, TEXTS, Text,
    file::{PARAM, SHELLS, TIMEZONE, clock},
    key, needs, word,
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
            needs(Feature::Environment),
            Shape::Text(Text::PlanName),
            "The environment whose variables, secrets and gates it uses.",
        )
        .on(WORK.and(GROUP)),
        key(
            "lock",
            needs(Feature::Lock),
            Shape::AnyOf(&[
                Shape::Text(Text::PlanName),
                Shape::Object(&LOCK),
                Shape::List(&ONE_LOCK),
            ]),
            "Locks held from its start to its end.",
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
            needs(Feature::Reuse),
            Shape::Object(&REUSE),
            "When an earlier success is adopted.",
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
            Shape::Any,
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

static BUILD: Object = Object {
    what: "a build",
    keys: &[
        key(
            "context",
            needs(Feature::Build),
            Shape::Text(Text::Path),
            "The folder to build from; default `.`.",
        ),
        key(
            "file",
            needs(Feature::Build),
            Shape::Text(Text::Path),
            "The container file; default `Dockerfile`.",
        ),
        key(
            "repository",
            needs(Feature::Build),
            Shape::Text(Text::PlanTime),
            "Where the image goes.",
        )
        .required(),
        key("args", needs(Feature::Build), ENV, "Build arguments."),
        key(
            "platforms",
            needs(Feature::Build),
            TEXTS,
            "Platforms such as `linux/amd64`.",
        ),
        key(
            "push",
            needs(Feature::Build),
            Shape::Words(&[word("auto"), word("always")]),
            "Whether it pushes on refs that no environment admits.",
        ),
    ],
};

static APPROVE: Object = Object {
    what: "`approve`",
    keys: &[
        key("text", ACTS, Shape::Text(Text::PlanTime), "What is asked."),
        key(
            "by",
            needs(Feature::ApproverRules),
            TEXTS,
            "Who may answer, such as `role:ops`.",
        ),
        // A count above one needs approver rules; the lowering records that.
        key(
            "count",
            ACTS,
            Shape::Int { min: 1, max: 50 },
            "How many distinct approvals are needed.",
        ),
        key(
            "params",
            needs(Feature::ApproveParams),
            Shape::Map {
                key: Text::Identifier,
                of: &Shape::Object(&PARAM),
            },
            "Typed values that are asked for.",
        ),
        key(
            "keep",
            ACTS,
            Shape::Words(&[word("newest"), word("all")]),
            "Whether an older waiting run stays when a newer one arrives.",
        ),
    ],
};

static SYNC: Object = Object {
    what: "`sync`",
    keys: &[
        key(
            "path",
            needs(Feature::Sync),
            Shape::Text(Text::Path),
            "The folder of this repository.",
        )
        .required(),
        key("environment", needs(Feature::Sync), NAME, "The environment.").required(),
        key(
            "images",
            needs(Feature::Sync),
            Shape::AnyOf(&[RUNTIME, Shape::List(&RUNTIME)]),
            "Images to set.",
        ),
    ],
};

static WAIT: Object = Object {
    what: "`wait`",
    keys: &[
        key("for", ACTS, Shape::Text(Text::Length), "A length of time."),
        clock("until", "A time of day."),
        key("between", ACTS, BETWEEN, "Two times of day."),
        TIMEZONE,
    ],
};

static START: Object = Object {
    what: "`start`",
    keys: &[
        key(
            "confirm",
            needs(Feature::ConfirmByOther),
            Shape::Words(&[word("other")]),
            "The second look must be another person's.",
        ),
        clock("at", "At the next such time of day."),
        clock("after", "From this time of day until midnight."),
        key("between", ACTS, BETWEEN, "Between two times of day."),
        TIMEZONE,
    ],
};

static RETRY: Object = Object {
    what: "`retry`",
    keys: &[
        key(
            "attempts",
            ACTS,
            Shape::Int { min: 1, max: 20 },
            "All tries together.",
        )
        .required(),
        key(
            "on",
            ACTS,
            Shape::AnyOf(&[RETRIED, Shape::List(&RETRIED)]),
            "The outcomes that are tried again; default failed and lost.",
        ),
        key(
            "backoff",
            ACTS,
            Shape::Text(Text::Length),
            "The pause before the next try; doubled for each further one.",
        ),
    ],
};

const RETRIED: Shape = Shape::Words(&[word("failed"), word("lost"), word("timed_out"), word("errored")]);

const ONE_LOCK: Shape = Shape::AnyOf(&[Shape::Text(Text::PlanName), Shape::Object(&LOCK)]);

static LOCK: Object = Object {
    what: "a lock",
    keys: &[
        key(
            "name",
            needs(Feature::Lock),
            Shape::Text(Text::PlanName),
            "Its name.",
        )
        .required(),
        key(
            "slots",
            needs(Feature::Lock),
            Shape::Int { min: 1, max: 1_000 },
            "How many may hold it at once.",
        ),
        key(
            "order",
            needs(Feature::Lock),
            Shape::Words(&[word("oldest"), word("newest")]),
            "Which waiting one goes first.",
        ),
        key(
            "at_gate",
            needs(Feature::Lock),
            Shape::Words(&[word("keep"), word("yield")]),
            "Whether a waiting gate gives it up to a newer run.",
        ),
    ],
};

static CHECKOUT: Object = Object {
    what: "`checkout`",
    keys: &[
        key(
            "depth",
            needs(Feature::CheckoutExtras),
            Shape::Int {
                min: 1,
                max: 1_000_000,
            },
            "Commits of history.",
        ),
        key(
            "submodules",
            needs(Feature::CheckoutExtras),
            Shape::Bool,
            "Whether submodules are fetched.",
        ),
        key(
            "lfs",
            needs(Feature::CheckoutExtras),
            Shape::Bool,
            "Whether LFS objects are fetched.",
        ),
    ],
};

static ARTIFACT: Object = Object {
    what: "an artifact",
    keys: &[
        key("paths", ACTS, GLOBS, "Globs below the workspace.").required(),
        key(
            "always",
            ACTS,
            Shape::Bool,
            "Whether it is kept after a failure too.",
        ),
    ],
};

const ONE_SECRET: Shape = Shape::AnyOf(&[Shape::Text(Text::Variable), Shape::Object(&SECRET)]);

static SECRET: Object = Object {
    what: "a secret",
    keys: &[
        key("name", ACTS, NAME, "Its name on the server.").required(),
        key(
            "env",
            ACTS,
            Shape::Text(Text::Variable),
            "The variable that holds it.",
        ),
        key(
            "file",
            ACTS,
            Shape::Text(Text::Path),
            "The file that holds it; `~/` is HOME.",
        ),
    ],
};

static SERVICE: Object = Object {
    what: "a service",
    keys: &[
        key(
            "image",
            needs(Feature::Services),
            Shape::Text(Text::PlanTime),
            "Its image.",
        )
        .required(),
        key("env", needs(Feature::Services), PLAN_ENV, "Its variables."),
        key(
            "ready",
            needs(Feature::Services),
            Shape::Text(Text::Script),
            "The command that succeeds when it is ready.",
        ),
        key(
            "if",
            needs(Feature::Services),
            Shape::Text(Text::PlanCondition),
            "Whether it is there.",
        ),
    ],
};

static REPORTS: Object = Object {
    what: "`reports`",
    keys: &[key("junit", ACTS, PATHS, "JUnit XML files.")],
};

static RESOURCES: Object = Object {
    what: "`resources`",
    keys: &[
        key(
            "cpu",
            needs(Feature::Resources),
            Shape::Text(Text::Cpu),
            "CPUs, such as `2` or `500m`.",
        ),
        key(
            "memory",
            needs(Feature::Resources),
            Shape::Text(Text::Memory),
            "Memory, such as `4Gi`.",
        ),
    ],
};

static REUSE: Object = Object {
    what: "`reuse`",
    keys: &[
        key(
            "inputs",
            needs(Feature::Reuse),
            GLOBS,
            "Files that its result depends on.",
        )
        .required(),
        key(
            "env",
            needs(Feature::Reuse),
            TEXTS,
            "Variables that its result depends on.",
        ),
    ],
};
