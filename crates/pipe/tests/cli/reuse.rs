//! `reuse:`: an earlier success stands in for an action, here and on a server.

use std::fs;

use crate::{
    client::Site,
    support::{User, git},
};

/// `calls` counts how often the action really ran.
fn pipeline(calls: &std::path::Path) -> String {
    format!(
        "on: {{ manual: true, push: {{ branches: [main] }} }}
params: {{ profile: {{ type: string, default: debug }} }}
env: {{ PROFILE: '${{{{ params.profile }}}}' }}
actions:
  - name: build
    reuse: {{ inputs: [\"src/**\", \"!src/notes/**\"], env: [PROFILE] }}
    run: |
      echo ran >> {}
      cat src/main.txt > made.txt
      echo word=$(cat src/main.txt) >> $PIPE_OUTPUT
    artifacts: {{ made: made.txt }}
  - {{ name: use, use: [build.made], env: {{ WORD: '${{{{ actions.build.outputs.word }}}}' }}, run: 'echo got $WORD and $(cat made.txt)' }}
",
        calls.display()
    )
}

fn user() -> User {
    let user = User::new();
    user.write(".pipe/web.yaml", &pipeline(&user.path("calls")));
    user.write("src/main.txt", "one");
    user
}

fn calls(user: &User) -> usize {
    fs::read_to_string(user.path("calls"))
        .unwrap_or_default()
        .lines()
        .count()
}

#[test]
fn a_local_run_reuses_what_an_earlier_one_made_of_the_same_inputs() {
    let user = user();
    let first = user.call(&["run"]).expect(0);
    assert!(!first.out.contains("reused"), "{}", first.out);
    user.write("README", "unrelated");
    user.write("src/notes/today.txt", "left out");
    let second = user.call(&["run"]).expect(0);
    assert!(
        second.out.contains("build = ✓ succeeded: reused from run 1"),
        "{}",
        second.out
    );
    assert!(second.out.contains("got one and one"), "{}", second.out);
    assert_eq!(calls(&user), 1);
    // What was reused is there for the run after, and so is what it came from.
    let third = user.call(&["run"]).expect(0);
    assert!(third.out.contains("reused from run 1"), "{}", third.out);

    user.write("src/main.txt", "two");
    let changed = user.call(&["run"]).expect(0);
    assert!(changed.out.contains("got two and two"), "{}", changed.out);
    assert_eq!(calls(&user), 2);
    user.call(&["run", "--param", "profile=release"]).expect(0);
    assert_eq!(calls(&user), 3, "a named variable counts");
    user.write("src/main.txt", "one");
    let back = user.call(&["run"]).expect(0);
    assert!(back.out.contains("got one and one"), "{}", back.out);
    assert_eq!(calls(&user), 3, "the first success is still known");

    let asked = user.call(&["run", "--no-reuse"]).expect(0);
    assert!(!asked.out.contains("reused"), "{}", asked.out);
    assert_eq!(calls(&user), 4);
    let after = user.call(&["run"]).expect(0);
    assert!(
        after.out.contains("reused from run 7"),
        "the newest success stands: {}",
        after.out
    );
}

#[test]
fn what_the_file_says_counts_and_where_it_says_it_does_not() {
    let user = user();
    user.call(&["run"]).expect(0);
    let text = pipeline(&user.path("calls"));
    user.write(
        ".pipe/web.yaml",
        &format!("# A comment moves every line.\n{text}"),
    );
    user.call(&["run"]).expect(0);
    assert_eq!(calls(&user), 1);
    user.write(
        ".pipe/web.yaml",
        &text.replace("cat src/main.txt > made.txt", "cat src/main.txt | cat > made.txt"),
    );
    user.call(&["run"]).expect(0);
    assert_eq!(calls(&user), 2);
}

#[test]
fn a_failure_a_lost_artifact_and_inputs_without_files_are_not_reused() {
    let user = user();
    let failing = pipeline(&user.path("calls")).replace("cat src/main.txt > made.txt", "exit 1");
    user.write(".pipe/web.yaml", &failing);
    user.call(&["run"]).expect(1);
    user.call(&["run"]).expect(1);
    assert_eq!(calls(&user), 2);

    user.write(".pipe/web.yaml", &pipeline(&user.path("calls")));
    user.call(&["run"]).expect(0);
    for run in fs::read_dir(user.path("state/pipe/runs")).unwrap() {
        // Not every run made artifacts.
        let _ = fs::remove_dir_all(run.unwrap().path().join("artifacts"));
    }
    user.call(&["run"]).expect(0);
    assert_eq!(calls(&user), 4);

    let none = pipeline(&user.path("calls")).replace("\"src/**\"", "\"lib/**\"");
    user.write(".pipe/web.yaml", &none);
    user.call(&["run"]).expect(0);
    user.call(&["run"]).expect(0);
    assert_eq!(calls(&user), 6);
}

#[test]
fn a_server_reuses_across_commits_and_restarts_and_says_from_which_run() {
    let user = user();
    let text = fs::read_to_string(user.work().join(".pipe/web.yaml")).unwrap();
    let site = Site::with_pipeline(&text);
    let work = site.user.work();
    let commit = |name: &str, text: &str| {
        site.user.write(name, text);
        git(&work, &["add", "--all"]);
        git(&work, &["commit", "--quiet", "--message", "more"]);
    };
    commit("src/main.txt", "one");
    let start = |site: &Site, run: u32, args: &[&str]| {
        site.call(args).expect(0);
        let mut last = site.following(&format!("{run}/use"));
        last.wait_for("got ");
        assert_eq!(last.end().0, 0);
    };
    start(&site, 1, &["start", "web", "web"]);
    commit("README", "unrelated");
    start(&site, 2, &["start", "web", "web"]);
    assert_eq!(calls(&user), 1);
    let why = site.call(&["why", "2/build"]).expect(0);
    assert!(why.out.contains("succeeded: reused from run 1"), "{}", why.out);
    let shown = site.call(&["show", "2"]).expect(0);
    assert!(shown.out.contains("reused from run 1"), "{}", shown.out);
    commit("src/main.txt", "two");
    start(&site, 3, &["start", "web", "web"]);
    assert_eq!(calls(&user), 2);

    let site = site.restart();
    start(&site, 4, &["retry", "3"]);
    assert_eq!(calls(&user), 2);
    start(&site, 5, &["retry", "3", "--no-reuse"]);
    assert_eq!(calls(&user), 3);
    start(&site, 6, &["start", "web", "web", "--no-reuse"]);
    assert_eq!(calls(&user), 4);
    start(&site, 7, &["start", "web", "web"]);
    let why = site.call(&["why", "7/build"]).expect(0);
    assert!(why.out.contains("reused from run 6"), "{}", why.out);
}
