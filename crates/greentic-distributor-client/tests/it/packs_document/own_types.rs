use greentic_distributor_client::oci_packs::PackFetchOptions;

/// Takes the bundles of a host before anything else, and HTML where there is nothing better.
pub fn own_types(options: PackFetchOptions) -> PackFetchOptions {
    let mut options = options.add_accepted_layer_media_types(["application/vnd.acme.bundle", "text/html"]);
    options.preferred_layer_media_types.insert(0, "application/vnd.acme.bundle".to_owned());
    options
}
