//! Why an operation on a bundle failed, before it is told to a host or a person.

use crate::dist::verify::Verdict;
use crate::dist::{DistError, IntegrationError};
#[cfg(feature = "dist-cli")]
use crate::dist::{DistErrorKind, IntegrationErrorCode};

/// A failure with what the command line needs of it; hosts get it as [`IntegrationError`].
#[derive(Debug)]
pub(crate) enum BundleError {
    /// A step of the flow failed.
    Flow(DistError),
    /// The verification did not pass.
    Refused(Box<Verdict>),
    /// A caller's mistake, or what an opener said.
    Stated(IntegrationError),
}

impl BundleError {
    /// What decides the exit code.
    #[cfg(feature = "dist-cli")]
    pub(crate) fn kind(&self) -> DistErrorKind {
        match self {
            Self::Flow(error) => error.kind(),
            Self::Refused(verdict) => verdict.kind(),
            Self::Stated(error) => match error.code {
                IntegrationErrorCode::InvalidReference => DistErrorKind::InvalidInput,
                _ => DistErrorKind::Internal,
            },
        }
    }
}

impl From<DistError> for BundleError {
    fn from(error: DistError) -> Self {
        Self::Flow(error)
    }
}

impl From<Box<Verdict>> for BundleError {
    fn from(verdict: Box<Verdict>) -> Self {
        Self::Refused(verdict)
    }
}

impl From<BundleError> for IntegrationError {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Flow(error) => error.into(),
            BundleError::Refused(verdict) => verdict.to_error(),
            BundleError::Stated(error) => error,
        }
    }
}
