//! The server's secrets in files that only its user reads: the admin token, and the tokens of webhook addresses.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use pipekeeper_model::Name;
use pipekeeper_server::AccessToken;

use crate::{
    failure::{Failure, OrFail},
    folders,
};

const ADMIN: &str = "admin.token";
const HOOKS: &str = "hooks.json";

/// Where the admin token is.
pub(crate) fn admin_file(data_dir: &Path) -> PathBuf {
    data_dir.join(ADMIN)
}

/// The admin token, drawn at the first call.
pub(crate) fn admin(data_dir: &Path) -> Result<AccessToken, Failure> {
    match stored_admin(data_dir)? {
        Some(token) => Ok(token),
        None => new_admin(data_dir),
    }
}

/// The admin token, if there is one.
pub(crate) fn stored_admin(data_dir: &Path) -> Result<Option<AccessToken>, Failure> {
    let path = admin_file(data_dir);
    match fs::read_to_string(&path) {
        Ok(text) => AccessToken::parse(text.trim_end())
            .map(Some)
            .or_usage(format_args!("use `{}`", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).or_usage(format_args!("read `{}`", path.display())),
    }
}

/// Draws a new admin token; the old one is void once the server starts again.
pub(crate) fn new_admin(data_dir: &Path) -> Result<AccessToken, Failure> {
    folders::make(data_dir)?;
    let token = AccessToken::generate().or_fail("make a token")?;
    folders::write_private(&admin_file(data_dir), &format!("{}\n", token.reveal()))?;
    Ok(token)
}

/// The token of each project's webhook address; new projects get one.
pub(crate) fn hooks<'a>(
    data_dir: &Path,
    projects: impl Iterator<Item = &'a Name>,
) -> Result<BTreeMap<Name, String>, Failure> {
    let path = data_dir.join(HOOKS);
    let what = format!("read `{}`", path.display());
    let mut all: BTreeMap<Name, String> = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).or_usage(&what)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(error).or_usage(&what),
    };
    let known = all.len();
    for name in projects {
        if !all.contains_key(name) {
            all.insert(name.clone(), random()?);
        }
    }
    if all.len() > known {
        let text = serde_json::to_string_pretty(&all).or_fail("write the webhook tokens")?;
        folders::write_private(&path, &text)?;
    }
    Ok(all)
}

/// What tells this server's pods from another's: eight hex digits, drawn once.
pub(crate) fn instance(data_dir: &Path) -> Result<String, Failure> {
    let path = data_dir.join("instance");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let drawn: String = random()?.chars().take(8).collect();
            folders::write_private(&path, &format!("{drawn}\n"))?;
            Ok(drawn)
        }
        Err(error) => Err(error).or_usage(format_args!("read `{}`", path.display())),
    }
}

/// 32 hex digits that nobody can guess.
pub(crate) fn random() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::ours(format!("failed to draw a token: {error}")))?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use pipekeeper_model::Name;

    use super::{admin, admin_file, hooks, new_admin};

    #[test]
    fn tokens_stay_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = admin(dir.path()).unwrap();
        assert!(admin(dir.path()).unwrap().is(first.reveal()));
        let mode = fs::metadata(admin_file(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!new_admin(dir.path()).unwrap().is(first.reveal()));
    }

    #[test]
    fn a_project_keeps_its_address() {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<Name> = ["a", "b"].map(|name| name.parse().unwrap()).into();
        let first = hooks(dir.path(), names.iter().take(1)).unwrap();
        let second = hooks(dir.path(), names.iter()).unwrap();
        assert_eq!(first.get(&names[0]), second.get(&names[0]));
        assert_ne!(second.get(&names[0]), second.get(&names[1]));
    }
}
