//! Projects that are documents: applied to a server that begins anew by itself, with nothing lost meanwhile.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::json;

use crate::client::Site;

const SECRET: &str = "a-secret-of-20-letters";
const NOTHING: &str = "0000000000000000000000000000000000000000";
const FILE: &str = "on: { push: { branches: [main] }, manual: true }
actions:
  - { name: build, run: 'echo built' }
";

/// The documents of one project in the user's own repository, protected tags being these.
fn documents(site: &Site, tags: &str) -> String {
    let forge = json!({ "kind": "Forge", "name": "git", "type": "gitea", "url": "https://git.test" });
    let project = json!({
        "kind": "Project", "name": "web", "forge": "git", "trusted": true,
        "repository": site.user.work(), "hook_secret": { "secret": "HOOK" },
        "protected": { "tags": [tags] },
    });
    format!("{forge}\n---\n{project}\n")
}

fn apply(site: &Site, text: &str) {
    site.tell(&["apply", "--file", "-"], text).expect(0);
}

/// A server to which a project was applied, and that has begun anew with it.
fn site() -> Site {
    let mut site = Site::without_project(FILE, "");
    apply(&site, "{ kind: Secret, name: HOOK }");
    site.tell(&["secret", "set", "HOOK"], SECRET).expect(0);
    apply(&site, &documents(&site, "v*"));
    site.wait_for_hook();
    site
}

/// Whether run 1 succeeds.
fn assert_built(site: &Site) {
    let begun = std::time::Instant::now();
    // A delivery becomes a run a moment after it was answered.
    while site.call(&["show", "1"]).code != 0 {
        assert!(begun.elapsed() < crate::support::PATIENCE, "no run 1");
    }
    let mut build = site.following("1/build");
    build.wait_for("built");
    assert_eq!(build.end().0, 0);
}

#[test]
fn a_project_that_is_applied_takes_webhooks_and_leaves_its_runs() {
    let mut site = site();
    site.push(NOTHING, "another-secret-of-20").expect(4);
    site.push(NOTHING, SECRET).expect(0);
    assert_built(&site);

    // Without the key of its secret it is there, and says what is missing, until the key is back.
    let keys = site.user.path("server.master-keys");
    let away = site.user.path("away");
    site.start_again(|_| fs::rename(&keys, &away).unwrap());
    site.wait_for_hook();
    let got = site.call(&["get", "Project"]).expect(0);
    assert!(
        got.err
            .contains("Project/web cannot be used as it is: it takes no webhooks: the Secret `HOOK`"),
        "{}",
        got.err
    );
    let refused = site.push(NOTHING, SECRET).expect(4);
    assert!(refused.err.contains("503"), "{}", refused.err);
    site.call(&["show", "1"]).expect(0);
    fs::rename(&away, &keys).unwrap();
    site.wait_for_hook();
    site.push(NOTHING, SECRET).expect(0);

    let named = site.call(&["delete", "Forge/git"]);
    assert_ne!(named.code, 0);
    assert!(
        named.err.contains("named by Project/web (`forge`)"),
        "{}",
        named.err
    );
    site.call(&["delete", "Project/web"]).expect(0);
    site.wait_for("there is no project yet");
    let shown = site.call(&["show", "1"]).expect(0).out;
    assert!(shown.contains("build"), "{shown}");
    site.call(&["logs", "1/build"]).expect(0);
    assert_ne!(site.call(&["start", "web", "web"]).code, 0);
}

#[test]
fn no_webhook_is_lost_while_documents_change() {
    let mut site = site();
    let is_over = AtomicBool::new(false);
    let deliver = site.moves(SECRET);
    let sent = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut sent = 0;
            while !is_over.load(Ordering::Relaxed) {
                sent += 1;
                deliver(sent).expect(0);
            }
            sent
        });
        for round in 0..10 {
            apply(&site, &documents(&site, &format!("v{round}*")));
            site.wait_for("webhook");
        }
        is_over.store(true, Ordering::Relaxed);
        sending.join().unwrap()
    });
    // They are numbered from 1 in the order in which they were stored.
    site.call(&["hooks", "show", &sent.to_string()]).expect(0);
    site.call(&["hooks", "show", &(sent + 1).to_string()]).expect(3);
    assert!(sent > 10);
}

#[test]
fn a_folder_of_documents_is_applied_at_start_and_a_broken_one_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let kinds = folder.path().join("kinds");
    fs::create_dir(&kinds).unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let config = format!("kinds = \"{}\"\n", kinds.display());
    fs::write(kinds.join("forge.yaml"), "kind: Forge\nname: git\ntype: gitea\n").unwrap();
    let mut site = Site::without_project(FILE, &config);
    site.wait_for("there is no project yet");
    let project = format!(
        "kind: Project\nname: web\nforge: git\ntrusted: true\nrepository: {}\nhook_secret: {{ file: {} }}\n",
        site.user.work().display(),
        secret.display()
    );
    site.start_again(|_| fs::write(kinds.join("web.yaml"), &project).unwrap());
    site.wait_for_hook();
    site.push(NOTHING, SECRET).expect(0);
    assert_built(&site);
    let history = site.call(&["get", "Project/web", "--history"]).expect(0).out;
    assert!(
        history.contains("version 1 ") && history.contains("by configuration"),
        "{history}"
    );
    let refused = site.tell(&["apply", "--file", "-"], &project);
    assert!(refused.err.contains("in the folder `kinds`"), "{}", refused.err);

    let broken = project.replace("forge: git", "forge: gut");
    site.start_again(|_| fs::write(kinds.join("web.yaml"), broken).unwrap());
    assert!(site.said().contains("web.yaml:3:"), "{}", site.said());
    site.wait_for_hook();
    site.start_again(|_| fs::write(kinds.join("web.yaml"), &project).unwrap());
    site.wait_for_hook();
    let history = site.call(&["get", "Project/web", "--history"]).expect(0).out;
    assert_eq!(history.lines().count(), 1, "the same changes nothing: {history}");
}
