//! What the server has rights to, and whose actions may borrow them.

use std::collections::BTreeMap;

use pipekeeper_agent::protocol::SecretText;
use pipekeeper_backend_kube::PullConfig;
use pipekeeper_model::Name;
use pipekeeper_spec::document::Lend;

/// What there is to borrow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lending {
    /// What each project's forge has, by the project.
    pub(crate) forges: BTreeMap<Name, Loan<GitLogin>>,
    /// What registries have.
    pub(crate) registries: BTreeMap<Name, Loan<RegistryLogin>>,
    /// To whom rights in namespaces of clusters are lent.
    pub(crate) clusters: BTreeMap<Name, Lend>,
    /// What all clusters pull images with.
    pub(crate) pull_config: Option<PullConfig>,
}

/// A right, and to whom it is lent.
#[derive(Clone, Debug)]
pub(crate) struct Loan<T> {
    /// None means to nobody.
    pub(crate) terms: Option<Lend>,
    /// The right, or why it cannot be had.
    pub(crate) what: Result<T, String>,
}

/// Who the server is to a forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GitLogin {
    /// The forge's address.
    pub(crate) base: String,
    /// The token there.
    pub(crate) token: SecretText,
}

/// Who the server is to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegistryLogin {
    /// What the registry is called where logins are kept.
    pub(crate) host: String,
    /// The user.
    pub(crate) user: String,
    /// The password.
    pub(crate) password: SecretText,
}
