//! The cache of a bundle's catalogs: what is believed of it, what heals, and what is left alone.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use greentic_dist_serve::{Registry, RunningRegistry};
use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::fixture::{Artifact, MANIFEST_TYPE};
use greentic_dist_testkit::scenario::{Lie, Part};
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::DistErrorKind::{Integrity, InvalidInput, NotFound, Offline, Temporary};
use greentic_distributor_client::provider_registry::{
    CatalogOrigin, ProviderRegistry, ProviderRegistryError, ResolvedCatalog, cache_registry_file, resolve_catalog_path,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::catalog_support::{Shop, artifact, assert_refused, cache_of, document, ids, resolve};
use crate::support::Home;

const REFERENCE: &str = "oci://ghcr.io/acme/providers:latest";
/// The names an earlier version gave to its copy, and to that of a digest.
const EARLIER: &str = "oci-ghcr-io-acme-providers-latest.json";

/// A bundle whose registries cannot be reached.
struct Island(TempDir, Home);

impl Island {
    fn new() -> Self {
        Self(TempDir::new().unwrap(), Home::new())
    }

    fn cache(&self) -> PathBuf {
        cache_of(self.0.path())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.cache().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The index as an earlier version wrote it.
    fn write_index(&self, refs: &[(&str, &str)]) {
        let refs: serde_json::Map<String, Value> =
            refs.iter().map(|(reference, digest)| ((*reference).to_owned(), json!(digest))).collect();
        self.write("index.json", serde_json::to_vec_pretty(&json!({ "refs": refs })).unwrap());
    }

    async fn get(&self, reference: &str) -> Result<ResolvedCatalog, ProviderRegistryError> {
        let registry = ProviderRegistry::builder(self.0.path()).client(self.1.offline()).build();
        resolve(&registry, reference).await
    }

    fn path(&self, reference: &str) -> Option<PathBuf> {
        resolve_catalog_path(None, Some(reference), true, false, self.0.path()).ok().flatten()
    }

    fn put(&self, reference: &str, bytes: impl AsRef<[u8]>) -> Result<PathBuf, ProviderRegistryError> {
        let source = self.1.path().join("source.json");
        fs::write(&source, bytes).unwrap();
        cache_registry_file(self.0.path(), reference, &source)
    }
}

fn by_digest(digest: Digest) -> String {
    format!("by-digest/sha256-{}.json", digest.to_hex())
}

/// A registry with an artifact in each of these repositories.
fn registry_of(artifacts: &[(&str, &Artifact)]) -> RunningRegistry {
    let registry = Registry::in_memory();
    for (repository, artifact) in artifacts {
        for blob in artifact.blobs() {
            registry.put_blob(blob.bytes.clone()).unwrap();
        }
        registry.put_manifest(repository, &["latest"], MANIFEST_TYPE, &artifact.manifest_bytes).unwrap();
    }
    registry.start(([127, 0, 0, 1], 0).into()).unwrap()
}

#[tokio::test]
async fn row_75_references_with_one_slug_never_serve_each_other() {
    let (one, other, third) = (artifact(&["one"]), artifact(&["other"]), artifact(&["third"]));
    let registry = registry_of(&[("a-b/c", &one), ("a/b-c", &other), ("a/b/c", &third)]);
    let (home, bundle) = (Home::new(), TempDir::new().unwrap());
    let resolver = ProviderRegistry::builder(bundle.path()).client(home.client());
    let names = ["a-b/c", "a/b-c", "a/b/c"].map(|name| format!("oci://{}/{name}:latest", registry.host()));
    let mut paths = Vec::new();
    for (name, expected) in names.iter().zip(["one", "other", "third"]) {
        let found = resolve(&resolver.clone().build(), name).await.unwrap();
        assert_eq!(ids(&found), [expected]);
        paths.push(found.path);
    }
    for (name, expected) in names.iter().zip(["one", "other", "third"]) {
        assert_eq!(ids(&resolve(&resolver.clone().offline(true).build(), name).await.unwrap()), [expected]);
    }
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 3);
}

#[tokio::test]
async fn a_file_that_was_put_in_is_what_an_offline_resolve_returns() {
    let island = Island::new();
    let path = island.put(REFERENCE, document(&["x"])).unwrap();
    assert_eq!(island.path(REFERENCE), Some(path.clone()));
    let found = island.get(REFERENCE).await.unwrap();
    assert_eq!((ids(&found), found.origin), (vec!["x"], Some(CatalogOrigin::File)));
    assert!(found.manifest_digest.is_none() && found.checked_at.is_none() && found.fetched_at.is_some());
    // Any JSON object or list is taken as it is, and another file replaces it.
    for bytes in [&b"{\"providers\":[]}"[..], b"[]", b"- id: y\n  reference: oci://g.io/y\n"] {
        assert_eq!(island.put(REFERENCE, bytes).unwrap(), path);
        assert_eq!((island.path(REFERENCE), fs::read(&path).unwrap()), (Some(path.clone()), bytes.to_vec()));
    }
    assert_eq!(ids(&island.get(REFERENCE).await.unwrap()), ["y"]);
}

#[tokio::test]
async fn putting_the_copy_onto_itself_changes_nothing() {
    let shop = Shop::new();
    let found = shop.get().await.unwrap();
    let before = TreeSnapshot::of(&shop.cache());
    let by_digest = shop.by_digest(shop.registry.artifact());
    let linked = shop.home.path().join("linked.json");
    fs::hard_link(&found.path, &linked).unwrap();
    for source in [&found.path, &by_digest, &linked] {
        assert_eq!(&cache_registry_file(shop.bundle(), &shop.reference(), source).unwrap(), &found.path);
        before.assert_unchanged(&shop.cache());
    }
    assert_eq!(fs::read(&found.path).unwrap(), document(&["a", "b"]));
    assert_eq!(shop.offline().await.unwrap().origin, Some(CatalogOrigin::Registry));
}

#[tokio::test]
async fn an_empty_file_or_one_that_is_no_catalog_is_neither_taken_in_nor_served() {
    let island = Island::new();
    let path = island.put(REFERENCE, document(&["x"])).unwrap();
    let before = TreeSnapshot::of(&island.cache());
    for bytes in [&b""[..], b" \n", b"null", b"7", b"\"text\"", b"<html>", b"\0asm\x01", b"{\"items\":", b"just words"]
    {
        assert_refused(island.put(REFERENCE, bytes), InvalidInput, 2, &["source.json", "no provider catalog"]);
        before.assert_unchanged(&island.cache());
    }
    assert_refused(cache_registry_file(island.0.path(), REFERENCE, Path::new("/")), InvalidInput, 2, &["regular file"]);
    let missing = cache_registry_file(island.0.path(), REFERENCE, Path::new("/nowhere/x.json"));
    assert_refused(missing, NotFound, 3, &["/nowhere/x.json"]);
    before.assert_unchanged(&island.cache());
    // Emptied behind our back, by-digest copy and all: no copy.
    fs::write(&path, "").unwrap();
    fs::write(island.cache().join(by_digest(Digest::sha256(&document(&["x"])))), "").unwrap();
    assert_refused(island.get(REFERENCE).await, Offline, 4, &["not what was recorded"]);
    // Nor one whose emptiness an index vouches for.
    let island = Island::new();
    island.write_index(&[(REFERENCE, &Digest::sha256(b"").to_string())]);
    island.write(&by_digest(Digest::sha256(b"")), "");
    island.write(EARLIER, "");
    assert_refused(island.get(REFERENCE).await, Offline, 4, &["the document is empty"]);
}

#[tokio::test]
async fn a_catalog_file_never_takes_the_slot_of_what_a_registry_sent() {
    let shop = Shop::new();
    let found = shop.get().await.unwrap();
    let source = shop.home.path().join("mine.json");
    fs::write(&source, document(&["mine"])).unwrap();
    let path = cache_registry_file(shop.bundle(), &shop.reference(), &source).unwrap();
    assert_eq!(path, shop.cache().join(by_digest(Digest::sha256(&document(&["mine"])))));
    assert_eq!(fs::read(&path).unwrap(), document(&["mine"]));
    let offline = shop.offline().await.unwrap();
    assert_eq!((offline.path, ids(&shop.get().await.unwrap())), (found.path, vec!["a", "b"]));
    assert_eq!(shop.index()["refs"][shop.reference()], shop.registry.artifact().manifest_digest.to_string());
}

#[tokio::test]
async fn what_a_registry_sends_takes_the_slot_of_a_file() {
    let shop = Shop::new();
    let source = shop.home.path().join("mine.json");
    fs::write(&source, document(&["mine"])).unwrap();
    cache_registry_file(shop.bundle(), &shop.reference(), &source).unwrap();
    assert_eq!(ids(&shop.get().await.unwrap()), ["mine"]);
    assert!(shop.asked().is_empty());
    let found = shop.refreshed().await.unwrap();
    assert_eq!((ids(&found), found.origin), (vec!["a", "b"], Some(CatalogOrigin::Registry)));
    assert_eq!(shop.asked().len(), 2);
}

#[tokio::test]
async fn a_bundle_takes_over_what_another_one_has_and_believes_what_a_pin_proves() {
    let (shop, island) = (Shop::new(), Island::new());
    let pinned = format!("oci://{}", shop.registry.pinned());
    for reference in [shop.reference(), pinned.clone()] {
        let found = resolve(&shop.builder().build(), &reference).await.unwrap();
        cache_registry_file(island.0.path(), &reference, &found.path).unwrap();
        let taken = island.get(&reference).await.unwrap();
        // Only a pin proves where the file came from.
        let origin = if reference == pinned { CatalogOrigin::Registry } else { CatalogOrigin::File };
        assert_eq!((taken.layer_digest, taken.origin), (found.layer_digest, Some(origin)));
        shop.asked();
        let registry = ProviderRegistry::builder(island.0.path()).client(shop.home.client()).refresh(true).build();
        assert!(!resolve(&registry, &reference).await.unwrap().is_stale);
        assert!(shop.asked().len() <= 1);
    }
}

#[tokio::test]
async fn a_file_for_a_pin_must_be_what_the_pin_names() {
    let (shop, island) = (Shop::new(), Island::new());
    let pinned = format!("oci://{}", shop.registry.pinned());
    let said = ["nothing proves", pinned.as_str()];
    assert_refused(island.put(&pinned, document(&["a", "b"])), Integrity, 8, &said);
    assert!(!island.cache().exists());
    let bytes = document(&["z"]);
    let own = format!("oci://ghcr.io/acme/providers@{}", Digest::sha256(&bytes));
    island.put(&own, &bytes).unwrap();
    assert_eq!(ids(&island.get(&own).await.unwrap()), ["z"]);
}

#[tokio::test]
async fn with_an_index_and_the_copy_by_digest_alone_that_one_is_served() {
    let island = Island::new();
    let bytes = document(&["x"]);
    let digest = Digest::sha256(&bytes);
    island.write_index(&[(REFERENCE, &digest.to_string())]);
    let path = island.write(&by_digest(digest), &bytes);
    assert_eq!(island.path(REFERENCE), Some(path));
}

#[tokio::test]
async fn a_copy_of_an_earlier_version_is_used_only_when_the_index_vouches_for_it() {
    let bytes = document(&["x"]);
    let digest = Digest::sha256(&bytes).to_string();
    // The index names this very reference, and the bytes are those of its digest.
    let island = Island::new();
    island.write_index(&[(REFERENCE, &digest)]);
    let path = island.write(EARLIER, &bytes);
    assert_eq!(island.path(REFERENCE), Some(path));
    // Another reference with the same slug, another digest, none, one that is no digest.
    let manifest = Digest::sha256(b"a manifest").to_string();
    for refs in [
        &[("oci://ghcr.io/acme-providers:latest", digest.as_str())][..],
        &[(REFERENCE, &manifest)],
        &[],
        &[(REFERENCE, "sha256:abc123")],
        &[(REFERENCE, "sha256:../../../etc/passwd")],
    ] {
        let island = Island::new();
        island.write_index(refs);
        island.write(EARLIER, &bytes);
        assert_refused(island.get(REFERENCE).await, Offline, 4, &["no cached copy was found"]);
    }
}

#[tokio::test]
async fn a_copy_of_an_earlier_version_saves_the_download_when_its_bytes_are_the_right_ones() {
    let shop = Shop::new();
    let slug = format!("oci-{}-acme-providers-latest.json", shop.registry.host().replace(['.', ':'], "-"));
    fs::create_dir_all(shop.cache()).unwrap();
    fs::write(shop.cache().join(slug), document(&["a", "b"])).unwrap();
    assert_eq!(ids(&shop.get().await.unwrap()), ["a", "b"]);
    assert_eq!(shop.asked(), ["GET /v2/acme/providers/manifests/latest"]);
}

/// As an earlier version left a catalog that it fetched: named by the digest of a manifest that is nowhere to be found.
fn write_earlier(cache: &Path, reference: &str, manifest: Digest, bytes: &[u8]) -> PathBuf {
    fs::create_dir_all(cache.join("by-digest")).unwrap();
    let index = json!({ "refs": { reference: manifest.to_string() } });
    fs::write(cache.join("index.json"), serde_json::to_vec_pretty(&index).unwrap()).unwrap();
    let path = cache.join(by_digest(manifest));
    fs::write(&path, bytes).unwrap();
    path
}

#[tokio::test]
async fn what_an_earlier_version_fetched_opens_offline_by_the_word_of_its_index_and_says_so() {
    let island = Island::new();
    let manifest = Digest::sha256(b"a manifest");
    let path = write_earlier(&island.cache(), REFERENCE, manifest, &document(&["x"]));
    let before = TreeSnapshot::of(&island.cache());
    assert_eq!(island.path(REFERENCE), Some(path.clone()));
    let found = island.get(REFERENCE).await.unwrap();
    assert_eq!((ids(&found), found.is_vouched, found.is_stale), (vec!["x"], true, false));
    assert_eq!((found.manifest_digest, found.origin), (Some(manifest.to_string()), None));
    assert_eq!(found.layer_digest, Some(Digest::sha256(&document(&["x"])).to_string()));
    assert!(found.age.is_none() && found.checked_at.is_none() && found.refresh_failure.is_none());
    let registry = ProviderRegistry::builder(island.0.path()).client(island.1.offline()).refresh(true).build();
    let found = resolve(&registry, REFERENCE).await.unwrap();
    assert!(found.is_vouched && found.is_stale && found.refresh_failure.unwrap().kind == Offline);
    before.assert_unchanged(&island.cache());
    // The copy by reference may be another reference's: it plays no part, whatever it holds.
    for bytes in [&document(&["x"])[..], &document(&["other"]), b"", b"half"] {
        island.write(EARLIER, bytes);
        assert_eq!(island.path(REFERENCE), Some(path.clone()));
    }
    // What was put in afterwards is proven, and comes before it.
    island.put(REFERENCE, document(&["mine"])).unwrap();
    let found = island.get(REFERENCE).await.unwrap();
    assert_eq!((ids(&found), found.is_vouched), (vec!["mine"], false));
}

#[tokio::test]
async fn without_the_word_of_its_index_what_an_earlier_version_fetched_is_not_used() {
    let (manifest, bytes) = (Digest::sha256(b"a manifest"), document(&["x"]));
    let pinned = format!("oci://ghcr.io/acme/providers@{manifest}");
    let refused = async |island: &Island, reference: &str| {
        assert_refused(island.get(reference).await, Offline, 4, &["no cached copy was found"])
    };
    // Another reference, also one with the same slug; another digest; no index, half of one.
    let island = Island::new();
    write_earlier(&island.cache(), "oci://ghcr.io/acme-providers:latest", manifest, &bytes);
    island.write(EARLIER, &bytes);
    refused(&island, REFERENCE).await;
    island.write_index(&[(REFERENCE, &Digest::sha256(b"another").to_string())]);
    refused(&island, REFERENCE).await;
    for torn in [&b""[..], b"{\"refs\":{\"", b"[]"] {
        island.write("index.json", torn);
        refused(&island, REFERENCE).await;
    }
    // A pin says which bytes, and these may be any.
    let island = Island::new();
    write_earlier(&island.cache(), &pinned, manifest, &bytes);
    assert!(refused(&island, &pinned).await.contains("kept no digest of its content"));
    let capitals = pinned.replace(&manifest.to_hex(), &manifest.to_hex().to_uppercase());
    island.write_index(&[(&capitals, &manifest.to_string())]);
    refused(&island, &capitals).await;
    // What is no catalog.
    for bytes in [&b""[..], b"<html>", b"{\"items\":", b"null", b"\0asm"] {
        let island = Island::new();
        write_earlier(&island.cache(), REFERENCE, manifest, bytes);
        refused(&island, REFERENCE).await;
    }
    // Where there is a record of ours, or an entry of another version, that one counts.
    let island = Island::new();
    island.put(REFERENCE, document(&["mine"])).unwrap();
    for dir in ["", "by-digest"] {
        for entry in fs::read_dir(island.cache().join(dir)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::remove_file(path).unwrap();
            }
        }
    }
    write_earlier(&island.cache(), REFERENCE, manifest, &bytes);
    refused(&island, REFERENCE).await;
    let island = Island::new();
    write_earlier(&island.cache(), REFERENCE, manifest, &bytes);
    let index =
        json!({ "refs": { REFERENCE: manifest.to_string() }, "entries": { REFERENCE: { "format_version": 9 } } });
    island.write("index.json", index.to_string());
    refused(&island, REFERENCE).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_in_the_place_of_what_an_earlier_version_fetched_is_not_followed() {
    let island = Island::new();
    let path = write_earlier(&island.cache(), REFERENCE, Digest::sha256(b"a manifest"), b"[]");
    let outside = island.1.path().join("catalog.json");
    fs::write(&outside, document(&["evil"])).unwrap();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&outside, &path).unwrap();
    assert_refused(island.get(REFERENCE).await, Offline, 4, &["symbolic link"]);
}

#[tokio::test]
async fn while_online_the_registry_proves_what_an_earlier_version_fetched_with_one_request() {
    let shop = Shop::new();
    let published = shop.registry.artifact().clone();
    let path = write_earlier(&shop.cache(), &shop.reference(), published.manifest_digest, published.layer_bytes());
    let found = shop.get().await.unwrap();
    assert_eq!((ids(&found), found.is_vouched), (vec!["a", "b"], false));
    assert_eq!(shop.asked(), ["GET /v2/acme/providers/manifests/latest"], "the bytes are here");
    let offline = shop.offline().await.unwrap();
    assert_eq!((offline.is_vouched, offline.manifest_digest), (false, Some(published.manifest_digest.to_string())));
    assert_eq!(fs::read(path).unwrap(), published.layer_bytes());

    // Bytes that are not what the manifest names are fetched, and take the place of what was there.
    let shop = Shop::new();
    let path = write_earlier(&shop.cache(), &shop.reference(), published.manifest_digest, &document(&["forged"]));
    assert_eq!(ids(&shop.get().await.unwrap()), ["a", "b"]);
    assert_eq!((shop.asked().len(), fs::read(path).unwrap()), (2, published.layer_bytes().to_vec()));
}

#[tokio::test]
async fn when_the_registry_fails_what_an_earlier_version_fetched_is_used_and_the_cause_told() {
    let shop = Shop::new();
    let path = write_earlier(&shop.cache(), &shop.reference(), Digest::sha256(b"a manifest"), &document(&["old"]));
    shop.registry.lie(Lie::status(Part::All, 500));
    for found in [shop.get().await.unwrap(), shop.refreshed().await.unwrap()] {
        assert_eq!((&found.path, ids(&found), found.is_vouched, found.is_stale), (&path, vec!["old"], true, true));
        let failure = found.refresh_failure.unwrap();
        assert!(failure.kind == Temporary && failure.message.contains("500"), "{failure:?}");
    }
    shop.registry.be_honest();
    assert!(!shop.get().await.unwrap().is_vouched);
}

/// The names of the copies by digest.
fn copies_by_digest(cache: &Path) -> Vec<String> {
    let names = TreeSnapshot::of(&cache.join("by-digest"));
    names.files().into_iter().map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn copies_by_digest_that_nothing_names_go_but_for_the_last_ones() {
    let shop = Shop::new();
    // Named by the index of an earlier version, by a pin, and current: all older than what comes.
    let theirs = write_earlier(&shop.cache(), "oci://ghcr.io/acme/other:1", Digest::sha256(b"other"), b"[]");
    let pinned = format!("oci://{}", shop.registry.pinned());
    resolve(&shop.builder().build(), &pinned).await.unwrap();
    let first = shop.publish(&["first"]);
    let found = shop.get().await.unwrap();
    let mut open = fs::File::open(shop.by_digest(&first)).unwrap();
    let foreign = shop.cache().join("by-digest/notes.json");
    fs::write(&foreign, "theirs").unwrap();
    let mut newest = Vec::new();
    for number in 0..20 {
        newest.push(shop.publish(&[&format!("n{number}")]));
        let moved = shop.refreshed().await.unwrap();
        assert_eq!((moved.path.as_path(), ids(&moved)), (found.path.as_path(), vec![&*format!("n{number}")]));
        // Whoever was told the path of what was current until now still finds it.
        let before = newest.iter().rev().nth(1).unwrap_or(&first);
        assert!(shop.by_digest(before).exists(), "{number}");
    }
    // Three that are named, sixteen that were, and one that is not ours.
    assert_eq!(copies_by_digest(&shop.cache()).len(), 20);
    assert!(theirs.exists() && foreign.exists() && shop.by_digest(shop.registry.artifact()).exists());
    let left: Vec<bool> = newest.iter().map(|artifact| shop.by_digest(artifact).exists()).collect();
    assert_eq!(left.iter().filter(|left| !**left).count(), 3, "{left:?}");
    assert!(left.is_sorted(), "the oldest went: {left:?}");
    // Gone by its name, and whole for whoever had it open.
    assert!(!shop.by_digest(&first).exists());
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, document(&["first"]));
    for reference in [shop.reference(), pinned] {
        let offline = shop.builder().offline(true).build();
        assert!(!resolve(&offline, &reference).await.unwrap().is_stale);
    }
}

#[tokio::test]
async fn row_76_a_digest_in_an_index_never_becomes_another_path() {
    let island = Island::new();
    let outside = island.0.path().join("evil.json");
    fs::write(&outside, document(&["evil"])).unwrap();
    for digest in ["sha256:../../../../evil", "../../../../../evil", "sha256:", "", "/etc/passwd", "sha256:abc123"] {
        island.write_index(&[(REFERENCE, digest)]);
        island.write("by-digest/sha256-abc123.json", document(&["evil"]));
        island.write("by-digest/sha256-evil.json", document(&["evil"]));
        assert_refused(island.get(REFERENCE).await, Offline, 4, &["no cached copy"]);
    }
}

#[tokio::test]
async fn a_copy_that_was_changed_is_not_served_offline_and_heals_online() {
    let shop = Shop::new();
    let found = shop.get().await.unwrap();
    let by_digest = shop.by_digest(shop.registry.artifact());
    fs::write(&found.path, document(&["forged"])).unwrap();
    // The copy by digest is whole still.
    assert_eq!(shop.offline().await.unwrap().path, by_digest);
    fs::write(&by_digest, "{}").unwrap();
    let said = ["is unavailable", found.path.to_str().unwrap(), "not what was recorded"];
    assert_refused(shop.offline().await, Offline, 4, &said);
    shop.asked();
    assert_eq!(ids(&shop.get().await.unwrap()), ["a", "b"]);
    // There is nothing that could be the answer to "not modified".
    assert_eq!(shop.asked().len(), 2);
    for path in [&found.path, &by_digest] {
        assert_eq!(fs::read(path).unwrap(), document(&["a", "b"]));
    }
}

#[tokio::test]
async fn a_refresh_with_a_changed_copy_asks_for_everything_again() {
    let shop = Shop::new();
    let found = shop.get().await.unwrap();
    for path in [&found.path, &shop.by_digest(shop.registry.artifact())] {
        fs::write(path, document(&["forged"])).unwrap();
    }
    shop.asked();
    assert_eq!(ids(&shop.refreshed().await.unwrap()), ["a", "b"]);
    assert_eq!(shop.asked().len(), 2);
}

#[tokio::test]
async fn row_76_a_torn_or_lost_index_is_written_anew_and_stands_in_the_way_of_nothing() {
    let shop = Shop::new();
    let other = format!("oci://{}", shop.registry.pinned());
    resolve(&shop.builder().build(), &other).await.unwrap();
    let found = shop.get().await.unwrap();
    let whole = fs::read(shop.cache().join("index.json")).unwrap();
    let half = &whole[..whole.len() / 2];
    for torn in [Some(&b""[..]), Some(half), Some(b"[]"), Some(b"\0\0\0"), Some(b"{\"refs\": 7}"), None] {
        for refresh in [false, true] {
            match torn {
                Some(torn) => fs::write(shop.cache().join("index.json"), torn).unwrap(),
                None => fs::remove_file(shop.cache().join("index.json")).unwrap(),
            }
            let again = if refresh { shop.refreshed().await } else { shop.offline().await }.unwrap();
            assert!(!again.is_stale && again.manifest_digest == found.manifest_digest);
            let index = shop.index();
            for reference in [shop.reference(), other.clone()] {
                assert_eq!(index["refs"][&reference], found.manifest_digest.clone().unwrap(), "{torn:?}");
                assert_eq!(index["entries"][&reference]["reference"], reference);
            }
        }
    }
    // A directory cannot be written anew, and stands in no way either.
    fs::remove_file(shop.cache().join("index.json")).unwrap();
    fs::create_dir(shop.cache().join("index.json")).unwrap();
    assert_eq!(ids(&shop.offline().await.unwrap()), ["a", "b"]);
    assert_eq!(ids(&shop.refreshed().await.unwrap()), ["a", "b"]);
}

#[tokio::test]
async fn lost_records_are_made_up_for_by_the_index_and_lost_both_by_the_registry() {
    let shop = Shop::new();
    let found = shop.get().await.unwrap();
    fs::remove_dir_all(shop.cache().join("records")).unwrap();
    assert_eq!(shop.offline().await.unwrap().path, found.path);
    fs::remove_file(shop.cache().join("index.json")).unwrap();
    assert_refused(shop.offline().await, Offline, 4, &["no digest is known for it"]);
    shop.asked();
    // The bytes are there: only the manifest is asked for.
    assert_eq!(shop.get().await.unwrap().path, found.path);
    assert_eq!(shop.asked(), ["GET /v2/acme/providers/manifests/latest"]);
}

#[tokio::test]
async fn records_of_another_version_or_reference_are_not_believed() {
    let shop = Shop::new();
    let found = shop.get().await.unwrap();
    let record = fs::read_dir(shop.cache().join("records")).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&record).unwrap();
    fs::remove_file(shop.cache().join("index.json")).unwrap();
    for torn in [
        text.replace("\"format_version\": 1", "\"format_version\": 2"),
        text.replace(&shop.reference(), "oci://ghcr.io/other/catalog:1"),
        text[..text.len() / 2].to_owned(),
        String::new(),
    ] {
        fs::write(&record, torn).unwrap();
        assert_refused(shop.offline().await, Offline, 4, &[found.path.to_str().unwrap()]);
        drop(fs::remove_file(shop.cache().join("index.json")));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn links_lead_nowhere_out_of_the_cache() {
    use std::os::unix::fs::symlink;
    let shop = Shop::new();
    let found = shop.get().await.unwrap();
    let outside = shop.home.path().join("elsewhere");
    fs::create_dir(&outside).unwrap();
    // The right bytes, by a link: still not ours.
    let target = outside.join("catalog.json");
    fs::rename(&found.path, &target).unwrap();
    symlink(&target, &found.path).unwrap();
    let by_digest = shop.by_digest(shop.registry.artifact());
    assert_eq!(shop.offline().await.unwrap().path, by_digest);
    // Nor through a directory that is a link.
    fs::rename(by_digest.parent().unwrap(), outside.join("by-digest")).unwrap();
    symlink(outside.join("by-digest"), by_digest.parent().unwrap()).unwrap();
    let before = TreeSnapshot::of(&outside);
    assert_refused(shop.offline().await, Offline, 4, &["symbolic link"]);
    // And nothing is written through them.
    shop.publish(&["new"]);
    assert_refused(
        shop.get().await,
        greentic_distributor_client::dist::DistErrorKind::Internal,
        10,
        &["symbolic link"],
    );
    before.assert_unchanged(&outside);
    fs::remove_file(by_digest.parent().unwrap()).unwrap();
    assert_eq!(ids(&shop.get().await.unwrap()), ["new"]);
    assert!(!found.path.is_symlink());
    before.assert_unchanged(&outside);
}

#[tokio::test]
async fn a_catalog_that_cannot_be_put_in_all_of_its_places_is_the_current_one_and_heals() {
    let shop = Shop::new();
    let found = shop.get().await.unwrap();
    fs::remove_file(&found.path).unwrap();
    fs::create_dir(&found.path).unwrap();
    let new = shop.publish(&["new"]);
    let updated = shop.refreshed().await.unwrap();
    assert_eq!((ids(&updated), &updated.path), (vec!["new"], &shop.by_digest(&new)));
    assert_eq!(ids(&shop.offline().await.unwrap()), ["new"]);
    // The way is free again, and the next refresh or look while online fills it.
    for refresh in [true, false] {
        fs::remove_dir(&found.path).or_else(|_| fs::write(&found.path, document(&["forged"]))).unwrap();
        let again = if refresh { shop.refreshed().await } else { shop.get().await }.unwrap();
        assert!(ids(&again) == ["new"] && !again.is_stale);
        assert_eq!(fs::read(&found.path).unwrap(), document(&["new"]));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_cache_that_everybody_may_write_to_or_that_is_linked_elsewhere_is_not_used() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let internal = greentic_distributor_client::dist::DistErrorKind::Internal;
    for name in [".greentic", ".greentic/cache", ".greentic/cache/provider-registry"] {
        let shop = Shop::new();
        shop.get().await.unwrap();
        let dir = shop.bundle().join(name);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert_refused(shop.get().await, internal, 10, &["everybody may write to"]);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o775)).unwrap();
        assert_eq!(ids(&shop.get().await.unwrap()), ["a", "b"]);
        let elsewhere = shop.home.path().join("elsewhere");
        fs::rename(&dir, &elsewhere).unwrap();
        symlink(&elsewhere, &dir).unwrap();
        let before = TreeSnapshot::of(&elsewhere);
        assert_refused(shop.get().await, internal, 10, &["symbolic link"]);
        before.assert_unchanged(&elsewhere);
    }
}

#[tokio::test]
async fn what_killed_writers_left_goes_with_the_next_write() {
    let shop = Shop::new();
    shop.get().await.unwrap();
    let left = ["", "by-digest", "records"].map(|dir| shop.cache().join(dir).join(".x.json.0123456789abcdef.tmp"));
    for path in &left {
        fs::write(path, "half").unwrap();
    }
    shop.publish(&["new"]);
    shop.refreshed().await.unwrap();
    assert!(left.iter().all(|path| !path.exists()));
}

#[tokio::test]
async fn a_document_that_this_client_cannot_read_is_served_and_says_so() {
    let shop = Shop::with(greentic_dist_testkit::scenario::Scenario::new(greentic_dist_testkit::fixture::artifact(
        "application/json",
        br#"{"registry_version":"providers@9","items":[]}"#.to_vec(),
    )));
    let found = shop.get().await.unwrap();
    assert!(found.path.is_file() && found.item_count().is_none() && found.ids().next().is_none());
    let error = found.catalog().unwrap_err().to_string();
    assert!(error.contains("providers@9") && error.contains("providers@1"), "{error}");
}
