use greentic_distributor_client::dist::DistErrorKind;
use greentic_distributor_client::oci_packs::OciPackError;

/// What to do about a failure.
pub fn by_kind(error: &OciPackError) -> &'static str {
    match error.kind() {
        DistErrorKind::Temporary => "try again later",
        DistErrorKind::Offline => "fetch it while online",
        DistErrorKind::Auth => "log in",
        DistErrorKind::Integrity => "tell somebody",
        _ => "look at the text and at `hints()`",
    }
}
