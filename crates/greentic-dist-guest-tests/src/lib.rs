//! Nothing: the tests are the crate. `guest/` is the guest, `tests/it` builds it and is its host.
