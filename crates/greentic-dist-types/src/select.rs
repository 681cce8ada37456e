//! Which layer of a manifest is the artifact, and which manifest of an index is for us: pure functions that explain
//! their choice.

use std::collections::BTreeSet;

use crate::media_type::{COMPONENT_LAYERS, COMPONENT_MANIFEST, OCTET_STREAM, is_greentic_pack, pack_rank};
use crate::{ArtifactType, Descriptor, Index, Manifest, Platform, PlatformChoice, SafeText};

/// The layer chosen as the artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerChoice<'a> {
    /// Its position in the manifest.
    pub position: usize,
    /// Its descriptor.
    pub layer: &'a Descriptor,
    /// Why this one, in one clause, for `inspect` and for errors.
    pub reason: SafeText,
}

/// Why nothing could be chosen. Lists what there was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// The manifest has no layers.
    #[error("the manifest has no layers")]
    NoLayers,
    /// No layer has an accepted media type.
    #[error("no layer has an accepted media type; the manifest has {seen}, accepted are {accepted}")]
    NoLayer {
        /// The media types of the layers.
        seen: SafeText,
        /// The accepted media types.
        accepted: SafeText,
    },
    /// Several entries of the index are for the wanted platform, none of them for its usual variant, and no variant was named.
    #[error(
        "the index has several manifests for {wanted}, which differ by their variant, and none is the usual one: {seen}"
    )]
    SeveralVariants {
        /// The wanted platforms.
        wanted: SafeText,
        /// The platforms that are in question.
        seen: SafeText,
    },
    /// No entry of the index is for the wanted platform.
    #[error("no manifest of the index is for {wanted}; the index has {seen}")]
    NoPlatform {
        /// The wanted platforms.
        wanted: SafeText,
        /// The platforms of the index.
        seen: SafeText,
    },
    /// The index has nothing for the wanted platform, and other content for each of the common ones, so that none of it stands
    /// for all.
    #[error(
        "no manifest of the index is for {wanted}, and those for linux/amd64 and linux/arm64 hold different content"
    )]
    DifferentContent {
        /// The wanted platforms.
        wanted: SafeText,
    },
}

/// Chooses the layer whose media type stands first in `preferred`; among equals the first in manifest order.
///
/// Layers of other types (SBOM, licence, component manifest) are ignored, not refused. The choice depends on nothing but
/// the arguments, so that every reader of an entry's manifest finds the same layer again.
///
/// # Errors
/// [`SelectError::NoLayers`], [`SelectError::NoLayer`].
pub fn select_layer<'a>(manifest: &'a Manifest, preferred: &[&str]) -> Result<LayerChoice<'a>, SelectError> {
    let rank = |media_type: &str| preferred.iter().position(|wanted| *wanted == media_type);
    select_by_rank(manifest, rank, || joined(preferred.iter().map(|&name| name.to_owned())))
}

fn select_by_rank(
    manifest: &Manifest,
    rank: impl Fn(&str) -> Option<usize>,
    accepted: impl Fn() -> SafeText,
) -> Result<LayerChoice<'_>, SelectError> {
    if manifest.layers.is_empty() {
        return Err(SelectError::NoLayers);
    }
    let best = manifest
        .layers
        .iter()
        .enumerate()
        .filter_map(|(position, layer)| {
            rank(&crate::media_type::essence(&layer.media_type)).map(|rank| (rank, position, layer))
        })
        .min_by_key(|(rank, position, _)| (*rank, *position));
    match best {
        Some((rank, position, layer)) => {
            let reason = match manifest.layers.len() {
                1 => "it is the only layer".into(),
                count => SafeText::new(&format!(
                    "{} is choice {} and the first of {count} layers with it",
                    layer.media_type,
                    rank + 1
                )),
            };
            Ok(LayerChoice { position, layer, reason })
        }
        None => Err(SelectError::NoLayer {
            seen: joined(manifest.layers.iter().map(|layer| layer.media_type.clone())),
            accepted: accepted(),
        }),
    }
}

/// Which layer of a manifest is wanted, as lists of media types that a caller chose. Parameters and case of media types do
/// not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerRule {
    preferred: Vec<String>,
    accepted: Vec<String>,
    tarballs: bool,
}

impl LayerRule {
    /// Accepts the types of both lists, and takes the first of `preferred` before any other.
    pub fn new(preferred: &[String], accepted: &[String]) -> Self {
        let essences = |types: &[String]| types.iter().map(|name| crate::media_type::essence(name)).collect();
        Self { preferred: essences(preferred), accepted: essences(accepted), tarballs: false }
    }

    /// Also accepts every type that ends with `+tar`, `+tar+gzip` or `+tar+zstd`. Default: not.
    #[must_use]
    pub const fn with_tarballs(mut self, tarballs: bool) -> Self {
        self.tarballs = tarballs;
        self
    }

    /// Whether a layer of this type may be the artifact.
    pub fn accepts(&self, media_type: &str) -> bool {
        self.rank(media_type).is_some()
    }

    /// How good a type is, 0 being best; `None` for one that is not accepted.
    fn rank(&self, media_type: &str) -> Option<usize> {
        let media_type = crate::media_type::essence(media_type);
        let ranked = self.preferred.iter().position(|wanted| *wanted == media_type);
        let is_accepted =
            || self.accepted.contains(&media_type) || (self.tarballs && crate::media_type::is_tarball(&media_type));
        ranked.or_else(|| is_accepted().then_some(self.preferred.len()))
    }

    /// The best of layers that somebody handed over, accepted or not: the first of the best preferred type, else the first of
    /// all. `None` when there are none.
    pub fn best_of<'a>(&self, media_types: impl IntoIterator<Item = &'a str>) -> Option<usize> {
        let rank = |media_type: &str| {
            let media_type = crate::media_type::essence(media_type);
            self.preferred.iter().position(|wanted| *wanted == media_type).unwrap_or(self.preferred.len())
        };
        let ranked = media_types.into_iter().enumerate().map(|(position, media_type)| (rank(media_type), position));
        ranked.min().map(|(_, position)| position)
    }

    /// The layer of a manifest: of the accepted ones the first of the best preferred type, else the first.
    ///
    /// # Errors
    /// As [`select_layer`].
    pub fn select<'a>(&self, manifest: &'a Manifest) -> Result<LayerChoice<'a>, SelectError> {
        select_by_rank(manifest, |media_type| self.rank(media_type), || self.accepted_names())
    }

    /// Why a layer of this type is none.
    pub fn refusal(&self, media_type: &str) -> SelectError {
        SelectError::NoLayer { seen: SafeText::excerpt(media_type, 100), accepted: self.accepted_names() }
    }

    fn accepted_names(&self) -> SafeText {
        let mut names: Vec<&String> = Vec::new();
        for name in self.preferred.iter().chain(&self.accepted) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let tarballs = self.tarballs.then(|| "any tarball (`+tar`, `+tar+gzip`, `+tar+zstd`)".to_owned());
        joined(tarballs.into_iter().chain(names.into_iter().cloned()))
    }
}

impl Manifest {
    /// The layer that is the component, by the client's fixed order of media types.
    ///
    /// # Errors
    /// As [`select_layer`].
    pub fn component_layer(&self) -> Result<LayerChoice<'_>, SelectError> {
        select_layer(self, COMPONENT_LAYERS)
    }

    /// The layer that is the pack: one whose type says so, else one whose type may be anything.
    ///
    /// # Errors
    /// As [`select_layer`].
    pub fn pack_layer(&self) -> Result<LayerChoice<'_>, SelectError> {
        select_by_rank(self, pack_rank, || "those of packs".into())
    }

    /// What the manifest holds, and which layer that is: a component where a layer is Wasm by its type, a pack where one says
    /// so, a component where one has no stated type.
    ///
    /// # Errors
    /// As [`Manifest::component_layer`].
    pub fn artifact_layer(&self) -> Result<(ArtifactType, LayerChoice<'_>), SelectError> {
        let is_typed = |media_type: &str| media_type != OCTET_STREAM;
        let component = self.component_layer();
        match &component {
            Ok(choice) if is_typed(&crate::media_type::essence(&choice.layer.media_type)) => {}
            _ => {
                let packs = |media_type: &str| pack_rank(media_type).filter(|_| is_greentic_pack(media_type));
                if let Ok(choice) = select_by_rank(self, packs, || "those of packs".into()) {
                    return Ok((ArtifactType::Pack, choice));
                }
            }
        }
        component.map(|choice| (ArtifactType::Component, choice))
    }

    /// The layer with the Greentic component manifest, where there is one.
    pub fn component_manifest_layer(&self) -> Option<&Descriptor> {
        self.layers.iter().find(|layer| crate::media_type::essence(&layer.media_type) == COMPONENT_MANIFEST)
    }
}

/// Chooses the manifest of an index: the best wanted platform; else the only entry that is no attestation.
///
/// Entries with platform `unknown/unknown` (build attestations) are never chosen. Among entries of one operating system and
/// architecture the variant decides, see [`PlatformChoice::variant`]; among equals the first of the index is taken.
///
/// # Errors
/// [`SelectError::NoPlatform`], [`SelectError::SeveralVariants`].
pub fn select_platform<'a>(index: &'a Index, wanted: &PlatformChoice) -> Result<&'a Descriptor, SelectError> {
    let is_attestation = |platform: &Platform| platform.os == "unknown" && platform.architecture == "unknown";
    let candidates: Vec<&Descriptor> =
        index.manifests.iter().filter(|entry| !entry.platform.as_ref().is_some_and(is_attestation)).collect();
    let ranked: Vec<_> = candidates
        .iter()
        .filter_map(|entry| {
            let platform = entry.platform.as_ref()?;
            Some((wanted.rank(platform)?, platform, *entry))
        })
        .collect();
    // The first of the best: `min_by_key` keeps the order of the index.
    let best = ranked.iter().min_by_key(|(rank, _, _)| *rank);
    if let Some((rank, ..)) = best.filter(|(rank, ..)| rank.is_unusual()) {
        let rivals: BTreeSet<String> =
            ranked.iter().filter(|(other, ..)| other == rank).map(|(_, platform, _)| platform.normalized()).collect();
        if rivals.len() > 1 {
            let (wanted, seen) = (wanted.in_words(), joined(rivals.into_iter()));
            return Err(SelectError::SeveralVariants { wanted, seen });
        }
    }
    match (best, candidates.as_slice()) {
        (Some((_, _, entry)), _) => Ok(entry),
        (None, &[only]) => Ok(only),
        (None, _) => {
            Err(SelectError::NoPlatform {
                wanted: wanted.in_words(),
                seen: joined(index.manifests.iter().map(|entry| {
                    entry.platform.as_ref().map_or_else(|| "no platform".to_owned(), ToString::to_string)
                })),
            })
        }
    }
}

/// As [`select_platform`], for a platform that was asked for by name: the only entry of an index is not taken when it says that it is
/// for another one.
///
/// # Errors
/// As [`select_platform`].
pub fn select_exactly<'a>(index: &'a Index, wanted: &PlatformChoice) -> Result<&'a Descriptor, SelectError> {
    let chosen = select_platform(index, wanted)?;
    match &chosen.platform {
        Some(platform) if !wanted.accepts(platform) => {
            Err(SelectError::NoPlatform { wanted: wanted.in_words(), seen: SafeText::new(&platform.to_string()) })
        }
        _ => Ok(chosen),
    }
}

/// Platforms that every publisher of images builds for, the one that is taken first.
const COMMON: [(&str, &str); 2] = [("linux", "amd64"), ("linux", "arm64")];

/// As [`select_platform`], of an index whose content is to be the same on every platform. Where it has nothing for a wanted one,
/// what it has for the platforms that every publisher of images builds for does: for `linux/amd64`, else for `linux/arm64`.
///
/// The first is the one to take, on whatever machine. Where there is a second one, which has another digest, the first stands for the
/// content of the index only if both hold the same.
///
/// # Errors
/// [`SelectError::NoPlatform`].
pub fn select_portable<'a>(
    index: &'a Index,
    wanted: &PlatformChoice,
) -> Result<(&'a Descriptor, Option<&'a Descriptor>), SelectError> {
    let refused = match select_platform(index, wanted) {
        Ok(entry) => return Ok((entry, None)),
        Err(refused) => refused,
    };
    let mut found = COMMON.into_iter().filter_map(|(os, architecture)| {
        let common = PlatformChoice { os: vec![os.into()], architecture: vec![architecture.into()], variant: None };
        let ranked = index.manifests.iter().filter_map(|entry| Some((common.rank(entry.platform.as_ref()?)?, entry)));
        // Of several variants the usual one, else the first.
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
    });
    let first = found.next().ok_or(refused)?;
    Ok((first, found.next().filter(|other| other.digest != first.digest)))
}

fn joined(names: impl Iterator<Item = String>) -> SafeText {
    let text = names.take(12).collect::<Vec<_>>().join(", ");
    if text.is_empty() { "nothing".into() } else { SafeText::new(&text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;
    use crate::media_type::{OCTET_STREAM, WASM, WASM_COMPONENT_LAYER};
    use std::collections::BTreeMap;

    fn layer(media_type: &str, platform: Option<(&str, &str)>) -> Descriptor {
        Descriptor {
            platform: platform.map(|(os, architecture)| Platform::new(os, architecture)),
            ..Descriptor::new(media_type, Digest::sha256(media_type.as_bytes()), 1)
        }
    }

    fn manifest(types: &[&str]) -> Manifest {
        Manifest {
            artifact_type: None,
            config: Some(layer("application/vnd.wasm.config.v0+json", None)),
            layers: types.iter().map(|name| layer(name, None)).collect(),
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    fn index(platforms: &[Option<(&str, &str)>]) -> Index {
        let manifests = platforms.iter().map(|platform| layer("m", *platform)).collect();
        Index { artifact_type: None, manifests, subject: None, annotations: BTreeMap::new() }
    }

    #[test]
    fn the_most_preferred_type_wins_whatever_the_order_of_layers() {
        let types = ["application/spdx+json", OCTET_STREAM, WASM, WASM_COMPONENT_LAYER];
        for turn in 0..types.len() {
            let mut turned = types;
            turned.rotate_left(turn);
            let manifest = manifest(&turned);
            let choice = manifest.component_layer().unwrap();
            assert_eq!(choice.layer.media_type, WASM_COMPONENT_LAYER);
            assert!(choice.reason.as_str().contains("choice 1"));
        }
    }

    #[test]
    fn among_equals_the_first_is_chosen_and_extra_layers_are_ignored() {
        let manifest = manifest(&["text/plain", WASM, WASM]);
        assert_eq!(manifest.component_layer().unwrap().position, 1);
    }

    #[test]
    fn a_manifest_says_by_its_types_whether_it_holds_a_component_or_a_pack() {
        let gtpack = "application/vnd.greentic.gtpack.v1+zip";
        let bundle = "application/vnd.greentic.kit.bundle.v1+tar+gzip";
        for (types, kind, position) in [
            (&[WASM][..], ArtifactType::Component, 0),
            (&[gtpack], ArtifactType::Pack, 0),
            (&[bundle, "text/markdown"], ArtifactType::Pack, 0),
            (&[gtpack, WASM], ArtifactType::Component, 1),
            (&[OCTET_STREAM], ArtifactType::Component, 0),
            (&[OCTET_STREAM, gtpack], ArtifactType::Pack, 1),
            (&[COMPONENT_MANIFEST, OCTET_STREAM], ArtifactType::Component, 1),
        ] {
            let manifest = manifest(types);
            let (found, choice) = manifest.artifact_layer().unwrap();
            assert_eq!((found, choice.position), (kind, position), "{types:?}");
            if kind == ArtifactType::Pack {
                assert_eq!(manifest.pack_layer().unwrap().position, position, "{types:?}");
            }
        }
        let plain = manifest(&["application/json", "application/vnd.acme.kit+tar"]);
        assert!(plain.artifact_layer().is_err());
        assert_eq!(plain.pack_layer().unwrap().position, 0);
        let error = manifest(&["text/html"]).pack_layer().unwrap_err().to_string();
        assert!(error.contains("text/html") && error.contains("packs"), "{error}");
    }

    #[test]
    fn a_rule_takes_the_best_preferred_type_then_the_first_accepted_one_and_refuses_the_rest() {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let rule = LayerRule::new(&list(&["a/best", "a/good"]), &list(&["A/Plain; x=1"])).with_tarballs(true);
        for (types, position) in [
            (&["a/good", "a/best", "a/best"][..], Some(1)),
            (&["a/other", "a/plain", "x/y+tar"], Some(1)),
            (&["a/other", "x/y+tar+zstd", "a/plain;q=1"], Some(1)),
            (&["a/other"], None),
            // What only ends like one names no type.
            (&["+tar"], None),
            (&["+tar+gzip"], None),
            (&["x/+tar+zstd"], None),
            (&["/y+tar"], None),
        ] {
            let manifest = manifest(types);
            assert_eq!(rule.select(&manifest).ok().map(|choice| choice.position), position, "{types:?}");
        }
        let error = rule.select(&manifest(&["a/other"])).unwrap_err().to_string();
        for part in ["a/other", "a/best", "a/plain", "+tar"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!rule.clone().with_tarballs(false).accepts("x/y+tar"));
        assert_eq!(rule.select(&manifest(&[])), Err(SelectError::NoLayers));
        assert_eq!(rule.best_of(["a/other", "a/plain", "a/good"]), Some(2));
        assert_eq!(rule.best_of(["a/other", "a/plain"]), Some(0));
        assert_eq!(rule.best_of([]), None);
    }

    #[test]
    fn refusals_list_what_there_was() {
        assert_eq!(manifest(&[]).component_layer(), Err(SelectError::NoLayers));
        let error = manifest(&["text/plain"]).component_layer().unwrap_err().to_string();
        assert!(error.contains("text/plain") && error.contains(WASM), "{error}");
    }

    /// An index with an entry for each platform, told apart by their digests.
    fn index_of(platforms: &[&str]) -> Index {
        let entry = |(position, text): (usize, &&str)| {
            let parts: Vec<&str> = text.split('/').collect();
            let variant = parts.get(2).map(|&variant| variant.to_owned());
            let platform = Platform { variant, ..Platform::new(parts[0], parts[1]) };
            let digest = Digest::sha256(format!("{position}").as_bytes());
            Descriptor { platform: Some(platform), ..Descriptor::new("m", digest, 1) }
        };
        Index::new(platforms.iter().enumerate().map(entry).collect())
    }

    #[test]
    fn a_variant_is_the_one_that_was_named_else_the_usual_one_of_its_architecture() {
        for (entries, wanted, position) in [
            (&["linux/arm/v6", "linux/arm/v7"][..], "linux/arm", 1),
            (&["linux/arm/v6", "linux/arm/v7"], "linux/arm/v6", 0),
            (&["linux/arm/v6", "linux/arm/v7"], "linux/arm/7", 1),
            (&["linux/arm/v6", "linux/arm"], "linux/arm/v7", 1),
            // Those an arm v7 runs as well, the newest first.
            (&["linux/arm/v5", "linux/arm/v6"], "linux/arm", 1),
            (&["linux/arm64", "linux/arm64/v9"], "linux/arm64", 0),
            (&["linux/arm64/v9", "linux/arm64/v8"], "linux/arm64", 1),
            (&["linux/arm64/v9", "linux/arm64"], "linux/arm64/v8", 1),
            (&["linux/amd64/v3", "linux/amd64"], "linux/amd64", 1),
            (&["linux/amd64/v3", "linux/amd64/V1"], "linux/amd64", 1),
            (&["linux/amd64/v3", "linux/amd64/v1"], "linux/amd64/v3", 0),
            // One that is not the usual one is all there is, or twice the same.
            (&["linux/amd64/v3", "linux/arm64"], "linux/amd64", 0),
            (&["linux/amd64/v3", "linux/amd64/v3"], "linux/amd64", 0),
        ] {
            let index = index_of(entries);
            let chosen = select_platform(&index, &wanted.parse().unwrap()).unwrap();
            assert_eq!(chosen, &index.manifests[position], "{entries:?} {wanted}");
        }
    }

    #[test]
    fn variants_of_which_none_is_the_usual_one_are_told_and_none_is_taken() {
        let index = index_of(&["linux/amd64/v3", "linux/amd64/v2", "linux/arm/v8"]);
        let error = select_platform(&index, &"linux/amd64".parse().unwrap()).unwrap_err();
        assert!(matches!(error, SelectError::SeveralVariants { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("linux/amd64/v2, linux/amd64/v3") && !text.contains("arm"), "{text}");
        for absent in ["linux/amd64/v4", "linux/arm/v7"] {
            let error = select_platform(&index, &absent.parse().unwrap()).unwrap_err();
            assert!(matches!(error, SelectError::NoPlatform { .. }), "{absent}: {error:?}");
        }
    }

    #[test]
    fn wasm_platforms_come_first_and_attestations_never() {
        let unknown = Some(("unknown", "unknown"));
        let both = index(&[Some(("linux", "amd64")), Some(("wasi", "wasm")), Some(("wasip2", "wasm")), unknown]);
        assert_eq!(select_platform(&both, &PlatformChoice::default()).unwrap().platform.as_ref().unwrap().os, "wasip2");
        let single = index(&[Some(("linux", "amd64")), unknown]);
        assert_eq!(
            select_platform(&single, &PlatformChoice::default()).unwrap().platform.as_ref().unwrap().os,
            "linux"
        );
        let bare = index(&[None]);
        assert!(select_platform(&bare, &PlatformChoice::default()).is_ok());
        let none = index(&[Some(("linux", "amd64")), Some(("linux", "arm64"))]);
        let error = select_platform(&none, &PlatformChoice::default()).unwrap_err().to_string();
        assert!(error.contains("linux/arm64"), "{error}");
        assert!(select_platform(&index(&[unknown]), &PlatformChoice::default()).is_err());
    }

    #[test]
    fn portable_content_is_taken_from_the_common_platforms_in_one_order_on_every_machine() {
        let (amd, arm, windows) = (Some(("linux", "amd64")), Some(("linux", "arm64")), Some(("windows", "amd64")));
        let wasm = Some(("wasip1", "wasm"));
        for (platforms, expected) in [
            (&[arm, amd][..], Some(&["linux/amd64", "linux/arm64"][..])),
            (&[amd, arm, windows], Some(&["linux/amd64", "linux/arm64"])),
            (&[arm, windows], Some(&["linux/arm64"])),
            (&[amd, wasm, arm], Some(&["wasip1/wasm"])),
            (&[windows, Some(("darwin", "arm64"))], None),
            // The only one needs no rule.
            (&[windows], Some(&["windows/amd64"])),
        ] {
            let mut index = index(platforms);
            for (number, entry) in index.manifests.iter_mut().enumerate() {
                entry.digest = Digest::sha256(&[u8::try_from(number).unwrap()]);
            }
            let found = select_portable(&index, &PlatformChoice::default()).ok();
            let names = |(first, other): (&Descriptor, Option<&Descriptor>)| -> Vec<String> {
                std::iter::once(first).chain(other).map(|entry| entry.platform.as_ref().unwrap().to_string()).collect()
            };
            assert_eq!(found.map(names), expected.map(|names| names.iter().map(|&name| name.to_owned()).collect()));
        }
        let same = index(&[amd, arm]);
        assert!(select_portable(&same, &PlatformChoice::default()).unwrap().1.is_none(), "one manifest for both");
    }
}
