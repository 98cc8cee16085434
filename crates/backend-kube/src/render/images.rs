//! Where images come from. Pure.

use std::collections::BTreeMap;

/// The registry of names without one, and how else it is called.
const HUB: &str = "docker.io";
const HUB_TOO: &str = "index.docker.io";

/// An image's name, with the mirror of its registry in the registry's place.
pub(super) fn mirrored(image: &str, mirrors: &BTreeMap<String, String>) -> String {
    let (host, path) = parted(image);
    let Some(mirror) = mirrors.get(host) else {
        return image.to_owned();
    };
    // What that registry itself calls them.
    let library = if host == HUB && !path.contains('/') {
        "library/"
    } else {
        ""
    };
    format!("{mirror}/{library}{path}")
}

fn parted(image: &str) -> (&str, &str) {
    match image.split_once('/') {
        Some((HUB_TOO, path)) => (HUB, path),
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        Some(_) | None => (HUB, image),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_come_from_the_mirror_of_their_registry() {
        let mirrors = BTreeMap::from(
            [
                ("docker.io", "harbor.test/hub"),
                ("quay.io:443", "harbor.test:5000"),
            ]
            .map(|(host, mirror)| (host.to_owned(), mirror.to_owned())),
        );
        for (image, expected) in [
            ("debian", "harbor.test/hub/library/debian"),
            ("debian:12@sha256:0", "harbor.test/hub/library/debian:12@sha256:0"),
            ("docker.io/debian:12", "harbor.test/hub/library/debian:12"),
            ("index.docker.io/grafana/k6:1", "harbor.test/hub/grafana/k6:1"),
            ("grafana/k6:1", "harbor.test/hub/grafana/k6:1"),
            ("quay.io:443/a/b", "harbor.test:5000/a/b"),
            ("quay.io/a/b", "quay.io/a/b"),
            ("localhost/a", "localhost/a"),
        ] {
            assert_eq!(mirrored(image, &mirrors), expected);
        }
    }
}
