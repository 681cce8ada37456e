//! The one table of media types this client knows, and how it orders them.

/// OCI image manifest (image-spec 1.1, `manifest.md`).
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index (image-spec 1.1, `image-index.md`).
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker image manifest, version 2 schema 2; same shape as [`OCI_MANIFEST`].
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list; same shape as [`OCI_INDEX`].
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker schema 1, signed. Refused by name: it cannot be addressed by the digest of its bytes.
pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// Docker schema 1, unsigned. Refused by name.
pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
/// OCI artifact manifest: of the first image-spec 1.1 candidates, withdrawn before its release, and read still. Its `blobs` are its
/// layers, and it has no config.
pub const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

/// A WebAssembly module or component; what the ecosystem pushes today.
pub const WASM: &str = "application/wasm";
/// Config of a Wasm artifact as `wkg` and its peers write it.
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// Component layer type of the first Greentic publishers.
pub const WASM_COMPONENT_LAYER: &str = "application/vnd.wasm.component.v1+wasm";
/// Module layer type of early Wasm registries.
pub const WASM_MODULE_LAYER: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
/// A Greentic component manifest, kept as a sidecar of the component it describes.
pub const COMPONENT_MANIFEST: &str = "application/vnd.greentic.component.manifest+json";
/// A Greentic pack, a zip archive.
pub const GTPACK: &str = "application/vnd.greentic.gtpack.v1+zip";
/// A Greentic pack, or a catalog of them, as one JSON document.
pub const PACK_JSON: &str = "application/vnd.greentic.pack+json";
/// The empty JSON object that stands where an artifact has no config (image-spec, "Guidance for an Empty Descriptor").
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// A tar archive as a layer; `+gzip` and `+zstd` for compressed ones.
pub const TAR_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// JSON of no stated kind.
pub const JSON: &str = "application/json";
/// Bytes of no stated type.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// The `Accept` value of every manifest request: both image and both index types and the artifact manifest, one header line,
/// since some servers read only the first.
pub const MANIFEST_ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.artifact.manifest.v1+json";

/// Layer types a component may have, best first.
pub const COMPONENT_LAYERS: &[&str] = &[WASM_COMPONENT_LAYER, WASM_MODULE_LAYER, WASM, OCTET_STREAM];

/// Layer types that name a Greentic pack, best first.
const GREENTIC_PACKS: &[&str] = &[
    "application/vnd.greentic.pack+json",
    "application/vnd.greentic.gtpack.v1+zip",
    "application/vnd.greentic.gtpack+zip",
    "application/vnd.greentic.pack+zip",
];
/// Layer types that a pack may have and that do not say so, best first.
const PLAIN_PACKS: &[&str] = &[
    "text/markdown",
    OCTET_STREAM,
    "application/json",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
];

/// Whether a layer type (without parameters) says that the layer is a Greentic pack: one of the pack types, or a tarball of
/// Greentic's own.
pub fn is_greentic_pack(media_type: &str) -> bool {
    GREENTIC_PACKS.contains(&media_type)
        || (media_type.starts_with("application/vnd.greentic.") && is_tarball(media_type))
}

/// How good a layer type is for a pack, 0 being best; `None` for a type that is none. Types that say so come first, then the
/// plain ones, then any tarball.
pub fn pack_rank(media_type: &str) -> Option<usize> {
    let position = |types: &[&str]| types.iter().position(|known| *known == media_type);
    let greentic = GREENTIC_PACKS.len();
    position(GREENTIC_PACKS)
        .or_else(|| is_greentic_pack(media_type).then_some(greentic))
        .or_else(|| position(PLAIN_PACKS).map(|rank| greentic + 1 + rank))
        .or_else(|| is_tarball(media_type).then_some(greentic + 1 + PLAIN_PACKS.len()))
}

/// Whether a type (without parameters) ends with `+tar`, `+tar+gzip` or `+tar+zstd`, and names something before that.
pub fn is_tarball(media_type: &str) -> bool {
    let names_something =
        |name: &str| name.split_once('/').is_some_and(|(kind, subtype)| !kind.is_empty() && !subtype.is_empty());
    ["+tar", "+tar+gzip", "+tar+zstd"].iter().any(|suffix| media_type.strip_suffix(suffix).is_some_and(names_something))
}

/// Whether a layer type (parameters allowed) is one of those that stay where their publisher has them and are not copied
/// (image-spec, "Non-Distributable Layers").
pub fn is_non_distributable(media_type: &str) -> bool {
    let essence = essence(media_type);
    essence.starts_with("application/vnd.oci.image.layer.nondistributable.")
        || essence.starts_with("application/vnd.docker.image.rootfs.foreign.")
}

/// What a manifest media type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestType {
    /// One artifact: its layers, and a config.
    Image,
    /// A list of manifests.
    Index,
    /// A type that is known and refused; the text says what it is.
    Refused(&'static str),
    /// Not a manifest type: `application/json`, `text/plain`, a login page.
    Unknown,
}

/// Classifies a media type given without parameters.
pub fn manifest_type(media_type: &str) -> ManifestType {
    match media_type {
        OCI_MANIFEST | DOCKER_MANIFEST | OCI_ARTIFACT => ManifestType::Image,
        OCI_INDEX | DOCKER_INDEX => ManifestType::Index,
        DOCKER_SCHEMA1 | DOCKER_SCHEMA1_SIGNED => ManifestType::Refused("a docker schema 1 manifest"),
        _ => ManifestType::Unknown,
    }
}

/// The media type of a `Content-Type` value: parameters cut, lower case, white space trimmed.
pub fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_case_do_not_change_a_media_type() {
        assert_eq!(essence(" Application/VND.oci.image.index.v1+json ; charset=utf-8"), OCI_INDEX);
        assert_eq!(manifest_type(&essence("")), ManifestType::Unknown);
    }

    #[test]
    fn types_that_say_pack_come_before_plain_ones_and_other_types_are_none() {
        let ranked = [
            "application/vnd.greentic.pack+json",
            "application/vnd.greentic.pack+zip",
            "application/vnd.greentic.kit.bundle.v1+tar+gzip",
            "text/markdown",
            "application/json",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.acme.bundle+tar",
        ];
        let ranks: Vec<_> = ranked.iter().map(|name| pack_rank(name).unwrap()).collect();
        assert!(ranks.is_sorted_by(|left, right| left < right), "{ranks:?}");
        let said: Vec<_> = ranked.iter().map(|name| is_greentic_pack(name)).collect();
        assert_eq!(said, [true, true, true, false, false, false, false]);
        for none in [WASM, COMPONENT_MANIFEST, "application/spdx+json", "text/html", ""] {
            assert_eq!(pack_rank(none), None, "{none}");
        }
    }

    #[test]
    fn layers_that_stay_with_their_publisher_are_told_by_their_type() {
        for foreign in [
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
            "Application/vnd.docker.image.rootfs.foreign.diff.tar.gzip; x=y",
        ] {
            assert!(is_non_distributable(foreign), "{foreign}");
        }
        for own in [TAR_LAYER, WASM, "application/vnd.docker.image.rootfs.diff.tar.gzip", "", "nondistributable"] {
            assert!(!is_non_distributable(own), "{own}");
        }
    }

    #[test]
    fn every_accepted_manifest_type_is_asked_for() {
        for accepted in [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX, OCI_ARTIFACT] {
            assert!(MANIFEST_ACCEPT.split(", ").any(|part| part == accepted), "{accepted}");
            assert!(matches!(manifest_type(accepted), ManifestType::Image | ManifestType::Index));
        }
    }
}
