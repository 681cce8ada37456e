//! Ids and versions of packs and components: which may become part of a path, and the ways one flat file name can be read.

use semver::Version;

/// The longest id in bytes: with a version and an extension it still fits one file name on common file systems.
const MAX_ID_BYTES: usize = 128;
/// The longest version text in bytes.
const MAX_VERSION_BYTES: usize = 96;

/// Says why `id` cannot be part of a path, or nothing when it can.
///
/// Ids are ASCII letters, digits, `.`, `_` and `-`, and more than dots: `.` and `..` are valid ids elsewhere and
/// would name the directory itself and the one above it here.
pub fn refuse_artifact_id(id: &str) -> Option<&'static str> {
    if id.is_empty() {
        return Some("it is empty");
    }
    if id.len() > MAX_ID_BYTES {
        return Some("it is longer than 128 bytes");
    }
    if id.bytes().any(|byte| matches!(byte, b'/' | b'\\' | b':' | 0)) {
        return Some("it holds a path separator");
    }
    if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return Some("only ASCII letters, digits, '.', '_' and '-' are allowed");
    }
    if id.bytes().all(|byte| byte == b'.') {
        return Some("it is only dots, which names a directory");
    }
    None
}

/// Says why `version` cannot be part of a path, or nothing when it can: it must be a semantic version, whose
/// alphabet holds no separator and which is never only dots.
pub fn refuse_artifact_version(version: &str) -> Option<&'static str> {
    if version.len() > MAX_VERSION_BYTES {
        return Some("it is longer than 96 bytes");
    }
    Version::parse(version).is_err().then_some("it is no semantic version such as 1.2.0")
}

/// Every (id, version) that the flat name `stem` can mean, shortest id first.
pub fn artifact_readings(stem: &str) -> Vec<(&str, &str)> {
    stem.match_indices('-')
        .map(|(dash, _)| (&stem[..dash], &stem[dash + 1..]))
        .filter(|(id, version)| refuse_artifact_id(id).is_none() && refuse_artifact_version(version).is_none())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_ids_are_accepted() {
        for id in ["weather", "acme.weather", "a", "A_b-c.d", "...x", "-", "0"] {
            assert_eq!(refuse_artifact_id(id), None, "{id:?}");
        }
        assert_eq!(refuse_artifact_id(&"a".repeat(MAX_ID_BYTES)), None);
    }

    #[test]
    fn ids_that_could_leave_a_directory_are_refused() {
        let long = "a".repeat(MAX_ID_BYTES + 1);
        for id in
            ["", ".", "..", "...", "a/b", "/a", "../a", "a\\b", "C:a", "a\0b", "a b", "a\nb", "ä", "%2e%2e", &long]
        {
            assert!(refuse_artifact_id(id).is_some(), "{id:?}");
        }
    }

    #[test]
    fn only_semantic_versions_are_versions() {
        for version in ["1.2.3", "0.0.0", "1.0.0-rc.1", "1.0.0-rc-1+build.5", "1.0.0-2.0.0"] {
            assert_eq!(refuse_artifact_version(version), None, "{version:?}");
        }
        let long = format!("1.0.0-{}", "a".repeat(MAX_VERSION_BYTES));
        for version in ["", ".", "..", "1", "1.2", "v1.2.3", "1.2.3/..", "01.2.3", "1.2.3 ", "latest", &long] {
            assert!(refuse_artifact_version(version).is_some(), "{version:?}");
        }
    }

    #[test]
    fn a_flat_name_is_read_in_every_way_it_can_be_meant() {
        assert_eq!(artifact_readings("weather-1.2.0"), [("weather", "1.2.0")]);
        assert_eq!(artifact_readings("acme-weather-1.2.0-rc.1"), [("acme-weather", "1.2.0-rc.1")]);
        assert_eq!(artifact_readings("foo-1.0.0-2.0.0"), [("foo", "1.0.0-2.0.0"), ("foo-1.0.0", "2.0.0")]);
        assert_eq!(artifact_readings("weather"), []);
    }
}
