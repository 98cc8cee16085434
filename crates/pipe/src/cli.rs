//! The command line: what may be typed. Each command's own arguments and doing are in [`crate::cmd`].

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    client::Credentials,
    cmd,
    config::{self, DEFAULT_LISTEN, Flags},
    failure::{Exit, Failure},
};

const EXIT_CODES: &str = "\
Exit codes: 0 done · 1 the run failed, was rejected or cancelled · 2 wrong usage, file or configuration · \
3 not found or not allowed · 4 our side failed · 124 timed out · 130 interrupted";

/// A CI/CD engine in one binary: the same engine on a laptop and on a server.
#[derive(Debug, Parser)]
#[command(name = "pipe", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// How data is written to stdout
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

/// How data is written to stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How to reach a server.
#[derive(Clone, Debug, Args)]
pub(crate) struct Remote {
    /// The server's address; by default the one that you logged in to last, else where a server with this configuration
    /// (PIPE_CONFIG) listens
    #[arg(long, global = true, env = "PIPE_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// The token; by default that of your login, else the one in the data folder on this machine
    #[arg(
        long,
        global = true,
        env = "PIPE_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub(crate) token: Option<String>,
}

impl Remote {
    /// The server at this address, or the one that is meant without any.
    pub(crate) fn at(server: Option<String>) -> Self {
        Self {
            server: server.or_else(|| std::env::var("PIPE_SERVER").ok()),
            token: None,
        }
    }

    /// The address of the server that is meant.
    pub(crate) fn address(&self) -> String {
        // A configuration that cannot be read is the server's trouble; whoever asks one may have none at all.
        let listen =
            || config::listen(&Flags::from_environment()).unwrap_or_else(|_| DEFAULT_LISTEN.to_owned());
        let last = || Some(Credentials::read().ok()?.current()?.to_owned());
        self.server
            .clone()
            .or_else(last)
            .unwrap_or_else(|| format!("http://{}", listen()))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a push becoming a run, with everything real and in a throw-away folder
    Demo(cmd::demo::Demo),
    /// Run a pipeline here, on the working tree as it is
    Run(Box<cmd::run::Run>),
    /// Check pipeline files: every error at once, with its place
    Check(cmd::check::Check),
    /// Write a first pipeline file for what this folder holds
    Init(cmd::init::Init),
    /// Print the JSON Schema of pipeline files or of documents, for editors
    Schema(cmd::schema::Schema),
    /// Explain an error code such as PK0035, or the keys of a document such as Environment.approvals
    Explain(cmd::explain::Explain),
    /// Check documents, and make them true on a server: what it knows, declared in files
    Apply(cmd::apply::Apply),
    /// Run the server
    Server(cmd::server::Server),
    /// Log in to a server
    Login(cmd::login::Login),
    /// Log out of a server
    Logout(cmd::login::Logout),
    /// Say who you are; list, add, change and remove people
    User(cmd::user::User),
    /// Draw, list and revoke access tokens; alone, print the server's own
    Token(cmd::token::Token),
    /// Show the documents of a server
    Get(cmd::get::Get),
    /// Take a document away from a server
    Delete(cmd::delete::Delete),
    /// Set, list and remove the secrets of actions; change the key that seals them
    Secret(cmd::secret::Secret),
    /// Show who did what to what
    Audit(cmd::audit::Audit),
    /// Start a run on the server
    Start(cmd::start::Start),
    /// List runs
    Runs(cmd::runs::Runs),
    /// Show a run
    Show(cmd::show::Show),
    /// Print the log of an action
    Logs(cmd::logs::Logs),
    /// Say why a run or an action is where it is
    Why(cmd::why::Why),
    /// List the locks in use: who has them, who waits
    Locks(cmd::locks::Locks),
    /// Show what runs in an action now: its processes, their state and CPU time
    Top(cmd::top::Top),
    /// Approve what waits for a decision; alone, list it
    Approve(cmd::approve::Approve),
    /// Reject what waits for a decision
    Reject(cmd::approve::Reject),
    /// Keep a run whatever its age
    Keep(cmd::keep::Keep),
    /// Cancel a run; a second time, stop its `finally` actions too
    Cancel(cmd::cancel::Cancel),
    /// Make a new run of a finished one
    Retry(cmd::retry::Retry),
    /// Open a shell where the failing step of an action began
    Debug(cmd::debug::Debug),
    /// List, show and replay webhook deliveries
    Hooks(cmd::hooks::Hooks),
    /// List and remove the archive caches of local runs, or of a server
    Cache(cmd::cache::Cache),
    /// Migrate, back up, restore or copy the server's database
    Db(cmd::db::Db),
    /// Check that everything `pipe` needs is there
    Doctor(cmd::doctor::Doctor),
    /// Print completions for a shell
    Completions(cmd::completions::Completions),
    /// Supervise one attempt; only `pipe` itself calls it
    #[command(hide = true)]
    Agent,
    /// Deliver a push of a bare repository; only the demo's git hook calls it
    #[command(hide = true)]
    HookPost(cmd::hook_post::HookPost),
}

impl Cli {
    /// Does what was typed.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let output = self.output;
        match self.command {
            Command::Demo(args) => args.run(),
            Command::Run(args) => args.run(output),
            Command::Check(args) => args.run(output),
            Command::Init(args) => args.run(),
            Command::Schema(args) => args.run(),
            Command::Explain(args) => args.run(),
            Command::Apply(args) => args.run(output),
            Command::Server(args) => args.run(),
            Command::Login(args) => args.run(),
            Command::Logout(args) => args.run(),
            Command::User(args) => args.run(output),
            Command::Token(args) => args.run(output),
            Command::Get(args) => args.run(output),
            Command::Delete(args) => args.run(output),
            Command::Secret(args) => args.run(output),
            Command::Audit(args) => args.run(output),
            Command::Start(args) => args.run(output),
            Command::Runs(args) => args.run(output),
            Command::Show(args) => args.run(output),
            Command::Logs(args) => args.run(),
            Command::Why(args) => args.run(output),
            Command::Locks(args) => args.run(output),
            Command::Top(args) => args.run(output),
            Command::Approve(args) => args.run(output),
            Command::Reject(args) => args.run(output),
            Command::Keep(args) => args.run(output),
            Command::Cancel(args) => args.run(output),
            Command::Retry(args) => args.run(output),
            Command::Debug(args) => args.run(),
            Command::Hooks(args) => args.run(output),
            Command::Cache(args) => args.run(output),
            Command::Db(args) => args.run(),
            Command::Doctor(args) => args.run(output),
            Command::Completions(args) => args.run(),
            Command::Agent => Err(
                Failure::usage("`pipe agent` wants `--dir DIR` as its first argument")
                    .hint("`pipe` starts it itself; there is no need to call it"),
            ),
            Command::HookPost(args) => args.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
