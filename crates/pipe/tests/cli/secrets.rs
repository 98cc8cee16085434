//! Secrets that a server keeps: from the command line into an action, and nowhere else.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::client::Site;

const CANARY: &str = "canary-value-19f3-which-is-nowhere";
const FILE: &str = "on: { manual: true }
actions:
  - { name: use, secrets: [{ name: TOKEN, env: TOKEN }], run: 'echo it is $TOKEN and has ${#TOKEN}; echo $TOKEN > kept' }
";

/// Every file below a folder that holds these bytes.
fn holding(folder: &Path, bytes: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holding(&path, bytes, found);
        } else if let Ok(content) = fs::read(&path)
            && content.windows(bytes.len()).any(|window| window == bytes)
        {
            found.push(path.display().to_string());
        }
    }
}

/// The next run's log, and why it ended so.
fn run(site: &Site, number: u64) -> String {
    site.call(&["start", "web", "web"]).expect(0);
    let action = format!("{number}/use");
    let log = site.following(&action).end().1;
    let why = site.call(&["why", &action]).expect(0);
    format!("{log}\n{}", why.out)
}

#[test]
fn a_secret_reaches_its_action_and_nothing_else() {
    let site = Site::with_pipeline(FILE);
    let missing = run(&site, 1);
    assert!(
        missing.contains("`pipe secret set TOKEN --project web`"),
        "{missing}"
    );

    let set = ["secret", "set", "TOKEN", "--project", "web"];
    let first = site.tell(&set, &format!("{CANARY}\n")).expect(0);
    assert!(first.err.contains("keep a copy"), "{}", first.err);
    let keys = site.user.path("server.master-keys");
    assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o600);
    let log = run(&site, 2);
    let said = format!("and has {}", CANARY.len());
    assert!(log.contains(&said) && !log.contains(CANARY), "{log}");

    let rotated = site.call(&["secret", "rotate-key"]).expect(0);
    assert!(rotated.out.contains("took over 1 secrets"), "{}", rotated.out);
    assert!(run(&site, 3).contains(&said));
    let listed = site.call(&["secret", "list"]).expect(0);
    assert!(
        listed
            .out
            .starts_with("TOKEN (web.TOKEN)  project web  tier protected  version 1"),
        "{}",
        listed.out
    );

    let narrow = ["secret", "set", "TOKEN", "--project", "web", "--event", "tag"];
    site.tell(&narrow, CANARY).expect(0);
    let refused = run(&site, 4);
    assert!(
        refused.contains("bound to event tag; this run is of event manual"),
        "{refused}"
    );
    for shown in [
        site.call(&["audit", "--all", "--output", "json"]).out,
        site.call(&["get", "--output", "json"]).out,
        site.call(&["show", "2", "--output", "json"]).out,
    ] {
        assert!(!shown.is_empty() && !shown.contains(CANARY), "{shown}");
    }
    let backup = site.user.path("backup.db").display().to_string();
    site.call(&["db", "backup", &backup]).expect(0);
    let keys = fs::read_to_string(&keys).unwrap();
    let key = keys.lines().last().unwrap();
    site.call(&["secret", "remove", "TOKEN", "--project", "web"])
        .expect(0);

    // Its workspace is the action's own, and goes with it; what the server keeps has no trace.
    let (user, said) = site.stop();
    assert!(!said.contains(CANARY), "{said}");
    let mut found = Vec::new();
    for bytes in [CANARY.as_bytes(), key.as_bytes()] {
        holding(&user.path("server"), bytes, &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
    assert!(
        !fs::read(backup)
            .unwrap()
            .windows(key.len())
            .any(|window| window == key.as_bytes())
    );
}
