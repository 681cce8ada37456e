//! Names of cached files: readable, and different for different references.

use greentic_dist_types::{Digest, limits};

/// What an empty slug is called.
const NAMELESS: &str = "registry";
/// Longest readable part of a name, in bytes: with hash and suffix it stays far below what file systems take.
const SLUG_BYTES: usize = 120;
/// Hex characters of the reference's hash in a name: 64 bits, so that nobody finds two references with one name by accident.
const HASH_CHARS: usize = 16;
/// Longest name of a file that an earlier version could have written, in bytes.
const NAME_BYTES: usize = 255;

/// ASCII letters and digits in lower case, every run of anything else one `-`, none at the ends; `registry` when nothing is
/// left. Many texts have one slug, so a slug alone names nothing.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::with_capacity(text.len().min(NAME_BYTES));
    for ch in text.chars() {
        if ch.is_ascii_alphanumeric() {
            slug.push(ch.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    if slug.is_empty() { NAMELESS.to_owned() } else { slug }
}

/// The file name, without its suffix, of what is kept for a reference: its slug, and a hash of exactly this text.
pub(super) fn stem(reference: &str) -> String {
    let mut stem = slug(reference);
    // A slug is ASCII: every position is one between characters.
    stem.truncate(SLUG_BYTES);
    let hash = Digest::sha256(reference.as_bytes()).to_hex();
    format!("{}-{}", stem.trim_end_matches('-'), hash.get(..HASH_CHARS).unwrap_or(&hash))
}

/// The file name an earlier version gave to a reference; `None` where it could not have written one.
pub(super) fn earlier_file_name(reference: &str) -> Option<String> {
    if reference.len() > limits::REFERENCE_BYTES {
        return None;
    }
    let name = format!("{}.json", slug(reference));
    // The index has that name itself.
    (name.len() <= NAME_BYTES && name != "index.json").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slugs_are_those_of_earlier_versions() {
        for (text, expected) in [
            (
                "oci://ghcr.io/greenticai/registries/providers:latest",
                "oci-ghcr-io-greenticai-registries-providers-latest",
            ),
            ("sha256:abc123", "sha256-abc123"),
            ("--A//b..", "a-b"),
            ("ünï", "n"),
            ("", "registry"),
            ("://", "registry"),
        ] {
            assert_eq!(slug(text), expected, "{text}");
        }
    }

    #[test]
    fn references_with_one_slug_have_different_names() {
        let alike =
            ["oci://ghcr.io/a-b/c:1", "oci://ghcr.io/a/b-c:1", "oci://ghcr.io/a/b/c:1", "oci://ghcr.io/a/b_c:1"];
        let stems: std::collections::BTreeSet<_> = alike.iter().map(|reference| stem(reference)).collect();
        assert_eq!(alike.iter().map(|reference| slug(reference)).collect::<std::collections::BTreeSet<_>>().len(), 1);
        assert_eq!(stems.len(), alike.len(), "{stems:?}");
    }

    #[test]
    fn a_reference_whose_slug_is_the_index_has_no_earlier_file() {
        assert_eq!(earlier_file_name("oci://a/b:1").as_deref(), Some("oci-a-b-1.json"));
        assert_eq!(earlier_file_name("index"), None);
        assert_eq!(earlier_file_name(&"x".repeat(252)), None);
    }

    proptest! {
        #[test]
        fn names_are_plain_short_and_depend_on_the_text_alone(text in "\\PC{0,300}") {
            let (slug, stem) = (slug(&text), stem(&text));
            let plain = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            prop_assert!(plain(&slug) && plain(&stem));
            prop_assert!(!slug.starts_with('-') && !slug.ends_with('-') && !slug.contains("--"));
            prop_assert!(stem.len() <= SLUG_BYTES + 1 + HASH_CHARS && stem.len() > HASH_CHARS);
            prop_assert_eq!(super::slug(&slug), slug);
        }

        #[test]
        fn two_references_never_share_a_name(one in "oci://[a-c./:_-]{1,12}", other in "oci://[a-c./:_-]{1,12}") {
            prop_assert_eq!(stem(&one) == stem(&other), one == other);
        }
    }
}
