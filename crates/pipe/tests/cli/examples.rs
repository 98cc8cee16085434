//! Three of the example pipelines, really run; all of them are checked in `spec`.

use std::{fs, path::Path};

use super::support::User;

fn example(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines-examples");
    fs::read_to_string(root.join(name)).unwrap()
}

#[test]
fn a_matrix_runs_every_cell_and_its_artifacts_come_together() {
    let user = User::with_pipeline(&example("matrix.yaml"));
    let called = user.call(&["run"]);
    assert_eq!(called.code, 0, "{called:#?}");
    for cell in [
        "sh plain: 42",
        "sh strict: 42",
        "bash plain: 42",
        "bash strict: 42",
    ] {
        let text = format!("{}{}", called.out, called.err);
        assert!(text.contains(cell), "{cell} is missing: {called:#?}");
    }
}

#[test]
fn an_approval_chain_rolls_out_only_what_is_approved() {
    let user = User::with_pipeline(&example("approval-chain.yaml"));
    let called = user.call(&["run", "--approve", "auto", "--param", "version=2.7.1"]);
    assert_eq!(called.code, 0, "{called:#?}");
    assert!(
        format!("{}{}", called.out, called.err).contains("release 2.7.1"),
        "{called:#?}"
    );

    let denied = user.call(&["run", "--approve", "deny"]);
    assert_eq!(denied.code, 1, "{denied:#?}");
    let text = format!("{}{}", denied.out, denied.err);
    assert!(
        !text.contains("cat out/release.txt"),
        "production was reached: {denied:#?}"
    );
}

#[test]
fn a_c_program_is_built_twice_and_both_agree() {
    let user = User::with_pipeline(&example("c-make.yaml"));
    let program = "#include <stdio.h>\nint main(void) { int c, n = 0; while ((c = getchar()) != EOF) n += c == '\\n'; printf(\"%d\\n\", n); return 0; }\n";
    user.write("src/count.c", program);
    user.write("src/input.txt", "one\ntwo\nthree\n");
    let called = user.call(&["run"]);
    assert_eq!(called.code, 0, "{called:#?}");
    user.write("src/count.c", &program.replace("return 0", "return undefined"));
    let broken = user.call(&["run"]);
    assert_eq!(broken.code, 1, "{broken:#?}");
    let text = format!("{}{}", broken.out, broken.err);
    assert!(
        text.contains("agree = – skipped") || text.contains("skipped"),
        "{broken:#?}"
    );
}
