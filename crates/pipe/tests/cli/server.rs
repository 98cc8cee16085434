//! `pipe server`: configuration errors in one line, one server a folder, an orderly end.

use std::{fs, net::TcpListener};

use rustix::process::Signal;

use crate::support::User;

const PROJECT: &str =
    "[projects.web]\nforge = \"gitea\"\nrepository = \"/srv/web.git\"\nhook_secret = \"s\"\ntrusted = true\n";

fn refused(user: &User, config: &str, wanted: &str) {
    fs::write(user.path("config.toml"), config).unwrap();
    let file = user.path("config.toml").display().to_string();
    let called = user
        .call(&["server", "--config", &file, "--listen", "127.0.0.1:0"])
        .expect(2);
    let errors: Vec<&str> = called.err.lines().collect();
    assert!(errors.len() <= 2, "{}", called.err);
    assert!(
        errors[0].starts_with("error: ") && errors[0].contains(wanted),
        "{}",
        called.err
    );
    assert!(
        errors.get(1).is_none_or(|line| line.starts_with("hint: ")),
        "{}",
        called.err
    );
}

#[test]
fn wrong_configurations_are_one_line_each() {
    let user = User::new();
    refused(&user, "lisen = 1\n", "config.toml:1:1: unknown field `lisen`");
    refused(
        &user,
        "[projects.web]\nforge = \"gitea\"\n",
        "has no `repository`",
    );
    refused(&user, &PROJECT.replace("trusted = true", ""), "not trusted");
    refused(&user, "[log]\nlevel = \"pipe=loud\"\n", "log.level");
    refused(&user, "data_dir = \"/dev/null/x\"\n", "/dev/null/x");
    let missing = user.call(&["server", "--config", "/no/such.toml"]).expect(2);
    assert!(missing.err.contains("/no/such.toml"), "{}", missing.err);
}

#[test]
fn only_this_machine_may_reach_it() {
    let user = User::new();
    let called = user.call(&["server", "--listen", "0.0.0.0:0"]).expect(2);
    assert!(called.err.contains("0.0.0.0"), "{}", called.err);
    assert!(called.err.contains("hint: "), "{}", called.err);
}

#[test]
fn a_port_in_use_is_said_so() {
    let user = User::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let called = user.call(&["server", "--listen", &address]).expect(2);
    assert!(called.err.contains(&address), "{}", called.err);
    assert!(called.err.contains("--listen"), "{}", called.err);
}

#[test]
fn one_server_has_a_folder_and_it_ends_in_order() {
    let user = User::new();
    let mut first = user.serve(&[]);
    first.wait_for("page");
    let data = user.path("server").display().to_string();
    let second = user
        .call(&["server", "--listen", "127.0.0.1:0", "--data-dir", &data])
        .expect(2);
    assert!(second.err.contains("has it open"), "{}", second.err);
    first.signal(Signal::TERM);
    let (code, said) = first.end();
    assert_eq!(code, 0, "{said}");
    let mut again = user.serve(&[]);
    again.wait_for("page");
    again.signal(Signal::INT);
    assert_eq!(again.end().0, 0);
}
