use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use pipekeeper_model::{Actor, Digest, GitRef, Outcome, RunId};
use pipekeeper_store::{Commit, Estate, Left, LeftFile, MemoryStore, Part, RunSummary, Store, StoredEstate};

use super::{
    judge::{Judge, Verdict},
    round::{Site, look},
    *,
};

const DAY: i64 = 24 * 3_600_000;
/// A hundred days after the beginning of time.
const NOW: Timestamp = Timestamp(100 * DAY);

fn summary(run: u64, ended: i64, outcome: Outcome) -> RunSummary {
    RunSummary {
        id: RunId(run),
        project: "mall".parse().unwrap(),
        pipeline: "web".parse().unwrap(),
        event: "push".to_owned(),
        git_ref: Some(GitRef::Branch("main".to_owned())),
        sha: None,
        subject: String::new(),
        actor: Actor::System,
        created_at: Timestamp(ended),
        finished_at: Some(Timestamp(ended)),
        outcome: Some(outcome),
        phase: "finished".to_owned(),
        needs_person: false,
        group: None,
        next_deadline: None,
    }
}

fn file(text: &str, bytes: u64) -> LeftFile {
    LeftFile {
        digest: Digest::of(text.as_bytes()),
        bytes,
    }
}

/// A run that ended at this day, with one file of its own.
fn estate(run: u64, day: i64, outcome: Outcome) -> StoredEstate {
    StoredEstate {
        run: summary(run, day * DAY, outcome),
        left: Left {
            log_bytes: 10,
            files: vec![file(&run.to_string(), 100)],
            ..Left::default()
        },
        logs_gone: None,
        artifacts_gone: None,
    }
}

fn terms() -> Retention {
    Retention::default()
}

/// What goes of each run: `logs`, `artifacts` and `rows`.
fn judged(estates: &[StoredEstate], terms: Retention) -> Vec<(u64, Vec<&'static str>)> {
    judged_with(Judge::new(NOW, BTreeSet::new()), estates, terms)
}

fn judged_with(
    mut judge: Judge,
    estates: &[StoredEstate],
    terms: Retention,
) -> Vec<(u64, Vec<&'static str>)> {
    let words = |verdict| match verdict {
        Verdict::Goes => vec!["rows"],
        Verdict::Stays(losses) => (losses.iter())
            .map(|loss| match loss.part {
                Part::Logs => "logs",
                Part::Artifacts => "artifacts",
            })
            .collect(),
    };
    (estates.iter())
        .map(|estate| (estate.run.id.0, words(judge.judge(estate, &terms))))
        .filter(|(_, words)| !words.is_empty())
        .collect()
}

#[test]
fn the_newest_of_a_line_and_its_last_success_stay_whatever_their_age() {
    let mut elsewhere = estate(1, 0, Outcome::Failed);
    elsewhere.run.git_ref = Some(GitRef::Branch("old".to_owned()));
    let mut promoted = estate(2, 0, Outcome::Succeeded);
    promoted.left.promoted = true;
    let estates = [
        estate(6, 2, Outcome::Failed),
        estate(5, 1, Outcome::Failed),
        estate(4, 1, Outcome::Succeeded),
        estate(3, 1, Outcome::Succeeded),
        promoted,
        elsewhere,
    ];
    let all = vec!["logs", "artifacts"];
    assert_eq!(judged(&estates, terms()), [(5, all.clone()), (3, all)]);
}

#[test]
fn what_somebody_keeps_stays() {
    let estates = [
        estate(9, 99, Outcome::Succeeded),
        estate(2, 0, Outcome::Failed),
        estate(1, 0, Outcome::Failed),
    ];
    let judge = Judge::new(NOW, BTreeSet::from([RunId(2)]));
    let gone = judged_with(judge, &estates, terms());
    assert_eq!(gone, [(1, vec!["logs", "artifacts"])]);
}

#[test]
fn each_part_has_its_age_and_rows_go_last() {
    let newest = estate(9, 99, Outcome::Succeeded);
    let with = |day, gone_at: Option<i64>| {
        let gone = gone_at.map(|at| Gone {
            at: Timestamp(at),
            why: GoneWhy::Age { after: Millis(1) },
        });
        let mut old = estate(1, day, Outcome::Succeeded);
        (old.logs_gone, old.artifacts_gone) = (gone, gone);
        judged(&[newest.clone(), old], terms())
    };
    assert_eq!(with(87, None), [], "not older than 14 days");
    assert_eq!(with(80, None), [(1, vec!["artifacts"])]);
    assert_eq!(with(1, None), [(1, vec!["logs", "artifacts"])]);
    assert_eq!(with(1, Some(0)), [(1, vec!["rows"])]);
    assert_eq!(with(1, Some(NOW.0 - 1)), [], "somebody may be about to adopt it");
    assert_eq!(with(80, Some(0)), [], "its rows are kept for longer");
}

#[test]
fn what_a_kept_run_adopts_stays_with_it() {
    let adopting = |day| {
        let mut adopting = estate(5, day, Outcome::Failed);
        adopting.left.adopts = BTreeSet::from([RunId(1)]);
        [
            estate(9, 99, Outcome::Succeeded),
            adopting,
            estate(1, 1, Outcome::Succeeded),
        ]
    };
    assert_eq!(judged(&adopting(98), terms()), []);
    assert_eq!(
        judged(&adopting(50), terms()),
        [(5, vec!["artifacts"]), (1, vec!["artifacts"])],
        "logs are shown with the run that adopted them"
    );
    let mut judge = Judge::new(NOW, BTreeSet::new());
    judge.lives(&adopting(98)[1].left);
    let old = [
        estate(9, 99, Outcome::Succeeded),
        estate(1, 1, Outcome::Succeeded),
    ];
    assert_eq!(judged_with(judge, &old, terms()), [], "it has not ended");
}

#[test]
fn the_oldest_make_room() {
    let terms = Retention {
        artifact_bytes: Bytes(250),
        log_bytes: Bytes(15),
        ..terms()
    };
    let estates = |gone: Option<Gone>| {
        let mut same = estate(3, 97, Outcome::Failed);
        same.left.files = vec![file("4", 100)];
        let mut oldest = estate(1, 95, Outcome::Failed);
        oldest.artifacts_gone = gone;
        [
            estate(5, 99, Outcome::Succeeded),
            estate(4, 98, Outcome::Failed),
            same,
            estate(2, 96, Outcome::Failed),
            oldest,
        ]
    };
    let logs = ["logs"];
    let both = ["logs", "artifacts"];
    assert_eq!(
        judged(&estates(None), terms),
        [
            (4, logs.to_vec()),
            (3, logs.to_vec()),
            (2, both.to_vec()),
            (1, both.to_vec())
        ],
        "what two runs have counts once"
    );
    let mut judge = Judge::new(NOW, BTreeSet::new());
    let newest = [estate(5, 99, Outcome::Succeeded)];
    let huge = Retention {
        artifact_bytes: Bytes(1),
        ..terms
    };
    assert_eq!(
        judge.judge(&newest[0], &huge),
        Verdict::Stays(Vec::new()),
        "the newest stays"
    );
}

#[test]
fn a_project_says_its_own() {
    let own = document::Retention {
        artifacts: Some(Millis::days(2)),
        ..document::Retention::default()
    };
    let expected = Retention {
        artifacts: Millis::days(2),
        ..terms()
    };
    assert_eq!(terms().of_project(&own), expected);
}

struct FixedTerms(Option<Retention>);

#[async_trait]
impl Terms for FixedTerms {
    async fn of(&self, _project: &Name) -> Result<Retention, TermsAway> {
        self.0.ok_or_else(|| TermsAway {
            reason: "it is away".to_owned(),
        })
    }

    async fn projects(&self) -> Result<Vec<Name>, TermsAway> {
        Ok(Vec::new())
    }

    async fn kept_runs(&self) -> Result<BTreeSet<RunId>, TermsAway> {
        Ok(BTreeSet::new())
    }
}

struct World {
    folder: tempfile::TempDir,
    store: MemoryStore,
    site: Site,
}

impl World {
    fn new(terms: Option<Retention>) -> Self {
        let (folder, store) = (tempfile::tempdir().unwrap(), MemoryStore::new());
        let site = Site {
            store: Arc::new(store.clone()),
            upkeep: Upkeep {
                estates: Arc::new(store.clone()),
                terms: Arc::new(FixedTerms(terms)),
            },
            layout: crate::Layout::new(folder.path()),
            kept: KeptBoard::default(),
        };
        Self { folder, store, site }
    }

    /// A run that ended at this day, with a log and an artifact.
    async fn ended(&self, run: u64, day: i64, text: &str) -> PathBuf {
        let commit = Commit {
            summary: summary(run, day * DAY, Outcome::Succeeded),
            expected: 0,
            events: Vec::new(),
            snapshot: None,
            effects: Vec::new(),
            settled: Vec::new(),
            delivery: None,
        };
        self.store.commit(commit).await.unwrap();
        let left = Left {
            log_bytes: 3,
            files: vec![file(text, 3)],
            ..Left::default()
        };
        let estates = vec![Estate {
            run: RunId(run),
            left,
        }];
        self.site.upkeep.estates.keep_estates(estates).await.unwrap();
        let logs = self.site.layout.run_logs(RunId(run));
        fs::create_dir_all(&logs).unwrap();
        fs::write(logs.join("n0-a1.log"), "log").unwrap();
        self.artifact(text, NOW.0 - DAY)
    }

    /// A kept file that was touched then.
    fn artifact(&self, text: &str, touched: i64) -> PathBuf {
        let path = self.site.layout.artifact(&Digest::of(text.as_bytes()));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let touched = Duration::from_millis(u64::try_from(touched).unwrap());
        File::open(&path)
            .unwrap()
            .set_modified(UNIX_EPOCH + touched)
            .unwrap();
        path
    }

    fn has_log(&self, run: u64) -> bool {
        self.site.layout.run_logs(RunId(run)).exists()
    }
}

#[tokio::test]
async fn a_look_says_what_goes_before_it_goes() {
    let world = World::new(Some(terms()));
    let old = world.ended(1, 1, "old").await;
    let shared = world.ended(2, 2, "shared").await;
    let newest = world.ended(3, 3, "shared").await;
    look(&world.site, NOW).await.unwrap();
    let gone = world.site.upkeep.estates.estate(RunId(1)).await.unwrap().unwrap();
    let aged = |after| {
        let at = NOW;
        let why = GoneWhy::Age { after };
        Some(Gone { at, why })
    };
    assert_eq!(gone.logs_gone, aged(Millis::days(90)));
    assert_eq!(gone.artifacts_gone, aged(Millis::days(14)));
    assert!(!world.has_log(1) && !world.has_log(2) && world.has_log(3));
    assert!(
        old.exists(),
        "whoever read that it is there may be about to adopt it"
    );
    let later = NOW + GRACE;
    look(&world.site, later).await.unwrap();
    assert!(!old.exists());
    assert!(shared.exists() && newest.exists(), "another run has it too");
    assert!(world.store.load(RunId(1)).await.unwrap().is_none());
    assert!(world.store.load(RunId(3)).await.unwrap().is_some());
    let figures = world.site.kept.figures();
    let counted = (
        figures.runs_removed,
        figures.logs_removed,
        figures.artifacts_removed,
    );
    assert_eq!(counted, (2, 2, 1));
    assert_eq!((figures.log_bytes, figures.artifact_bytes), (3, 6));
}

#[tokio::test]
async fn what_died_half_way_is_found_by_the_next_look() {
    let world = World::new(Some(terms()));
    world.ended(8, 99, "new").await;
    let orphan = world.artifact("nobody's", NOW.0 - DAY);
    let held = world.artifact("about to be adopted", NOW.0 - DAY);
    let young = world.artifact("just made", NOW.0);
    let reader = File::open(&held).unwrap();
    reader.lock_shared().unwrap();
    let foreign = world.folder.path().join("artifacts/aa/notes.txt");
    fs::create_dir_all(foreign.parent().unwrap()).unwrap();
    fs::write(&foreign, "").unwrap();
    for run in ["5", "notes"] {
        fs::create_dir_all(world.folder.path().join("logs").join(run)).unwrap();
    }
    look(&world.site, NOW).await.unwrap();
    assert!(!orphan.exists(), "no run names it");
    assert!(held.exists() && young.exists() && foreign.exists());
    assert!(!world.has_log(5), "its run is gone");
    assert!(world.folder.path().join("logs/notes").exists());
    drop(reader);
    look(&world.site, NOW).await.unwrap();
    assert!(!held.exists());
}

#[tokio::test]
async fn a_file_that_is_renewed_stays() {
    let world = World::new(Some(terms()));
    let path = world.artifact("adopted", NOW.0 - DAY);
    assert!(world.site.layout.renew(&Digest::of(b"adopted")).unwrap());
    assert!(!world.site.layout.renew(&Digest::of(b"nothing")).unwrap());
    look(&world.site, NOW).await.unwrap();
    assert!(path.exists(), "the machine's own time is later");
}

#[tokio::test]
async fn nothing_goes_while_the_terms_are_unknown() {
    let world = World::new(None);
    let old = world.ended(1, 1, "old").await;
    world.ended(2, 2, "new").await;
    let error = look(&world.site, NOW).await.unwrap_err();
    assert!(error.to_string().contains("it is away"), "{error}");
    assert!(old.exists() && world.has_log(1));
}

#[tokio::test]
async fn nothing_goes_from_a_folder_that_belongs_to_another_database() {
    let world = World::new(Some(terms()));
    let old = world.ended(1, 1, "old").await;
    world.ended(2, 2, "new").await;
    let orphan = world.artifact("another database's", NOW.0 - DAY);
    fs::create_dir_all(world.folder.path().join("logs/9")).unwrap();
    let error = look(&world.site, NOW).await.unwrap_err();
    assert!(error.to_string().contains("logs of 9"), "{error}");
    assert!(old.exists() && orphan.exists() && world.has_log(1));
}

#[tokio::test]
async fn no_artifact_goes_while_a_run_cannot_be_read() {
    let world = World::new(Some(terms()));
    let orphan = world.artifact("nobody's", NOW.0 - DAY);
    // It has no events, and so no plan: nobody can say what it left.
    let commit = Commit {
        summary: RunSummary {
            outcome: None,
            finished_at: None,
            ..summary(1, 0, Outcome::Succeeded)
        },
        expected: 0,
        events: Vec::new(),
        snapshot: None,
        effects: Vec::new(),
        settled: Vec::new(),
        delivery: None,
    };
    world.store.commit(commit).await.unwrap();
    look(&world.site, NOW).await.unwrap();
    assert!(orphan.exists());
}
