//! The keys of `kind: Cluster`.

use super::lend::LEND;
use super::parts::{ABSOLUTE, CA, LENGTH, NAMES, URL, VALUE, VARIABLES};
use crate::grammar::{ACTS, FREE, Fixed, NAME, Object, RESOURCES, Shape, Text, key, word};

/// The keys beside `kind` and `name`.
pub(super) static KEYS: Object = Object {
    what: "a Cluster",
    keys: &[
        key(
            "kubeconfig",
            ACTS,
            VALUE,
            "How it is reached; default the account of the pod that the server is, or `$KUBECONFIG`.",
        ),
        key(
            "context",
            ACTS,
            FREE,
            "The context there; default its current one.",
        ),
        key(
            "namespaces",
            ACTS,
            Shape::Object(&NAMESPACES),
            "Where its pods are.",
        )
        .required(),
        key(
            "create_namespaces",
            ACTS,
            Shape::Bool,
            "Whether the server makes those namespaces, with quota and network policy.",
        ),
        key(
            "limits",
            ACTS,
            Shape::Object(&LIMITS),
            "What the pods of each namespace that it makes may be.",
        ),
        key(
            "deny",
            ACTS,
            ADDRESSES,
            "Further addresses that the pods of these namespaces do not reach.",
        ),
        key(
            "profiles",
            ACTS,
            Shape::Object(&PROFILES),
            "What pods may do; those of forks are always restricted.",
        ),
        key(
            "agent_image",
            ACTS,
            FREE,
            "The image with the supervisor; default the one that the server names.",
        ),
        key("default_image", ACTS, FREE, "The image of steps that name none."),
        key(
            "pull_secrets",
            ACTS,
            NAMES,
            "The Secret objects of its namespaces that images are pulled with.",
        ),
        key(
            "resources",
            ACTS,
            Shape::Object(&RESOURCES),
            "What a container gets whose action says nothing.",
        ),
        key(
            "mirrors",
            ACTS,
            MIRRORS,
            "Registries that are asked in the place of others.",
        ),
        key(
            "env",
            ACTS,
            VARIABLES,
            "Variables of all steps and services; what a pipeline says wins.",
        ),
        key(
            "pod_allow",
            ACTS,
            Shape::List(&POD_FIELDS),
            "What pipelines may say under `pod`; default nothing.",
        ),
        key(
            "pool",
            ACTS,
            Shape::Object(&POOL),
            "Pods that stand by after a success; without it, each serves one action.",
        ),
        key(
            "hold",
            ACTS,
            Shape::Object(&HOLD),
            "Pods of failed actions that stay for `pipe debug`; without it, none does.",
        ),
        key(
            "volumes",
            ACTS,
            Shape::Map {
                key: Text::Name,
                of: &VOLUME,
            },
            "Volumes that caches of `mode: volume` may name.",
        ),
        key(
            "object_store",
            ACTS,
            Shape::Object(&OBJECT_STORE),
            "An S3-compatible store for archive caches; without it, they are with the server.",
        ),
        LEND,
    ],
};

const NAMESPACE: Shape = Shape::Text(Text::Fixed(Fixed::Filled(&["project"])));

static NAMESPACES: Object = Object {
    what: "`namespaces`",
    keys: &[
        key(
            "protected",
            ACTS,
            NAMESPACE,
            "Those of protected refs; `${{ project }}` stands for the project's name.",
        )
        .required(),
        key(
            "branches",
            ACTS,
            NAMESPACE,
            "Those of other refs; default `-branches` behind the protected one.",
        ),
        key(
            "forks",
            ACTS,
            NAMESPACE,
            "Those of other people's copies; default `-forks` behind the protected one.",
        ),
    ],
};

static LIMITS: Object = Object {
    what: "`limits`",
    keys: &[
        key("pods", ACTS, Shape::Int { min: 1, max: 100_000 }, "How many."),
        key("cpu", ACTS, Shape::Text(Text::Cpu), "CPUs of all together."),
        key(
            "memory",
            ACTS,
            Shape::Text(Text::Memory),
            "Memory of all together.",
        ),
        key(
            "container",
            ACTS,
            Shape::Object(&RESOURCES),
            "What one container may have.",
        ),
    ],
};

const ADDRESSES: Shape = Shape::AnyOf(&[
    Shape::Text(Text::Fixed(Fixed::Cidr)),
    Shape::List(&Shape::Text(Text::Fixed(Fixed::Cidr))),
]);

const PROFILE: Shape = Shape::Words(&[word("baseline"), word("restricted")]);

static PROFILES: Object = Object {
    what: "`profiles`",
    keys: &[
        key(
            "protected",
            ACTS,
            PROFILE,
            "Those of protected refs; default baseline.",
        ),
        key(
            "branches",
            ACTS,
            PROFILE,
            "Those of other refs; default baseline.",
        ),
        key(
            "forks",
            ACTS,
            Shape::Words(&[word("restricted")]),
            "Those of other people's copies: always restricted.",
        ),
    ],
};

const MIRRORS: Shape = Shape::Map {
    key: Text::Fixed(Fixed::Host),
    of: &FREE,
};

const POD_FIELDS: Shape = Shape::Words(&[
    word("nodeSelector"),
    word("tolerations"),
    word("priorityClassName"),
    word("runtimeClassName"),
]);

static POOL: Object = Object {
    what: "`pool`",
    keys: &[
        key("idle", ACTS, LENGTH, "For how long; default 5m."),
        key(
            "max",
            ACTS,
            Shape::Int { min: 1, max: 1_000 },
            "How many; default 4.",
        ),
    ],
};

static HOLD: Object = Object {
    what: "`hold`",
    keys: &[
        key("failed", ACTS, LENGTH, "For how long, 12h at most; default 15m."),
        // Each takes one of the streams that those who work share.
        key(
            "max",
            ACTS,
            Shape::Int { min: 1, max: 20 },
            "How many at a time; default 2.",
        ),
    ],
};

const VOLUME: Shape = Shape::Choice {
    object: &VOLUME_KEYS,
    of: &["host_path", "size"],
};

static VOLUME_KEYS: Object = Object {
    what: "a volume",
    keys: &[
        key("host_path", ACTS, ABSOLUTE, "A folder of nodes."),
        key(
            "size",
            ACTS,
            Shape::Text(Text::Memory),
            "The size of a claim for each project and tier.",
        ),
        key("nodes", ACTS, LABELS, "The labels of the nodes that have it."),
        key("class", ACTS, FREE, "The storage class of the claim."),
        key(
            "access",
            ACTS,
            ACCESS,
            "The access mode of the claim; default ReadWriteOnce.",
        ),
    ],
};

const ACCESS: Shape = Shape::Words(&[
    word("ReadWriteOnce"),
    word("ReadWriteMany"),
    word("ReadWriteOncePod"),
]);

const LABELS: Shape = Shape::Map {
    key: Text::Label,
    of: &FREE,
};

static OBJECT_STORE: Object = Object {
    what: "`object_store`",
    keys: &[
        key("url", ACTS, URL, "Its address.").required(),
        key(
            "pods_url",
            ACTS,
            URL,
            "Its address as pods reach it, if that is another one.",
        ),
        key("bucket", ACTS, NAME, "The bucket, which must be there.").required(),
        key("region", ACTS, FREE, "The region; default us-east-1."),
        key(
            "prefix",
            ACTS,
            FREE,
            "What the names of all its objects begin with; default pipekeeper.",
        ),
        key(
            "path_style",
            ACTS,
            Shape::Bool,
            "Whether the bucket's name stands in the path of addresses (default) or in their host's name.",
        ),
        key(
            "access_key",
            ACTS,
            FREE,
            "The name of the key that may put, get, list and remove objects there.",
        )
        .required(),
        key("secret_key", ACTS, VALUE, "The key itself.").required(),
        CA,
    ],
};
