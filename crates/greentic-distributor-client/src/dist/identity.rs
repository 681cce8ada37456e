//! Names derived from references: canonical references and component ids.

use std::path::Path;

use greentic_dist_types::{Digest, Reference};

/// `oci://registry/repository@pin`.
pub(crate) fn canonical_oci(reference: &Reference, pin: &Digest) -> String {
    format!("oci://{}@{pin}", reference.name())
}

/// `file://path@digest`, the path as given.
pub(super) fn canonical_file(path: &Path, digest: &Digest) -> String {
    format!("file://{}@{digest}", path.display())
}

/// `url@digest`.
pub(super) fn canonical_url(url: &str, digest: &Digest) -> String {
    format!("{url}@{digest}")
}

/// The component id of a file: its stem, without a version suffix; `file-component` when there is none.
pub(super) fn component_id_of_path(path: &Path) -> String {
    path.file_stem()
        .and_then(|stem| stem.to_str())
        .map(without_version_suffix)
        .filter(|stem| !stem.is_empty())
        .map_or_else(|| "file-component".to_owned(), ToOwned::to_owned)
}

/// The component id of a URL: the stem of its path, without a version suffix; `http-component` when there is none.
pub(super) fn component_id_of_url(url: &url::Url) -> String {
    url.path_segments()
        .and_then(|mut segments| segments.next_back().map(ToOwned::to_owned))
        .and_then(|name| {
            Path::new(&name)
                .file_stem()
                .and_then(|stem| stem.to_str())
                .map(without_version_suffix)
                .map(ToOwned::to_owned)
        })
        .filter(|stem| !stem.is_empty())
        .unwrap_or_else(|| "http-component".to_owned())
}

/// Cuts `__0_6_0` off `name__0_6_0`: two underscores, then digits and at least one underscore.
fn without_version_suffix(stem: &str) -> &str {
    match stem.rsplit_once("__") {
        Some((name, suffix))
            if !name.is_empty()
                && suffix.contains('_')
                && suffix.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
                && suffix.bytes().any(|byte| byte.is_ascii_digit()) =>
        {
            name
        }
        _ => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_suffixes_are_cut_only_when_they_are_versions() {
        for (path, id) in [
            ("/x/foo__0_6_0.wasm", "foo"),
            ("foo__1.wasm", "foo__1"),
            ("foo.wasm", "foo"),
            ("foo__0_6_0__1_2.wasm", "foo__0_6_0"),
            ("__1_0.wasm", "__1_0"),
            ("foo___.wasm", "foo___"),
            ("/", "file-component"),
        ] {
            assert_eq!(component_id_of_path(Path::new(path)), id, "{path}");
        }
    }

    #[test]
    fn urls_give_the_stem_of_their_last_segment() {
        for (url, id) in [
            ("https://x.example/a/foo__0_6_0.wasm?sig=1", "foo"),
            ("https://x.example/", "http-component"),
            ("https://x.example/a/", "http-component"),
        ] {
            assert_eq!(component_id_of_url(&url.parse().unwrap()), id, "{url}");
        }
    }
}
