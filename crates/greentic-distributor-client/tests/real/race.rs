//! Several processes want the same thing at once.

use greentic_dist_testkit::Proxy;
use greentic_dist_testkit::fixture::{self, WASM_TYPE};
use greentic_dist_testkit::process::{Outcome, Spawned};
use greentic_dist_testkit::real::{LoggedRequest, ready};

use crate::machine::{Machine, names};
use crate::{registry_with, tag_in};

#[test]
fn eight_processes_pulling_one_tag_at_once_leave_one_entry_and_fetch_the_blob_once() {
    let name = "eight_processes_pulling_one_tag_at_once_leave_one_entry_and_fetch_the_blob_once";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::artifact(WASM_TYPE, fixture::random_bytes(8, 6 << 20));
    let registry = registry_with(&artifact);
    // Slow enough that everybody is there before the first one is done.
    let proxy = Proxy::start(registry.addr());
    proxy.set_rate(Some(6 << 20));
    let machine = Machine::new();
    let command = machine.command(["pull", &tag_in(&proxy.host())]);
    let already = registry.requests().len();

    let running: Vec<Spawned> = (0..8).map(|_| command.spawn()).collect();
    let outcomes: Vec<Outcome> = running.into_iter().map(Spawned::wait).collect();
    for outcome in &outcomes {
        assert_eq!(outcome.expect_code(0).line(), machine.path_of(&artifact).to_str().unwrap());
    }
    assert_eq!(machine.entries(), [artifact.manifest_digest.to_hex()]);
    machine.assert_entries_prove_themselves();
    for dir in ["partial", "tmp"] {
        assert_eq!(names(&machine.cache().join(dir)), [""; 0], "{dir}");
    }

    let asked = registry.requests_after(already, 9);
    let blobs: Vec<&LoggedRequest> = asked.iter().filter(|request| request.is_blob_get()).collect();
    assert_eq!(blobs.len(), 1, "{asked:?}");
    assert_eq!((blobs[0].status, blobs[0].bytes), (200, 6 << 20));
    assert_eq!(asked.len(), 9, "eight looks at the tag and one blob: {asked:?}");
}
