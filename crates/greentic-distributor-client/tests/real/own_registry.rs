//! The project's own registry takes what skopeo pushes.

use greentic_dist_serve::Registry;
use greentic_dist_testkit::fixture::{self, WASM_TYPE};
use greentic_dist_testkit::real::{ready, skopeo_digest, skopeo_push_artifacts};

use crate::machine::Machine;
use crate::{blob_line, pin_in, tag_in};

#[test]
fn what_skopeo_pushes_to_our_registry_is_pulled_byte_for_byte() {
    if !ready("what_skopeo_pushes_to_our_registry_is_pulled_byte_for_byte", &["skopeo"]) {
        return;
    }
    let content = tempfile::tempdir().unwrap();
    for registry in [Registry::in_memory(), Registry::over_dir(content.path()).unwrap()] {
        let running = registry.start(([127, 0, 0, 1], 0).into()).unwrap();
        let (small, large) = (fixture::component(), fixture::artifact(WASM_TYPE, fixture::random_bytes(3, 3 << 20)));
        for artifact in [small, large] {
            let (tag, pin) = (tag_in(&running.host()), pin_in(&running.host(), &artifact));
            skopeo_push_artifacts(std::slice::from_ref(&artifact), &tag, None);
            assert_eq!(skopeo_digest(&tag), artifact.manifest_digest);
            let machine = Machine::new();
            let already = running.journal().len();
            assert!(machine.pull(&tag) == artifact.layer_bytes());
            let asked: Vec<String> = running.journal()[already..]
                .iter()
                .map(|request| format!("{} {}", request.line(), request.status))
                .collect();
            assert_eq!(asked, ["GET /v2/acme/hello/manifests/1 200", &blob_line(&artifact, 200)]);
            assert!(Machine::new().pull(&pin) == artifact.layer_bytes());
        }
        running.stop();
    }
}
