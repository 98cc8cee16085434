//! `pipe runs`.

use clap::Args;

use crate::{
    cli::{Output, Remote},
    client::{Client, RunItem, view},
    clock,
    failure::{Exit, Failure, OrFail},
    report::words,
    runtime,
    term::{self, Paint, Tone, clean, cut},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// Only this project's
    #[arg(long)]
    project: Option<String>,
    /// Only this pipeline's
    #[arg(long)]
    pipeline: Option<String>,
    /// Only those that have not ended
    #[arg(long)]
    active: bool,
    /// How many at most
    #[arg(long, default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

impl Runs {
    /// Lists runs, newest first.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        let mut query = vec![("limit", self.limit.to_string())];
        query.extend(self.project.map(|name| ("project", name)));
        query.extend(self.pipeline.map(|name| ("pipeline", name)));
        query.extend(self.active.then(|| ("active", "true".to_owned())));
        let answer = runtime::block_on(client.get(&["runs"], &query))?;
        if output == Output::Json {
            term::say(serde_json::to_string_pretty(&answer).or_fail("write the runs")?);
            return Ok(Exit::Done);
        }
        let runs: Vec<RunItem> = view(answer.get("runs").cloned().unwrap_or_default())?;
        if runs.is_empty() {
            term::note("no runs");
        }
        let paint = Paint::for_stdout();
        runs.iter().for_each(|run| term::say(line(run, paint)));
        Ok(Exit::Done)
    }
}

fn line(run: &RunItem, paint: Paint) -> String {
    let (mark, tone) = match run.outcome {
        Some(outcome) => words::mark(outcome),
        None if run.needs_person => ("?", Tone::Attention),
        None => ("·", Tone::Busy),
    };
    format!(
        "{:>5}  {}  {:<16} {:<24} {:>7}  {:>8} ago  {}",
        run.id,
        paint.tone(tone, format_args!("{mark} {:<10}", run.word())),
        cut(&format!("{}/{}", run.project, run.pipeline), 16),
        cut(&place(run), 24),
        words::length(run.finished_at.unwrap_or_else(clock::now).since(run.created_at)),
        words::length(clock::now().since(run.created_at)),
        cut(&clean(&run.subject), 60),
    )
}

/// `main@1a2b3c4d`.
pub(crate) fn place(run: &RunItem) -> String {
    let name = run
        .r#ref
        .as_ref()
        .map(|one| one.name.as_str())
        .unwrap_or_default();
    let sha: String = run.sha.iter().flat_map(|sha| sha.chars()).take(8).collect();
    match (name, sha.as_str()) {
        ("", sha) => sha.to_owned(),
        (name, "") => name.to_owned(),
        (name, sha) => format!("{name}@{sha}"),
    }
}
