//! `pipe db`, and a server on Postgres.

use std::fs;

use rustix::process::Signal;

use crate::{
    database::TestDatabase,
    support::{Running, User, called},
};

fn data(user: &User) -> String {
    user.path("server").display().to_string()
}

#[test]
fn a_backup_is_made_beside_a_server_and_put_back_once() {
    let user = User::new();
    let (data, backup) = (data(&user), user.path("backup.db").display().to_string());
    let missing = user
        .call(&["db", "backup", "--data-dir", &data, &backup])
        .expect(3);
    assert!(missing.err.contains("there is no database"), "{}", missing.err);
    let mut server = user.serve(&[]);
    server.wait_for("page");
    user.call(&["db", "backup", "--data-dir", &data, &backup])
        .expect(0);
    let again = user
        .call(&["db", "backup", "--data-dir", &data, &backup])
        .expect(2);
    assert!(again.err.contains("is there already"), "{}", again.err);
    let beside = user.call(&["db", "migrate", "--data-dir", &data]).expect(2);
    assert!(beside.err.contains("has it open"), "{}", beside.err);
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, 0);

    let other = user.path("other").display().to_string();
    user.call(&["db", "restore", "--data-dir", &other, &backup])
        .expect(0);
    let twice = user
        .call(&["db", "restore", "--data-dir", &other, &backup])
        .expect(2);
    assert!(twice.err.contains("is there already"), "{}", twice.err);
    let migrated = user.call(&["db", "migrate", "--data-dir", &other]).expect(0);
    assert!(migrated.err.contains("is up to date"), "{}", migrated.err);
}

#[test]
fn a_copy_wants_a_database_to_copy_to() {
    let user = User::new();
    let data = data(&user);
    user.call(&["db", "migrate", "--data-dir", &data]).expect(0);
    let nowhere = user.call(&["db", "copy", "--data-dir", &data]).expect(2);
    assert!(nowhere.err.contains("--to URL"), "{}", nowhere.err);
    let odd = user
        .call(&[
            "db",
            "copy",
            "--data-dir",
            &data,
            "--to",
            "mysql://ann:s3cret@h/d",
        ])
        .expect(2);
    assert!(!odd.err.contains("s3cret"), "{}", odd.err);
}

fn make() -> Option<TestDatabase> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(TestDatabase::make())
}

#[test]
fn a_server_moves_to_postgres_and_its_backup_is_put_back() {
    let (Some(first), Some(second)) = (make(), make()) else {
        return;
    };
    let user = User::new();
    let data = data(&user);
    user.call(&["db", "migrate", "--data-dir", &data]).expect(0);
    let copied = user
        .call(&["db", "copy", "--data-dir", &data, "--to", first.address()])
        .expect(0);
    assert!(copied.err.contains("deliveries"), "{}", copied.err);
    assert!(copied.err.contains("counted"), "{}", copied.err);

    let mut serving = user.command(&["server", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    let mut server = Running::start(serving.env("PIPE_DATABASE", first.address()));
    server.wait_for("page");
    // Both see the same file; the server does not use it.
    user.call(&["db", "migrate", "--data-dir", &data]).expect(0);
    let backup = user.path("backup.dump").display().to_string();
    let on = |database: &TestDatabase, what: &str| {
        let mut command = user.command(&["db", what, "--data-dir", &data, &backup]);
        called(command.env("PIPE_DATABASE", database.address()))
    };
    on(&first, "backup").expect(0);
    assert!(fs::metadata(&backup).unwrap().len() > 0);
    on(&second, "restore").expect(0);
    let twice = on(&second, "restore").expect(2);
    assert!(twice.err.contains("is not empty"), "{}", twice.err);
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, 0);
}
