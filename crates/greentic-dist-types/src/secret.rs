//! A value that has no way to be printed.

use std::fmt;

use zeroize::Zeroizing;

/// A password, token or key. `Debug` shows only `[redacted]`; there is no `Display` and no serialisation, and the memory is
/// overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the secret over.
    pub fn new(value: impl Into<String>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    /// The secret itself. Every call is a place to review: the result may go into a request to the host it belongs to
    /// and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the secret is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self::new(value)
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_secret_and_of_what_holds_it_shows_nothing() {
        let secret = Secret::new("canary-7f3a");
        assert_eq!(format!("{:?} {:#?}", secret, Some(&secret)).matches("canary").count(), 0);
        assert_eq!(secret.expose(), "canary-7f3a");
    }
}
