use greentic_distributor_client::oci_packs::{OciPackError, PackFetchOptions, fetch_pack_with_options};

/// The bytes of exactly this pack: `name` is `host/path`, `digest` is `sha256:…`.
pub async fn by_pin(name: &str, digest: &str, options: PackFetchOptions) -> Result<Vec<u8>, OciPackError> {
    fetch_pack_with_options(&format!("{name}@{digest}"), options).await
}
