//! One module for each command.

pub(crate) mod apply;
pub(crate) mod approve;
pub(crate) mod audit;
pub(crate) mod cache;
pub(crate) mod cancel;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod db;
pub(crate) mod debug;
pub(crate) mod delete;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod hook_post;
pub(crate) mod hooks;
pub(crate) mod init;
pub(crate) mod keep;
pub(crate) mod locks;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod retry;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod secret;
pub(crate) mod server;
pub(crate) mod show;
pub(crate) mod start;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod user;
pub(crate) mod why;

use std::{env, path::PathBuf};

use crate::failure::{Failure, OrFail};

/// The working folder.
pub(crate) fn working_folder() -> Result<PathBuf, Failure> {
    env::current_dir().or_usage("find the working folder")
}
