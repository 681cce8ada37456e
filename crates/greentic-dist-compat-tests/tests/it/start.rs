//! `greentic-start`: the packs of a deployment, each with its media type.
//!
//! Features: `pack-fetch` without the default ones.

use greentic_dist_compat_tests::{Machine, bytes_at, serve, short_lived};
use greentic_dist_testkit::fixture;
use greentic_distributor_client::oci_packs::{DefaultRegistryClient, OciPackFetcher, PackFetchOptions};

#[test]
fn the_path_digest_and_media_type_of_a_pack_are_moved_out_of_what_was_fetched() {
    for media_type in
        ["application/vnd.greentic.gtpack.v1+zip", "application/vnd.oci.image.layer.v1.tar+gzip", "application/json"]
    {
        let pack = fixture::artifact(media_type, fixture::random_bytes(5, 9_000));
        let registry = serve(&[("acme/start:1", &pack)]);
        let machine = Machine::new();
        let opts = PackFetchOptions {
            allow_tags: true,
            offline: false,
            cache_dir: machine.cache(),
            ..PackFetchOptions::default()
        };
        let fetcher = OciPackFetcher::<DefaultRegistryClient>::new(opts);
        let reference = format!("{}/acme/start:1", registry.host());
        let fetched = short_lived(fetcher.fetch_pack_to_cache(&reference)).unwrap();
        let (path, digest, found) = (fetched.path, fetched.resolved_digest, fetched.media_type);
        assert_eq!((digest, found.as_str()), (pack.manifest_digest.to_string(), media_type));
        assert_eq!(bytes_at(path), pack.layer_bytes());
    }
}
