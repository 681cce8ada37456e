//! The directory as a source: bytes by id and version, and every refusal as what a chain does with it.

use std::fs;

use greentic_distributor_client::{
    ChainedDistributorSource, ComponentId, DistributorError, DistributorSource, PackId, Version,
};
use greentic_distributor_dev::{DevConfig, DevDistributorSource, DevLayout};
use tempfile::TempDir;

struct Tree {
    dir: TempDir,
    source: DevDistributorSource,
}

impl Tree {
    fn new(layout: DevLayout) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root_dir = dir.path().join("dev");
        fs::create_dir_all(&root_dir).unwrap();
        let source = DevDistributorSource::new(DevConfig { root_dir, layout, ..DevConfig::default() });
        Self { dir, source }
    }

    fn file(&self, path: &str, bytes: &[u8]) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn pack(&self, id: &str, version: &str) -> Result<Vec<u8>, DistributorError> {
        // The inner field is public, and a host may have built the id without the check.
        self.source.fetch_pack(&PackId(id.to_owned()), &Version::parse(version).unwrap())
    }

    fn component(&self, id: &str, version: &str) -> Result<Vec<u8>, DistributorError> {
        self.source.fetch_component(&ComponentId(id.to_owned()), &Version::parse(version).unwrap())
    }
}

/// The reason of a refusal that a chain does not skip.
#[track_caller]
fn reason(result: Result<Vec<u8>, DistributorError>) -> String {
    match result.unwrap_err() {
        DistributorError::Other(text) => text,
        other => panic!("no refusal: {other:?}"),
    }
}

#[test]
fn both_layouts_hand_out_the_bytes_of_packs_and_components() {
    let flat = Tree::new(DevLayout::Flat);
    flat.file("dev/packs/kit-1.2.0-rc.1+b5.gtpack", b"pack");
    flat.file("dev/components/part-1.0.0.wasm", b"component");
    assert_eq!(flat.pack("kit", "1.2.0-rc.1+b5").unwrap(), b"pack");
    assert_eq!(flat.component("part", "1.0.0").unwrap(), b"component");
    let nested = Tree::new(DevLayout::ByIdAndVersion);
    nested.file("dev/packs/kit/1.0.0/pack.gtpack", b"pack");
    nested.file("dev/components/part/1.0.0/component.wasm", b"");
    assert_eq!(nested.pack("kit", "1.0.0").unwrap(), b"pack");
    assert_eq!(nested.component("part", "1.0.0").unwrap(), b"");
}

#[test]
fn what_is_not_there_lets_a_chain_go_on() {
    let (empty, full) = (Tree::new(DevLayout::Flat), Tree::new(DevLayout::Flat));
    full.file("dev/packs/kit-1.0.0.gtpack", b"pack");
    assert!(matches!(empty.pack("kit", "1.0.0"), Err(DistributorError::NotFound)));
    assert!(matches!(full.pack("kit", "1.0.1"), Err(DistributorError::NotFound)));
    let chain = ChainedDistributorSource::new(vec![Box::new(empty.source.clone()), Box::new(full.source.clone())]);
    assert_eq!(chain.fetch_pack(&PackId::new("kit").unwrap(), &Version::new(1, 0, 0)).unwrap(), b"pack");
}

#[test]
fn ids_of_dots_and_separators_stop_a_chain_with_the_reason() {
    for layout in [DevLayout::Flat, DevLayout::ByIdAndVersion] {
        let tree = Tree::new(layout);
        tree.file("secret/1.0.0/pack.gtpack", b"secret");
        tree.file("1.0.0/component.wasm", b"secret");
        for id in ["..", ".", "...", "../secret", "a/b", "a\\b", "/etc", "", "a\0b"] {
            assert!(reason(tree.pack(id, "1.0.0")).contains("this id is refused"), "{id:?}");
            assert!(reason(tree.component(id, "1.0.0")).contains("this id is refused"), "{id:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_out_of_the_root_is_refused() {
    let tree = Tree::new(DevLayout::Flat);
    tree.file("secret", b"secret");
    fs::create_dir_all(tree.dir.path().join("dev/packs")).unwrap();
    std::os::unix::fs::symlink("../../secret", tree.dir.path().join("dev/packs/kit-1.0.0.gtpack")).unwrap();
    assert!(reason(tree.pack("kit", "1.0.0")).contains("leads out of the root"));
}

#[test]
fn a_directory_in_place_of_a_file_is_said_to_be_one() {
    let tree = Tree::new(DevLayout::Flat);
    fs::create_dir_all(tree.dir.path().join("dev/packs/kit-1.0.0.gtpack")).unwrap();
    assert!(reason(tree.pack("kit", "1.0.0")).contains("is a directory"));
}

#[test]
fn a_flat_name_that_can_mean_two_artifacts_is_reported() {
    let tree = Tree::new(DevLayout::Flat);
    tree.file("dev/packs/foo-1.0.0-2.0.0.gtpack", b"which?");
    for (id, version, other) in [("foo", "1.0.0-2.0.0", "`foo-1.0.0`"), ("foo-1.0.0", "2.0.0", "`foo`")] {
        let text = reason(tree.pack(id, version));
        assert!(text.contains("may as well be") && text.contains(other), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn what_the_system_refuses_to_look_at_is_an_io_error_that_names_the_artifact() {
    let tree = Tree::new(DevLayout::Flat);
    fs::create_dir_all(tree.dir.path().join("dev/packs")).unwrap();
    let place = tree.dir.path().join("dev/packs/kit-1.0.0.gtpack");
    std::os::unix::fs::symlink(&place, &place).unwrap();
    match tree.pack("kit", "1.0.0") {
        Err(DistributorError::Io(error)) => assert!(error.to_string().contains("`kit`"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[cfg(target_os = "linux")]
#[test]
fn row_81_a_file_exchanged_for_a_link_that_leads_out_hands_out_nothing_from_there() {
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{CWD, RenameFlags, renameat_with};

    let tree = Tree::new(DevLayout::Flat);
    tree.file("secret", b"secret");
    tree.file("dev/packs/kit-1.0.0.gtpack", b"pack");
    let packs = tree.dir.path().join("dev/packs");
    std::os::unix::fs::symlink("../../secret", packs.join("link")).unwrap();
    let (place, link, over) = (packs.join("kit-1.0.0.gtpack"), packs.join("link"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &place, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let outcomes: Vec<_> = (0..20_000).map(|_| tree.pack("kit", "1.0.0")).collect();
        over.store(true, Ordering::Relaxed);
        assert!(outcomes.iter().flatten().all(|bytes| bytes == b"pack"));
    });
}
