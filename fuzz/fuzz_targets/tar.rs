//! Tar archives: what is accepted lies within the archive, and no two members share a name.
#![no_main]

use greentic_distributor_client::fuzzing::tar_members;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|archive: &[u8]| {
    let Some(members) = tar_members(archive) else { return };
    let len = archive.len() as u64;
    for (name, offset, size_bytes) in &members {
        assert!(offset.checked_add(*size_bytes).is_some_and(|end| end <= len), "{name:?} at {offset} of {size_bytes}");
        assert_eq!(offset % 512, 0);
    }
    let mut names: Vec<_> = members.iter().map(|(name, ..)| name).collect();
    names.dedup();
    assert_eq!(names.len(), members.len());
    assert_eq!(tar_members(archive), Some(members));
});
