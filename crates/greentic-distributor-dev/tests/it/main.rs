//! The development directory on real trees.
#![allow(clippy::unwrap_used, clippy::panic)]

mod source;

use std::{fs, path::Path};

use greentic_distributor_dev::{DevConfig, DevDirectory, DevLayout, DevSourceError, DevSourceErrorKind};
use tempfile::TempDir;

struct Tree {
    dir: TempDir,
    directory: DevDirectory,
}

impl Tree {
    fn new(layout: DevLayout) -> Self {
        Self::with(|config| config.layout = layout)
    }

    /// The root is `dev` inside the temporary directory, so that there is an outside to escape to.
    fn with(change: impl FnOnce(&mut DevConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root_dir = dir.path().join("dev");
        fs::create_dir_all(&root_dir).unwrap();
        let mut config = DevConfig { root_dir, ..DevConfig::default() };
        change(&mut config);
        Self { dir, directory: DevDirectory::new(config) }
    }

    fn file(&self, path: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"\0asm\x0d\0\x01\0").unwrap();
    }

    fn real(&self, path: &str) -> std::path::PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join(path)
    }
}

#[track_caller]
fn kind_of<T: std::fmt::Debug>(result: Result<T, DevSourceError>) -> DevSourceErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn the_default_is_the_flat_layout_under_the_working_directory() {
    let config = DevConfig::default();
    assert_eq!(config.root_dir, Path::new(".greentic/dev"));
    assert_eq!((config.packs_dir.as_str(), config.components_dir.as_str()), ("packs", "components"));
    assert_eq!(config.layout, DevLayout::Flat);
}

#[test]
fn flat_files_are_found_by_id_and_version() {
    let tree = Tree::new(DevLayout::Flat);
    tree.file("dev/packs/acme.pack-1.2.0-rc.1+b5.gtpack");
    tree.file("dev/components/acme-weather-1.2.0.wasm");
    assert_eq!(
        tree.directory.locate_pack("acme.pack", "1.2.0-rc.1+b5").unwrap(),
        tree.real("dev/packs/acme.pack-1.2.0-rc.1+b5.gtpack")
    );
    assert_eq!(
        tree.directory.locate_component("acme-weather", "1.2.0").unwrap(),
        tree.real("dev/components/acme-weather-1.2.0.wasm")
    );
}

#[test]
fn nested_files_are_found_by_id_and_version() {
    let tree = Tree::new(DevLayout::ByIdAndVersion);
    tree.file("dev/packs/acme.pack/1.2.0/pack.gtpack");
    tree.file("dev/components/foo/1.0.0-2.0.0/component.wasm");
    assert_eq!(
        tree.directory.locate_pack("acme.pack", "1.2.0").unwrap(),
        tree.real("dev/packs/acme.pack/1.2.0/pack.gtpack")
    );
    assert_eq!(
        tree.directory.locate_component("foo", "1.0.0-2.0.0").unwrap(),
        tree.real("dev/components/foo/1.0.0-2.0.0/component.wasm")
    );
}

#[test]
fn packs_and_components_are_not_mixed_up() {
    let tree = Tree::new(DevLayout::Flat);
    tree.file("dev/packs/a-1.0.0.gtpack");
    assert_eq!(kind_of(tree.directory.locate_component("a", "1.0.0")), DevSourceErrorKind::NotFound);
}

#[test]
fn a_missing_file_or_tree_is_not_found_and_names_the_path() {
    for layout in [DevLayout::Flat, DevLayout::ByIdAndVersion] {
        let tree = Tree::new(layout);
        let error = tree.directory.locate_pack("a", "1.0.0").unwrap_err();
        assert_eq!(error.kind(), DevSourceErrorKind::NotFound);
        assert!(error.to_string().contains("dev/packs/a"), "{error}");
        assert!(error.path().unwrap().starts_with(tree.dir.path()));
    }
    let nowhere = Tree::with(|config| config.root_dir.push("absent"));
    assert_eq!(kind_of(nowhere.directory.locate_pack("a", "1.0.0")), DevSourceErrorKind::NotFound);
}

#[test]
fn a_file_in_place_of_a_directory_on_the_way_is_not_found() {
    let tree = Tree::new(DevLayout::ByIdAndVersion);
    tree.file("dev/packs/a");
    assert_eq!(kind_of(tree.directory.locate_pack("a", "1.0.0")), DevSourceErrorKind::NotFound);
}

#[test]
fn ids_of_dots_do_not_reach_a_file_one_level_up() {
    let tree = Tree::new(DevLayout::ByIdAndVersion);
    tree.file("dev/1.0.0/pack.gtpack");
    tree.file("dev/packs/1.0.0/pack.gtpack");
    for id in ["..", ".", "..."] {
        let error = tree.directory.locate_pack(id, "1.0.0").unwrap_err();
        assert_eq!(error.kind(), DevSourceErrorKind::InvalidId, "{id}");
        assert!(error.to_string().contains("only dots"), "{error}");
    }
}

#[test]
fn d20_ids_and_versions_with_separators_are_refused() {
    let tree = Tree::new(DevLayout::Flat);
    tree.file("dev/secret-1.0.0.gtpack");
    tree.file("secret-1.0.0.gtpack");
    for id in ["../secret", "../../secret", "a/../../secret", "/etc/passwd", "a\\b", "a\0", "", "a b", "ä"] {
        assert_eq!(kind_of(tree.directory.locate_pack(id, "1.0.0")), DevSourceErrorKind::InvalidId, "{id:?}");
    }
    for version in ["", "..", "1.0.0/../../x", "1.0", "latest", "1.0.0\0"] {
        assert_eq!(
            kind_of(tree.directory.locate_pack("a", version)),
            DevSourceErrorKind::InvalidVersion,
            "{version:?}"
        );
    }
}

#[test]
fn d20_a_directory_in_place_of_the_file_is_refused_by_name() {
    let tree = Tree::new(DevLayout::Flat);
    fs::create_dir_all(tree.dir.path().join("dev/components/a-1.0.0.wasm")).unwrap();
    let error = tree.directory.locate_component("a", "1.0.0").unwrap_err();
    assert_eq!(error.kind(), DevSourceErrorKind::NotAFile);
    assert!(error.to_string().contains("is a directory, a component was expected"), "{error}");
}

#[test]
fn d20_a_flat_name_with_two_meanings_is_reported_for_both() {
    let tree = Tree::new(DevLayout::Flat);
    tree.file("dev/packs/foo-1.0.0-2.0.0.gtpack");
    for (id, version, other) in [
        ("foo", "1.0.0-2.0.0", "`foo-1.0.0` in version `2.0.0`"),
        ("foo-1.0.0", "2.0.0", "`foo` in version `1.0.0-2.0.0`"),
    ] {
        let error = tree.directory.locate_pack(id, version).unwrap_err();
        assert_eq!(error.kind(), DevSourceErrorKind::Ambiguous);
        assert!(error.to_string().contains(other), "{error}");
    }
}

#[test]
fn an_ambiguous_name_without_a_file_is_simply_not_found() {
    let tree = Tree::new(DevLayout::Flat);
    assert_eq!(kind_of(tree.directory.locate_pack("foo", "1.0.0-2.0.0")), DevSourceErrorKind::NotFound);
}

#[test]
fn configured_directories_that_leave_the_root_are_refused() {
    for dir in ["..", "../packs", "a/../..", "/packs"] {
        let tree = Tree::with(|config| config.packs_dir = dir.to_owned());
        tree.file("packs/a-1.0.0.gtpack");
        let error = tree.directory.locate_pack("a", "1.0.0").unwrap_err();
        assert_eq!(error.kind(), DevSourceErrorKind::InvalidConfig, "{dir}");
    }
}

#[test]
fn configured_directories_may_be_nested_or_the_root_itself() {
    for (dir, file) in [("a/b", "dev/a/b/p-1.0.0.gtpack"), ("./a", "dev/a/p-1.0.0.gtpack"), ("", "dev/p-1.0.0.gtpack")]
    {
        let tree = Tree::with(|config| config.packs_dir = dir.to_owned());
        tree.file(file);
        assert_eq!(tree.directory.locate_pack("p", "1.0.0").unwrap(), tree.real(file), "{dir:?}");
    }
}

#[cfg(unix)]
mod links {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_to_a_file_outside_the_root_is_refused() {
        let tree = Tree::new(DevLayout::Flat);
        tree.file("outside.gtpack");
        fs::create_dir_all(tree.dir.path().join("dev/packs")).unwrap();
        symlink("../../outside.gtpack", tree.dir.path().join("dev/packs/a-1.0.0.gtpack")).unwrap();
        let error = tree.directory.locate_pack("a", "1.0.0").unwrap_err();
        assert_eq!(error.kind(), DevSourceErrorKind::OutsideRoot);
        assert!(error.to_string().contains("leads out of the root"), "{error}");
    }

    #[test]
    fn a_linked_directory_on_the_way_out_is_refused() {
        let tree = Tree::new(DevLayout::ByIdAndVersion);
        tree.file("elsewhere/1.0.0/component.wasm");
        fs::create_dir_all(tree.dir.path().join("dev/components")).unwrap();
        symlink(tree.dir.path().join("elsewhere"), tree.dir.path().join("dev/components/a")).unwrap();
        assert_eq!(kind_of(tree.directory.locate_component("a", "1.0.0")), DevSourceErrorKind::OutsideRoot);
    }

    #[test]
    fn a_root_whose_name_only_begins_alike_is_outside() {
        let tree = Tree::new(DevLayout::Flat);
        tree.file("dev-evil/a.gtpack");
        fs::create_dir_all(tree.dir.path().join("dev/packs")).unwrap();
        symlink("../../dev-evil/a.gtpack", tree.dir.path().join("dev/packs/a-1.0.0.gtpack")).unwrap();
        assert_eq!(kind_of(tree.directory.locate_pack("a", "1.0.0")), DevSourceErrorKind::OutsideRoot);
    }

    #[test]
    fn a_link_inside_the_root_is_followed_to_the_real_file() {
        let tree = Tree::new(DevLayout::Flat);
        tree.file("dev/build/a.wasm");
        fs::create_dir_all(tree.dir.path().join("dev/components")).unwrap();
        symlink("../build/a.wasm", tree.dir.path().join("dev/components/a-1.0.0.wasm")).unwrap();
        assert_eq!(tree.directory.locate_component("a", "1.0.0").unwrap(), tree.real("dev/build/a.wasm"));
    }

    #[test]
    fn the_root_itself_may_be_a_link() {
        let tree = Tree::with(|config| {
            let link = config.root_dir.with_file_name("link");
            symlink(&config.root_dir, &link).unwrap();
            config.root_dir = link;
        });
        tree.file("dev/packs/a-1.0.0.gtpack");
        assert_eq!(tree.directory.locate_pack("a", "1.0.0").unwrap(), tree.real("dev/packs/a-1.0.0.gtpack"));
    }

    #[test]
    fn a_dangling_link_is_not_found_and_a_loop_is_an_error_of_its_own() {
        let tree = Tree::new(DevLayout::Flat);
        fs::create_dir_all(tree.dir.path().join("dev/packs")).unwrap();
        symlink("nowhere", tree.dir.path().join("dev/packs/a-1.0.0.gtpack")).unwrap();
        symlink("b-1.0.0.gtpack", tree.dir.path().join("dev/packs/b-1.0.0.gtpack")).unwrap();
        assert_eq!(kind_of(tree.directory.locate_pack("a", "1.0.0")), DevSourceErrorKind::NotFound);
        let looped = tree.directory.locate_pack("b", "1.0.0").unwrap_err();
        assert_eq!(looped.kind(), DevSourceErrorKind::Io);
        assert!(std::error::Error::source(&looped).is_some());
    }

    #[test]
    fn a_socket_in_place_of_the_file_is_refused_by_name() {
        let tree = Tree::new(DevLayout::Flat);
        fs::create_dir_all(tree.dir.path().join("dev/packs")).unwrap();
        let path = tree.dir.path().join("dev/packs/a-1.0.0.gtpack");
        let _listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        assert_eq!(kind_of(tree.directory.locate_pack("a", "1.0.0")), DevSourceErrorKind::NotAFile);
    }
}
