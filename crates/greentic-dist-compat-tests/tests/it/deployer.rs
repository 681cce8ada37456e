//! `greentic-deployer`: a source of its own among others.
//!
//! Features: none.

use std::collections::BTreeMap;

use greentic_distributor_client::error::DistributorError;
use greentic_distributor_client::source::{ChainedDistributorSource, DistributorSource};
use greentic_distributor_client::{ComponentId, PackId, Version};

/// Synchronous, over what it has in memory.
#[derive(Default)]
struct Shelf {
    packs: BTreeMap<(String, Version), Vec<u8>>,
    is_locked: bool,
    is_broken: bool,
}

impl DistributorSource for Shelf {
    fn fetch_pack(&self, pack_id: &PackId, version: &Version) -> Result<Vec<u8>, DistributorError> {
        if self.is_locked {
            return Err(DistributorError::PermissionDenied);
        }
        if self.is_broken {
            return Err(DistributorError::Other(format!("the shelf of {} is broken", pack_id.as_str())));
        }
        let key = (pack_id.as_str().to_owned(), version.clone());
        self.packs.get(&key).cloned().ok_or(DistributorError::NotFound)
    }

    fn fetch_component(&self, _: &ComponentId, _: &Version) -> Result<Vec<u8>, DistributorError> {
        Err(DistributorError::NotFound)
    }
}

fn shelf(id: &str, bytes: &[u8]) -> Shelf {
    Shelf { packs: BTreeMap::from([((id.to_owned(), Version::new(1, 0, 0)), bytes.to_vec())]), ..Shelf::default() }
}

fn ask(sources: Vec<Box<dyn DistributorSource>>, id: &str) -> Result<Vec<u8>, DistributorError> {
    ChainedDistributorSource::new(sources).fetch_pack(&PackId::new(id).unwrap(), &Version::new(1, 0, 0))
}

#[test]
fn a_source_of_its_own_stands_in_a_chain() {
    let sources =
        || -> Vec<Box<dyn DistributorSource>> { vec![Box::new(shelf("a", b"1")), Box::new(shelf("b", b"2"))] };
    assert_eq!(ask(sources(), "b").unwrap(), b"2");
    assert!(matches!(ask(sources(), "c"), Err(DistributorError::NotFound)));
    let locked = Shelf { is_locked: true, ..Shelf::default() };
    let refused = ask(vec![Box::new(locked), Box::new(shelf("a", b"1"))], "a");
    assert!(matches!(refused, Err(DistributorError::PermissionDenied)));
    let broken = Shelf { is_broken: true, ..Shelf::default() };
    let failed = ask(vec![Box::new(broken)], "a");
    assert!(matches!(failed, Err(DistributorError::Other(text)) if text == "the shelf of a is broken"));
    let component = ChainedDistributorSource::new(sources())
        .fetch_component(&ComponentId::new("part").unwrap(), &Version::new(1, 0, 0));
    assert!(matches!(component, Err(DistributorError::NotFound)));
}
