use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use tar::{Builder, EntryType, Header};

use super::*;

fn globs(globs: &[&str]) -> Vec<String> {
    globs.iter().map(|glob| (*glob).to_owned()).collect()
}

fn tree(root: &Path) {
    fs::create_dir_all(root.join("dist/deep/empty")).unwrap();
    fs::write(root.join("dist/app"), "binary\0").unwrap();
    fs::set_permissions(root.join("dist/app"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::write(root.join("dist/deep/notes.txt"), "notes").unwrap();
    fs::write(root.join("other.txt"), "other").unwrap();
    symlink("deep/notes.txt", root.join("dist/link")).unwrap();
    symlink("/etc/passwd", root.join("dist/out")).unwrap();
}

#[test]
fn a_folder_comes_back_without_outside_links_and_setuid() {
    let folder = tempfile::tempdir().unwrap();
    let (root, into) = (folder.path().join("root"), folder.path().join("into"));
    tree(&root);
    let out = folder.path().join("a.tar.zst");
    let packed = pack(&root, &globs(&["dist"]), &out).unwrap();
    assert_eq!(
        (packed.files, packed.left_out),
        (3, vec![PathBuf::from("dist/out")])
    );
    assert_eq!(packed.sha256, sha256_file(&out).unwrap());
    assert_eq!(packed.bytes, fs::metadata(&out).unwrap().len());

    unpack(&out, &into).unwrap();
    assert_eq!(fs::read(into.join("dist/app")).unwrap(), b"binary\0");
    assert_eq!(
        fs::metadata(into.join("dist/app")).unwrap().mode() & 0o7777,
        0o755
    );
    assert_eq!(fs::read_to_string(into.join("dist/link")).unwrap(), "notes");
    assert!(into.join("dist/deep/empty").is_dir());
    assert!(!into.join("other.txt").exists());
    let age = fs::metadata(into.join("dist/app"))
        .unwrap()
        .modified()
        .unwrap()
        .elapsed()
        .unwrap();
    assert!(age.as_secs() < 600, "dated at unpacking");
}

#[test]
fn equal_content_has_an_equal_digest() {
    let folder = tempfile::tempdir().unwrap();
    let digests: Vec<String> = ["one", "two"]
        .iter()
        .map(|name| {
            let root = folder.path().join(name);
            tree(&root);
            let dated = fs::File::open(root.join("other.txt")).unwrap();
            dated.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            pack(&root, &globs(&["."]), &root.with_extension("tar.zst"))
                .unwrap()
                .sha256
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn globs_choose() {
    let folder = tempfile::tempdir().unwrap();
    tree(folder.path());
    let chosen = |patterns: &[&str]| {
        let found = select(folder.path(), &globs(patterns), &Interrupt::default()).unwrap();
        found
            .keys()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(chosen(&["**/*.txt"]), ["dist/deep/notes.txt", "other.txt"]);
    assert_eq!(
        chosen(&["./dist/*", "!dist/deep"]),
        ["dist/app", "dist/link", "dist/out"]
    );
    assert_eq!(
        chosen(&["d*/deep"]),
        ["dist/deep", "dist/deep/empty", "dist/deep/notes.txt"]
    );
    assert_eq!(
        chosen(&["dist/link/x", "nothing", "dist/app/x"]),
        Vec::<String>::new()
    );
    for bad in ["/etc", "../x", "a["] {
        let result = select(folder.path(), &globs(&[bad]), &Interrupt::default());
        assert!(matches!(result, Err(ArchiveError::Pattern { .. })), "{bad}");
    }
}

fn hostile(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, path, text) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        // Written raw, because the builder itself refuses some of these.
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        let content = if *kind == EntryType::Regular {
            text.as_bytes()
        } else {
            b""
        };
        if *kind != EntryType::Regular {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn hostile_entries_are_refused_and_touch_nothing_outside() {
    use EntryType::{Block, Char, Fifo, Link, Regular, Symlink};
    let cases: &[&[(EntryType, &str, &str)]] = &[
        &[(Regular, "../evil", "x")],
        &[(Regular, "a/../../evil", "x")],
        &[(Regular, "/tmp/evil", "x")],
        &[(Symlink, "l", "/etc")],
        &[(Symlink, "l", "../outside")],
        &[(Symlink, "a/l", "../../outside")],
        &[(Symlink, "l", "a/../../outside")],
        &[(Symlink, "l", "")],
        &[(Symlink, "l", "a"), (Regular, "l/evil", "x")],
        &[(Regular, "f", "x"), (Regular, "f/evil", "x")],
        &[(Link, "l", "f")],
        &[(Char, "dev", "")],
        &[(Block, "dev", "")],
        &[(Fifo, "pipe", "")],
        &[(Regular, ".", "x")],
    ];
    for case in cases {
        let folder = tempfile::tempdir().unwrap();
        let (into, archive) = (folder.path().join("into"), folder.path().join("a.tar"));
        fs::create_dir_all(into.join("a")).unwrap();
        fs::write(&archive, hostile(case)).unwrap();
        assert!(unpack(&archive, &into).is_err(), "{case:?}");
        assert!(
            !folder.path().join("evil").exists() && !into.join("a/evil").exists(),
            "{case:?}"
        );
    }
}

#[test]
fn a_link_that_lay_there_is_replaced_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (into, archive) = (folder.path().join("into"), folder.path().join("a.tar"));
    fs::create_dir_all(&into).unwrap();
    fs::write(folder.path().join("victim"), "safe").unwrap();
    symlink("../victim", into.join("f")).unwrap();
    fs::write(&archive, hostile(&[(EntryType::Regular, "./f", "new")])).unwrap();
    unpack(&archive, &into).unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("victim")).unwrap(), "safe");
    assert_eq!(fs::read_to_string(into.join("f")).unwrap(), "new");
}

#[test]
fn bombs_and_cut_archives_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir_all(&root).unwrap();
    let zeros = fs::File::create(root.join("zeros")).unwrap();
    zeros.set_len(RATIO_FLOOR + (1 << 20)).unwrap();
    let bomb = folder.path().join("bomb.tar.zst");
    pack(&root, &globs(&["zeros"]), &bomb).unwrap();
    assert!(matches!(
        unpack(&bomb, &folder.path().join("into")),
        Err(ArchiveError::Damaged(_))
    ));

    let whole = fs::read(&bomb).unwrap();
    fs::write(&bomb, &whole[..whole.len() / 2]).unwrap();
    assert!(unpack(&bomb, &folder.path().join("into")).is_err());
}

#[test]
fn what_holds_too_much_is_refused_before_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (into, archive) = (folder.path().join("into"), folder.path().join("a.tar"));
    let entries = [(EntryType::Regular, "a", "123"), (EntryType::Regular, "b", "456")];
    fs::write(&archive, hostile(&entries)).unwrap();
    let refused = unpack_at_most(&archive, &into, 5).unwrap_err();
    assert_eq!(refused.to_string(), "archive has more than 5 bytes");
    assert!(into.join("a").exists() && !into.join("b").exists());
    assert_eq!(unpack_at_most(&archive, &into, 6).unwrap().bytes, 6);
}
