//! The grammar of repository names and tags (distribution-spec 1.1, "Pulling manifests").

use greentic_dist_types::limits;

/// Whether `name` is a repository name: lower-case components with single separators inside, joined by `/`.
pub(crate) fn is_repository(name: &str) -> bool {
    name.len() <= limits::REPOSITORY_BYTES && name.split('/').all(is_component)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let mut separator = "";
    let mut start = 0;
    let mut seen_word = false;
    for (at, byte) in component.bytes().enumerate() {
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() {
            if !separator.is_empty() && !is_separator(separator) {
                return false;
            }
            separator = "";
            seen_word = true;
            start = at + 1;
        } else if matches!(byte, b'.' | b'_' | b'-') && seen_word {
            separator = component.get(start..=at).unwrap_or("?");
        } else {
            return false;
        }
    }
    seen_word && separator.is_empty()
}

fn is_separator(text: &str) -> bool {
    matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-')
}

/// Whether `tag` is a tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub(crate) fn is_tag(tag: &str) -> bool {
    let mut bytes = tag.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    first
        && tag.len() <= limits::TAG_BYTES
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_follow_the_grammar() {
        for good in ["a", "acme/hello", "a0.b_c__d-e---f/g", "0/1/2", &"a".repeat(255)] {
            assert!(is_repository(good), "{good} was refused");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a..b",
            "a___b",
            "a._b",
            "a-_b",
            ".a",
            "a.",
            "-a",
            "a-",
            "..",
            "a/../b",
            "a b",
            "a\0",
            "é",
            "a%2fb",
            "a:b",
            "a@b",
            "_catalog",
            &"a".repeat(256),
        ] {
            assert!(!is_repository(bad), "{bad:?} was accepted");
        }
    }

    #[test]
    fn tags_follow_the_grammar() {
        for good in ["1", "v1.2.3", "_x", "A-b.C_d", &"t".repeat(128)] {
            assert!(is_tag(good), "{good} was refused");
        }
        for bad in ["", ".", "..", ".a", "-a", "a/b", "a:b", "a b", "é", "a\n", &"t".repeat(129)] {
            assert!(!is_tag(bad), "{bad:?} was accepted");
        }
    }
}
