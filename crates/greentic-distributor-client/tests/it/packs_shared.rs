//! One content, one copy: caches of the two kinds in one directory, and beside each other.

use std::fs;

use greentic_dist_testkit::fixture::{self, Artifact, Blob, artifact_of};
use greentic_dist_testkit::scenario::Scenario;

use crate::packs::{GTPACK, fetcher, options};
use crate::support::{Home, assert_delivers};

fn pack(seed: u64) -> Artifact {
    artifact_of(vec![Blob::new(GTPACK, fixture::random_bytes(seed, 70_000))], &[])
}

#[tokio::test]
async fn in_one_directory_a_pack_is_one_entry_whoever_brought_it() {
    for fetcher_first in [true, false] {
        let (home, registry) = (Home::new(), Scenario::new(pack(1)).start());
        let fetcher = fetcher(&home, options(&home));
        let dir = home.entry(registry.artifact().manifest_digest);
        if fetcher_first {
            fetcher.fetch_pack_to_cache(&registry.reference()).await.unwrap();
        }
        let pulled = home.client().resolve_ref(&registry.reference()).await.unwrap();
        assert_delivers(&pulled, registry.artifact());
        assert_eq!(pulled.local_path.parent().unwrap(), dir);
        for _ in 0..2 {
            let found = fetcher.fetch_pack_to_cache(&registry.pinned()).await.unwrap();
            assert_eq!(found.path, dir.join("pack.gtpack"));
            assert_eq!(fs::read(&found.path).unwrap(), registry.artifact().layer_bytes());
            assert!(!found.fetched_from_network);
        }
        assert_eq!(registry.journal().count_containing("/blobs/"), 1);
        // It is part of the cache like any other: listed, verified, kept by collection, removed as a whole.
        let (client, pulled_digests) = (home.client(), std::slice::from_ref(&pulled.digest));
        assert_eq!(client.list_cache(), pulled_digests);
        client.verify_cached(&pulled.digest).unwrap();
        assert!(client.gc().unwrap().is_empty());
        assert!(client.verify_cache(&[], false).unwrap().damaged.is_empty());
        assert_eq!(client.cache_sizes().unwrap().artifact_bytes, 70_000);
        client.remove_cached(pulled_digests).unwrap();
        assert!(!dir.exists());
    }
}

#[tokio::test]
async fn damage_behind_the_second_name_is_found_out_too() {
    let (home, registry) = (Home::new(), Scenario::new(pack(2)).start());
    let pulled = home.client().resolve_ref(&registry.reference()).await.unwrap();
    let fetcher = fetcher(&home, options(&home));
    let found = fetcher.fetch_pack_to_cache(&registry.pinned()).await.unwrap();
    fs::remove_file(&pulled.local_path).unwrap();
    fs::write(&pulled.local_path, "evil").unwrap();
    let healed = fetcher.fetch_pack_to_cache(&registry.pinned()).await.unwrap();
    assert!(healed.fetched_from_network);
    assert_eq!(fs::read(&found.path).unwrap(), registry.artifact().layer_bytes());
}
