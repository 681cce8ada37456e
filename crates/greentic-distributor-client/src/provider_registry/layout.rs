//! The cache of a bundle: every path in it is made here, from hashes and parsed digests.

use std::path::{Path, PathBuf};

use greentic_dist_types::Digest;

use super::names::{earlier_file_name, slug, stem};

/// Where the cache is below a bundle.
const BELOW_BUNDLE: [&str; 3] = [".greentic", "cache", "provider-registry"];

/// The paths of one bundle's cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    dir: PathBuf,
}

/// A directory of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sub {
    /// Copies by reference, and the index.
    Top,
    /// Copies by digest.
    ByDigest,
    /// What is known of each reference.
    Records,
    /// Files that are locked, and empty.
    Locks,
}

impl Sub {
    pub(super) const ALL: [Self; 4] = [Self::Top, Self::ByDigest, Self::Records, Self::Locks];

    const fn name(self) -> Option<&'static str> {
        match self {
            Self::Top => None,
            Self::ByDigest => Some("by-digest"),
            Self::Records => Some("records"),
            Self::Locks => Some("locks"),
        }
    }
}

impl Layout {
    /// The cache of a bundle.
    pub(super) fn of_bundle(bundle: &Path) -> Self {
        Self { dir: BELOW_BUNDLE.iter().fold(bundle.to_owned(), |dir, name| dir.join(name)) }
    }

    /// The cache that a copy by reference or by digest lies in, going by its path alone.
    pub(super) fn around(copy: &Path) -> Option<Self> {
        let parent = copy.parent()?;
        let is_by_digest = parent.file_name().and_then(|name| name.to_str()) == Sub::ByDigest.name();
        let dir = if is_by_digest { parent.parent()? } else { parent };
        dir.ends_with(BELOW_BUNDLE.iter().collect::<PathBuf>()).then(|| Self { dir: dir.to_owned() })
    }

    /// The directories between the bundle and the cache, outermost first, the cache included.
    pub(super) fn way(&self) -> Vec<PathBuf> {
        let mut way: Vec<PathBuf> = self.dir.ancestors().take(BELOW_BUNDLE.len()).map(Path::to_owned).collect();
        way.reverse();
        way
    }

    /// The bundle.
    pub(super) fn bundle(&self) -> &Path {
        self.dir.ancestors().nth(BELOW_BUNDLE.len()).unwrap_or(&self.dir)
    }

    pub(super) fn sub(&self, sub: Sub) -> PathBuf {
        sub.name().map_or_else(|| self.dir.clone(), |name| self.dir.join(name))
    }

    /// The copy of a reference.
    pub(super) fn copy(&self, reference: &str) -> PathBuf {
        self.dir.join(stem(reference) + ".json")
    }

    /// The copy of a reference as an earlier version named it.
    pub(super) fn earlier_copy(&self, reference: &str) -> Option<PathBuf> {
        Some(self.dir.join(earlier_file_name(reference)?))
    }

    /// The copy of what a digest stands for.
    pub(super) fn by_digest(&self, digest: &Digest) -> PathBuf {
        self.sub(Sub::ByDigest).join(slug(&digest.to_string()) + ".json")
    }

    /// The digest whose copy has this file name; `None` for what is no copy of ours.
    pub(super) fn digest_of(file_name: &str) -> Option<Digest> {
        let (algorithm, hex) = file_name.strip_suffix(".json")?.split_once('-')?;
        format!("{algorithm}:{hex}").parse().ok()
    }

    /// What is known of a reference.
    pub(super) fn record(&self, reference: &str) -> PathBuf {
        self.sub(Sub::Records).join(stem(reference) + ".json")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.dir.join("index.json")
    }

    /// Held while a reference is being fetched.
    pub(super) fn fetch_lock(&self, reference: &str) -> PathBuf {
        self.sub(Sub::Locks).join(stem(reference) + ".lock")
    }

    /// Held while something is written.
    pub(super) fn write_lock(&self) -> PathBuf {
        self.sub(Sub::Locks).join("write.lock")
    }
}

#[cfg(test)]
mod tests {
    use greentic_dist_types::Algorithm;

    use super::*;

    #[test]
    fn the_cache_around_a_copy_is_found_by_its_path() {
        let layout = Layout::of_bundle(Path::new("/b"));
        let digest = Digest::sha256(b"");
        assert_eq!(layout.index(), Path::new("/b/.greentic/cache/provider-registry/index.json"));
        assert_eq!(Layout::around(&layout.copy("oci://x")), Some(layout.clone()));
        assert_eq!(Layout::around(&layout.by_digest(&digest)), Some(layout.clone()));
        assert!(layout.by_digest(&digest).ends_with(format!("by-digest/sha256-{}.json", digest.to_hex())));
        for digest in Algorithm::ALL.map(|algorithm| Digest::of(algorithm, b"")) {
            let name = layout.by_digest(&digest).file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(Layout::digest_of(&name), Some(digest));
            assert_eq!(Layout::digest_of(&format!(".{name}")), None);
        }
        for other in ["/b/catalog.json", "catalog.json", "/", ""] {
            assert_eq!(Layout::around(Path::new(other)), None, "{other}");
        }
    }
}
