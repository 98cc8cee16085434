//! The keys of `kind: Environment`, some of which a Project shares.

use super::parts::{LENGTH, NAMES, VARIABLES};
use crate::grammar::{ACTS, Fixed, GLOBS, Key, NAME, Object, Shape, Text, ZONE, key, word};

const ON_FAILED: Shape = Shape::Words(&[word("stay"), word("rollback")]);
const APPROVERS: Shape = Shape::AnyOf(&[
    Shape::Text(Text::Fixed(Fixed::Approver)),
    Shape::List(&Shape::Text(Text::Fixed(Fixed::Approver))),
]);
const COUNT: Shape = Shape::Int { min: 1, max: 50 };

// What a project may set stands here once for both kinds.
pub(super) const CLUSTER: Key = key("cluster", ACTS, NAME, "The Cluster that it is in.");
pub(super) const NAMESPACE: Key = key(
    "namespace",
    ACTS,
    Shape::Text(Text::Fixed(Fixed::Filled(&["project"]))),
    "The namespace there; `${{ project }}` stands for the project's name.",
);
pub(super) const REPOSITORY: Key = key(
    "repository",
    ACTS,
    Shape::Text(Text::Fixed(Fixed::Filled(&["image", "project"]))),
    "Where its images are, if not where they were built; `${{ image }}` stands for the image's name.",
);
pub(super) const BRANCHES: Key = key(
    "branches",
    ACTS,
    GLOBS,
    "Globs of the branches whose releases it admits; default all.",
);
pub(super) const VARS: Key = key("vars", ACTS, VARIABLES, "Variables of the actions that name it.");
pub(super) const VERIFY: Key = key("verify", ACTS, NAME, "The pipeline that verifies a move.");

/// The keys beside `kind` and `name`.
pub(super) static KEYS: Object = Object {
    what: "an Environment",
    keys: &[
        key(
            "tag",
            ACTS,
            Shape::Text(Text::Fixed(Fixed::Filled(&["release", "revision"]))),
            "The tag that marks what it runs; default its name. With `${{ release }}` or `${{ revision }}` no tag is ever moved.",
        ),
        key(
            "after",
            ACTS,
            Shape::Object(&AFTER),
            "The environments that a release must have passed.",
        ),
        CLUSTER,
        NAMESPACE,
        REPOSITORY,
        BRANCHES,
        key(
            "approvals",
            ACTS,
            Shape::Object(&APPROVALS),
            "Who must approve; without it, nobody.",
        ),
        key(
            "soak",
            ACTS,
            LENGTH,
            "How long a release must have run in an environment of `after`.",
        ),
        key(
            "windows",
            ACTS,
            Shape::List(&WINDOW),
            "When it may move; default always.",
        ),
        key(
            "auto",
            ACTS,
            Shape::Bool,
            "Whether a release that may reach it does so by itself.",
        ),
        VERIFY,
        key(
            "on_verify_failed",
            ACTS,
            ON_FAILED,
            "What happens when that fails; default stay.",
        ),
        key(
            "timeout",
            ACTS,
            LENGTH,
            "How long followers may take to be healthy; default 15m.",
        ),
        key(
            "on_failure",
            ACTS,
            ON_FAILED,
            "What happens when they are not by then; default stay.",
        ),
        VARS,
        key(
            "keep",
            ACTS,
            Shape::Int { min: 1, max: 1_000 },
            "How many of its last releases stay tagged; default 20.",
        ),
        key(
            "rollback",
            ACTS,
            Shape::Object(&ROLLBACK),
            "What a rollback needs.",
        ),
        key(
            "expedite",
            ACTS,
            Shape::Object(&EXPEDITE),
            "The way for urgent releases.",
        ),
        key(
            "project_may_set",
            ACTS,
            Shape::List(&SETTABLE),
            "The keys that a project may set for itself.",
        ),
    ],
};

static AFTER: Object = Object {
    what: "`after`",
    keys: &[
        key("any", ACTS, NAMES, "At least one of these environments."),
        key("all", ACTS, NAMES, "Every one of these environments."),
    ],
};

static APPROVALS: Object = Object {
    what: "`approvals`",
    keys: &[
        key("count", ACTS, COUNT, "How many distinct people; default 1."),
        key(
            "by",
            ACTS,
            APPROVERS,
            "Who counts: `role:ops`, `user:ann`; default whoever may approve in the project.",
        ),
        key(
            "self",
            ACTS,
            Shape::Bool,
            "Whether the one who asked for the move counts too.",
        ),
        key(
            "expires",
            ACTS,
            LENGTH,
            "How long the question stands; default 7d.",
        ),
    ],
};

const WINDOW: Shape = Shape::Choice {
    object: &WINDOW_KEYS,
    of: &["allow", "deny"],
};

static WINDOW_KEYS: Object = Object {
    what: "a window",
    keys: &[
        key(
            "allow",
            ACTS,
            SPAN,
            "It moves in this span, and in none that no such window holds: `Mon-Fri 09:00 - 17:00`.",
        ),
        key(
            "deny",
            ACTS,
            SPAN,
            "It does not move in this span: `Fri 18:00 - Mon 08:00`.",
        ),
        key(
            "timezone",
            ACTS,
            ZONE,
            "The IANA name of the zone whose clocks count; default UTC.",
        ),
    ],
};

const SPAN: Shape = Shape::Text(Text::Fixed(Fixed::Span));

static ROLLBACK: Object = Object {
    what: "`rollback`",
    keys: &[key(
        "approvals",
        ACTS,
        Shape::Int { min: 0, max: 50 },
        "How many approvals; default 0.",
    )],
};

static EXPEDITE: Object = Object {
    what: "`expedite`",
    keys: &[
        key(
            "branches",
            ACTS,
            GLOBS,
            "Globs of the branches whose releases may take it; default all.",
        ),
        key(
            "skip",
            ACTS,
            Shape::List(&SKIPPED),
            "The rules that do not hold on it.",
        ),
        key(
            "approvals",
            ACTS,
            Shape::Object(&APPROVALS),
            "Who must approve; default as otherwise.",
        ),
    ],
};

const SKIPPED: Shape = Shape::Words(&[word("after"), word("soak"), word("windows")]);
const SETTABLE: Shape = Shape::Words(&[
    word("branches"),
    word("cluster"),
    word("namespace"),
    word("repository"),
    word("vars"),
    word("verify"),
]);
