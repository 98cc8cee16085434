//! The mappings that stand under the keys of entries.

use pipekeeper_model::plan::Feature;

use super::{
    ACTS, BETWEEN, ENV, Fixed, GLOBS, NAME, Object, PATHS, PLAN_ENV, RUNTIME, Shape, TEXTS, Text,
    file::{PARAM, TIMEZONE, clock},
    key, needs, word,
};

pub(super) static BUILD: Object = Object {
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

pub(super) static APPROVE: Object = Object {
    what: "`approve`",
    keys: &[
        key("text", ACTS, Shape::Text(Text::PlanTime), "What is asked."),
        key(
            "by",
            ACTS,
            Shape::AnyOf(&[
                Shape::Text(Text::Fixed(Fixed::Approver)),
                Shape::List(&Shape::Text(Text::Fixed(Fixed::Approver))),
            ]),
            "Who may answer: `role:ops`, `user:ann`; without it, whoever may approve.",
        ),
        key(
            "count",
            ACTS,
            Shape::Int { min: 1, max: 50 },
            "How many distinct approvals are needed.",
        ),
        key(
            "self",
            ACTS,
            Shape::Bool,
            "Whether whoever asked for the run may approve.",
        ),
        key(
            "expires",
            ACTS,
            Shape::Text(Text::Duration),
            "How long it stays open.",
        ),
        key(
            "params",
            ACTS,
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

pub(super) static SYNC: Object = Object {
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

pub(super) static WAIT: Object = Object {
    what: "`wait`",
    keys: &[
        key("for", ACTS, Shape::Text(Text::Length), "A length of time."),
        clock("until", "A time of day."),
        key("between", ACTS, BETWEEN, "Two times of day."),
        TIMEZONE,
    ],
};

pub(super) static START: Object = Object {
    what: "`start`",
    keys: &[
        key(
            "confirm",
            ACTS,
            Shape::Words(&[word("other")]),
            "The second look must be another person's.",
        ),
        clock("at", "At the next such time of day."),
        clock("after", "From this time of day until midnight."),
        key("between", ACTS, BETWEEN, "Between two times of day."),
        TIMEZONE,
    ],
};

pub(super) static RETRY: Object = Object {
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

pub(super) const RETRIED: Shape =
    Shape::Words(&[word("failed"), word("lost"), word("timed_out"), word("errored")]);

pub(super) const ONE_LOCK: Shape = Shape::AnyOf(&[Shape::Text(Text::PlanName), Shape::Object(&LOCK)]);

pub(super) static LOCK: Object = Object {
    what: "a lock",
    keys: &[
        key("name", ACTS, Shape::Text(Text::PlanName), "Its name.").required(),
        key(
            "slots",
            ACTS,
            Shape::Int { min: 1, max: 1_000 },
            "How many may hold it at once.",
        ),
        key(
            "order",
            ACTS,
            Shape::Words(&[word("oldest"), word("newest")]),
            "Which waiting one goes first.",
        ),
        key(
            "at_gate",
            ACTS,
            Shape::Words(&[word("keep"), word("yield")]),
            "Whether it is kept while only a gate inside waits, or given back and taken again.",
        ),
        key(
            "scope",
            ACTS,
            Shape::Words(&[word("project"), word("server")]),
            "Who shares it: the runs of the project, or all of the server.",
        ),
    ],
};

pub(super) static CHECKOUT: Object = Object {
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

pub(super) static ARTIFACT: Object = Object {
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

pub(super) const ONE_SECRET: Shape = Shape::AnyOf(&[Shape::Text(Text::Variable), Shape::Object(&SECRET)]);

pub(super) static SECRET: Object = Object {
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

pub(super) static SERVICE: Object = Object {
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

pub(super) static REPORTS: Object = Object {
    what: "`reports`",
    keys: &[key("junit", ACTS, PATHS, "JUnit XML files.")],
};

pub(crate) static RESOURCES: Object = Object {
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

pub(super) static POD: Object = Object {
    what: "`pod`",
    keys: &[
        key(
            "nodeSelector",
            needs(Feature::Pod),
            Shape::Map {
                key: Text::Label,
                of: &Shape::Text(Text::PlanTime),
            },
            "Labels of the nodes that it may be on.",
        ),
        key(
            "tolerations",
            needs(Feature::Pod),
            Shape::List(&Shape::Object(&TOLERATION)),
            "Taints of nodes that do not keep it off.",
        ),
        key(
            "priorityClassName",
            needs(Feature::Pod),
            Shape::Text(Text::PlanTime),
            "How urgent it is: a priority class of the cluster.",
        ),
        key(
            "runtimeClassName",
            needs(Feature::Pod),
            Shape::Text(Text::PlanTime),
            "What its containers run in: a runtime class of the cluster.",
        ),
    ],
};

static TOLERATION: Object = Object {
    what: "a toleration",
    keys: &[
        key(
            "key",
            needs(Feature::Pod),
            Shape::Text(Text::Label),
            "The taint's key; default any.",
        ),
        key(
            "operator",
            needs(Feature::Pod),
            Shape::Words(&[word("Equal"), word("Exists")]),
            "Whether the value must be the same, or may be any; default `Equal`.",
        ),
        key(
            "value",
            needs(Feature::Pod),
            Shape::Text(Text::PlanTime),
            "The taint's value.",
        ),
        key(
            "effect",
            needs(Feature::Pod),
            Shape::Words(&[word("NoSchedule"), word("PreferNoSchedule"), word("NoExecute")]),
            "What the taint does; default any.",
        ),
        key(
            "tolerationSeconds",
            needs(Feature::Pod),
            Shape::Int {
                min: 0,
                max: 1_000_000_000,
            },
            "Seconds after which a taint that came later drives it away; with `NoExecute`.",
        ),
    ],
};

pub(super) static REUSE: Object = Object {
    what: "`reuse`",
    keys: &[
        key(
            "inputs",
            ACTS,
            GLOBS,
            "Globs of the files that its result depends on; `!` excludes.",
        )
        .required(),
        key(
            "env",
            ACTS,
            TEXTS,
            "Names of variables whose values its result depends on.",
        ),
    ],
};
