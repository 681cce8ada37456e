//! What a program ends with after a failure of the network.

use crate::{NetError, NetErrorKind};

impl NetError {
    /// The exit code of a program that ends with this failure: 2 for what cannot be asked and settings that cannot be used, 3 not
    /// found, 4 offline, 5 a login, 6 refused by this client's rules, 7 what may pass by itself, 8 wrong bytes, 10 anything else. The
    /// program of this project uses the same, and looks into the reason of [`NetErrorKind::Source`].
    pub const fn exit_code(&self) -> i32 {
        match self.kind() {
            NetErrorKind::InvalidInput | NetErrorKind::Config => 2,
            NetErrorKind::NotFound => 3,
            NetErrorKind::Offline => 4,
            NetErrorKind::Unauthorized | NetErrorKind::Forbidden => 5,
            NetErrorKind::Refused => 6,
            NetErrorKind::Integrity => 8,
            NetErrorKind::Source => 10,
            _ if self.is_transient() => 7,
            _ => 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_exit_code_and_what_passes_by_itself_another_one() {
        use NetErrorKind as K;
        for (kind, exit) in [
            (K::NotFound, 3),
            (K::Unauthorized, 5),
            (K::Forbidden, 5),
            (K::RateLimited, 7),
            (K::Timeout, 7),
            (K::Connect, 7),
            (K::Dns, 7),
            (K::Tls, 10),
            (K::Interrupted, 7),
            (K::Server, 7),
            (K::Protocol, 10),
            (K::TooLarge, 10),
            (K::Integrity, 8),
            (K::Unsupported, 10),
            (K::Conflict, 7),
            (K::Source, 10),
            (K::Output, 10),
            (K::Refused, 6),
            (K::InvalidInput, 2),
            (K::Config, 2),
            (K::Offline, 4),
        ] {
            assert_eq!(NetError::new(kind, "").exit_code(), exit, "{kind:?}");
        }
        // One failure may pass and the next of its kind not.
        assert_eq!(NetError::new(K::Dns, "").with_transient(false).exit_code(), 10);
        assert_eq!(NetError::new(K::Protocol, "").with_transient(true).exit_code(), 7);
        assert_eq!(NetError::new(K::NotFound, "").with_transient(true).exit_code(), 3);
    }
}
