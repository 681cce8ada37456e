use greentic_dist_testkit::conformance::{Outcome, Workflow, checks, deviating, run};
use greentic_dist_testkit::real::{DockerRegistry, ready};
use greentic_dist_testkit::serve::Registry;

/// Where docker-registry 2.8.2 differs, and how. Some of it the specification allows.
const DOCKER_REGISTRY: &[(&str, &str)] = &[
    ("a_part_beyond_the_end_is_416", "the answer announces the length of the whole blob and has 33 bytes"),
    ("a_sha512_blob_is_read_by_its_own_digest", "it is found, and called by its sha256"),
    ("a_blob_is_pushed_by_one_post", "202 and a session: allowed"),
    ("a_chunk_out_of_order_is_416", "202: it is taken, in any order"),
    ("an_unknown_upload_is_404", "another error code"),
    ("the_digest_algorithm_of_an_upload_can_be_named", "newer than it; the blob is called by its sha256"),
    ("a_manifest_is_pushed_under_several_tags_at_once", "newer than it; the parameters are ignored"),
    ("a_manifest_is_pushed_by_its_sha512_digest", "sha256 only"),
    ("a_layer_that_is_kept_elsewhere_need_not_be_there", "500"),
    ("tags_are_listed_in_lexical_order", "in no order"),
    ("a_page_of_tags_has_as_many_as_asked_for", "`n` is ignored"),
    ("a_page_of_tags_begins_after_the_last_one", "`last` is ignored"),
    ("a_page_of_no_tags_is_empty", "`n` is ignored"),
    ("an_accepted_subject_is_told", "no referrers API"),
    ("a_subject_need_not_be_there", "no referrers API"),
    ("nobody_refers_to_it_is_an_empty_index", "no referrers API"),
    ("referrers_are_listed_with_type_and_annotations", "no referrers API"),
    ("referrers_are_filtered_by_type", "no referrers API"),
    ("an_index_may_refer_to_a_manifest", "no referrers API"),
    ("a_deleted_referrer_is_not_listed", "no referrers API"),
    ("a_tag_is_deleted_and_its_manifest_stays", "400: allowed"),
];

#[test]
fn the_registry_of_this_project_passes_every_check_in_memory_and_over_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    for registry in [Registry::in_memory(), Registry::over_dir(dir.path()).unwrap()] {
        let running = registry.start(([127, 0, 0, 1], 0).into()).unwrap();
        let outcomes = run(running.addr());
        assert_eq!(deviating(&outcomes, &[]), Vec::<String>::new());
        assert_eq!(outcomes.len(), checks().len());
        running.stop();
    }
}

#[test]
fn docker_registry_deviates_exactly_where_it_is_known_to() {
    if !ready("docker_registry_deviates_exactly_where_it_is_known_to", &["docker-registry"]) {
        return;
    }
    let registry = DockerRegistry::open();
    assert_eq!(deviating(&run(registry.addr()), DOCKER_REGISTRY), Vec::<String>::new());
}

#[test]
fn a_deviation_that_is_gone_and_one_nobody_listed_are_told() {
    let outcome =
        |name, problem: Option<&str>| Outcome { name, workflow: Workflow::Pull, problem: problem.map(str::to_owned) };
    let outcomes = [outcome("a", None), outcome("b", Some("broken")), outcome("c", Some("known"))];
    let listed = [("a", "once"), ("c", "for long"), ("d", "what?")];
    assert_eq!(
        deviating(&outcomes, &listed),
        [
            "a: passes, and is listed as deviating (once)",
            "b: broken",
            "d: listed as deviating, and no check has that name",
        ]
    );
}

#[test]
fn no_two_checks_have_one_name() {
    let mut names: Vec<&str> = checks().iter().map(|check| check.name).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    assert!(all >= 60, "{all}");
}
