//! `pipe run --from-run`: the working tree's actions on what a server's run made.

use std::{fs, path::PathBuf};

use crate::client::Site;

const FILE: &str = "on: { manual: true }
actions:
  - parallel:
      - name: build
        run: |
          mkdir out
          cp data.txt out/web
          echo n=7 >> $PIPE_OUTPUT
          echo big=$(head -c 70000 /dev/zero | tr '\\0' x) >> $PIPE_OUTPUT
        artifacts: { web: out/web }
      - { name: broken, allow_failure: true, run: 'exit 3' }
  - name: smoke
    needs: [build]
    use: [build.web]
    env: { N: '${{ actions.build.outputs.n }}', BIG: '${{ actions.build.outputs.big }}' }
    run: 'cat out/web; echo n=$N big=$(wc -c < $BIG)'
  - { name: late, needs: [broken, smoke], run: 'echo late' }
";

/// A server whose run 1 has ended; the working tree has changed since.
fn site() -> Site {
    let user = crate::support::User::with_pipeline(FILE);
    user.write("data.txt", "of the server\n");
    let site = Site::of(user, "trusted = true");
    site.call(&["start", "web", "web"]).expect(0);
    for action in ["1/smoke", "1/broken"] {
        site.following(action).end();
    }
    site.user.write("data.txt", "of the tree\n");
    site
}

#[test]
fn a_run_is_kept_by_whoever_says_so() {
    let site = site();
    let kept = site.call(&["keep", "1", "-m", "the audit"]).expect(0);
    assert_eq!(kept.out, "run 1 is kept whatever its age\n");
    let shown = site.call(&["show", "1"]).expect(0);
    assert!(shown.out.contains(": the audit"), "{}", shown.out);
    site.call(&["keep", "1", "--release"]).expect(0);
    let shown = site.call(&["show", "1"]).expect(0);
    assert!(!shown.out.contains("kept by"), "{}", shown.out);
    let audit = site.call(&["audit"]).expect(0);
    assert!(
        audit.out.contains("run.keep") && audit.out.contains("run.release"),
        "{}",
        audit.out
    );
    site.call(&["keep", "9"]).expect(3);
}

/// The archives that the server keeps.
fn archives(site: &Site) -> Vec<PathBuf> {
    let shelves = fs::read_dir(site.user.path("server/artifacts")).unwrap();
    let files = shelves.flat_map(|shelf| fs::read_dir(shelf.unwrap().path()).unwrap());
    let files = files.map(|file| file.unwrap().path());
    files
        .filter(|file| file.to_string_lossy().ends_with(".tar.zst"))
        .collect()
}

#[test]
fn what_an_action_needs_comes_from_the_servers_run() {
    let site = site();
    let called = site
        .call(&["run", "--lines", "--from-run", "1", "--action", "smoke"])
        .expect(0);
    assert!(called.out.contains("of the server"), "{}", called.out);
    assert!(!called.out.contains("of the tree"), "{}", called.out);
    assert!(called.out.contains("n=7 big=70000"), "{}", called.out);
    assert!(called.out.contains("reused from run 1"), "{}", called.out);
    let fetched = "fetches the artifact `web` of run 1/build";
    assert!(called.err.contains(fetched), "{}", called.err);
    let in_image = FILE.replace(
        "      - name: build\n",
        "      - name: build\n        image: no.such/image:1\n        secrets: [{ name: NO_SUCH, env: NO_SUCH }]\n",
    );
    site.user.write(".pipe/web.yaml", &in_image);
    let called = site.call(&["run", "--lines", "--from-run", "1", "--action", "smoke"]);
    let called = called.expect(0);
    assert!(
        called.out.contains("of the server"),
        "it runs nowhere here: {}",
        called.out
    );
    site.user.write(".pipe/web.yaml", FILE);
    let both = [
        "run",
        "--lines",
        "--from-run",
        "1",
        "--action",
        "smoke",
        "--action",
        "build",
    ];
    let called = site.call(&both).expect(0);
    assert!(
        called.out.contains("of the tree"),
        "what is named runs here: {}",
        called.out
    );
}

#[test]
fn what_does_not_fit_is_refused_before_anything_runs() {
    let site = site();
    let refused = |args: &[&str], code| {
        let mut all = vec!["run", "--lines"];
        all.extend(args);
        let called = site.call(&all).expect(code);
        assert_eq!(called.out, "", "nothing ran");
        called.err
    };
    let err = refused(&["--from-run", "1", "--action", "late"], 2);
    assert!(
        err.contains("`broken` of run 1 is failed, not succeeded"),
        "{err}"
    );
    let err = refused(&["--from-run", "9", "--action", "smoke"], 3);
    assert!(err.contains("there is no run 9"), "{err}");
    let err = refused(&["--from-run", "1"], 2);
    assert!(err.contains("--action"), "{err}");
    let newer = FILE
        .replace("name: build", "name: compile")
        .replace("build", "compile");
    site.user.write(".pipe/web.yaml", &newer);
    let err = refused(&["--from-run", "1", "--action", "smoke"], 2);
    assert!(err.contains("run 1 has no `compile`"), "{err}");
    site.user.write(".pipe/web.yaml", &format!("name: other\n{FILE}"));
    let err = refused(&["--from-run", "1", "--action", "smoke"], 2);
    assert!(
        err.contains("run 1 is one of the pipeline `web`, and this is `other`"),
        "{err}"
    );
}

#[test]
fn artifacts_that_are_gone_or_broken_are_not_run_on() {
    let site = site();
    let args = ["run", "--lines", "--from-run", "1", "--action", "smoke"];
    for archive in archives(&site) {
        fs::write(&archive, "something else").unwrap();
    }
    let called = site.call(&args).expect(4);
    let broken = "the artifact `web` of run 1/build is not what its digest says";
    assert!(called.err.contains(broken), "{}", called.err);
    for archive in archives(&site) {
        fs::remove_file(archive).unwrap();
    }
    let called = site.call(&args).expect(2);
    assert!(called.err.contains("the artifact was removed"), "{}", called.err);
}
