use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// A stream into a pod, and the pod's end of it.
fn stream() -> (Patient, DuplexStream) {
    let (near, far) = duplex(1 << 10);
    (Patient::new(Box::new(near), Duration::from_millis(20)), far)
}

#[tokio::test]
async fn what_does_not_arrive_whole_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let left = || std::fs::read_dir(folder.path()).unwrap().count();
    let target = folder.path().join("key.tar.zst");

    let (mut near, far) = stream();
    drop(far);
    let cut = fetch(&mut near, &mut Vec::new(), 3, &target).await.unwrap_err();
    assert_eq!((cut.kind(), left()), (io::ErrorKind::UnexpectedEof, 0));

    let (mut near, mut far) = stream();
    far.write_all(b"ab").await.unwrap();
    let still = fetch(&mut near, &mut Vec::new(), 3, &target).await.unwrap_err();
    assert_eq!((still.kind(), left()), (io::ErrorKind::TimedOut, 0));

    let (near, _far) = duplex(1);
    let mut near = Patient::new(Box::new(near), Duration::from_secs(3600));
    let mut nothing = Vec::new();
    let fetching = fetch(&mut near, &mut nothing, 3, &target);
    let dropped = tokio::time::timeout(Duration::from_millis(20), fetching).await;
    assert!(dropped.is_err() && left() == 0, "nobody waits for it any more");

    std::fs::create_dir(&target).unwrap();
    let (mut near, _far) = stream();
    let refused = fetch(&mut near, &mut b"abc".to_vec(), 3, &target).await;
    assert!(refused.is_err(), "there is a folder in its place");
    assert_eq!(left(), 1);
}

#[tokio::test]
async fn what_arrives_is_whole_and_alone() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("deep/a");
    let (mut near, mut far) = stream();
    far.write_all(b"cde").await.unwrap();
    let mut received = b"ab".to_vec();
    fetch(&mut near, &mut received, 4, &target).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"abcd");
    assert_eq!(std::fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);
}
