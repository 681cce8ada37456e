//! Caps on what a peer may make this client read and follow, each with the name it is raised by.

use std::fmt;
use std::str::FromStr;

use greentic_dist_types::{Counted, ManifestError, ManifestLimits, Mismatch, limits};
use http::HeaderMap;

use crate::{NetError, NetErrorKind};

/// Caps on what a peer may make this client read and follow. An error about one names it; see [`NetError::limit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest manifest or index in bytes. Default 4 MiB, at most 64 MiB.
    pub manifest_bytes: u64,
    /// Most layers of an image manifest. Default 1000, at most 10 000.
    pub layers: usize,
    /// Most entries of an index. Default 1000, at most 10 000.
    pub index_entries: usize,
    /// Most bytes of a manifest's annotations, keys and values together. Default 32 KiB, which is also the most: the record of a
    /// cache entry holds them all.
    pub annotation_bytes: usize,
    /// How many indexes may stand in each other. Default 2.
    pub index_depth: usize,
    /// Largest header of an answer in bytes, names and values of its fields together. Default 64 KiB, at most 256 KiB.
    ///
    /// A header is read somewhat beyond the limits, so that the error can say which it exceeds. Over HTTP/1.1 what has more than some 400 KiB,
    /// or 100 fields beyond their limit, is given up unread: `TooLarge`, whose text names both limits, since the parser does not say
    /// which it was ([`NetError::limit`] is `None`). Over HTTP/2 that is what has 1 MiB beyond the limit, and there a header that is too
    /// large cannot be told from one that is malformed: it counts as broken HTTP/2, and the request is made again, from the second
    /// time on over HTTP/1.1, which tells; a host without HTTP/1.1 ends as `Interrupted`.
    pub header_bytes: u64,
    /// Most fields in the header of an answer. Default 100, at most 1000. Far more are given up unread, as with
    /// [`Limits::header_bytes`].
    pub header_fields: usize,
    /// Largest error body read in bytes; what is more is not read. Default 64 KiB.
    pub error_body_bytes: u64,
    /// Largest answer of a token server in bytes. Default 64 KiB.
    pub token_body_bytes: u64,
    /// Largest token in bytes. Default 32 KiB.
    pub token_bytes: usize,
    /// Most redirects of one request. Default 5.
    pub redirects: usize,
    /// Largest page of tags or repositories in bytes; one of referrers is an index. Default 16 MiB.
    pub page_bytes: u64,
    /// Most pages of one list. Default 10 000.
    pub pages: usize,
    /// Most manifests of one artifact that is copied, those of its indexes and what refers to it included. Default 10 000.
    pub copy_manifests: usize,
    /// Most bytes of these manifests together. They are held in memory. Default 64 MiB.
    pub copy_manifest_bytes: u64,
    /// Most referrers of one manifest, where all of them are wanted: for a copy and a description. Default 10 000.
    pub referrers: usize,
    /// How many steps away from an artifact what refers to it is looked for: a signature of its SBOM is two. Default 8.
    pub referrer_depth: usize,
    /// Most bytes of a list that is held as a whole: those of its pages, and 64 for each entry. Default 64 MiB. A list that is read
    /// entry by entry, or page by page, has no such limit.
    pub list_bytes: u64,
    /// Largest body of a plain GET in bytes, unless the request says otherwise, and largest blob that is copied or saved as a file.
    /// Default 2 GiB.
    pub artifact_bytes: u64,
    /// Largest blob in bytes that is read, whatever its descriptor says. Default: none, what is read is never more than the
    /// descriptor says. See [`BlobRequest::max_bytes`](crate::BlobRequest::max_bytes) for one blob alone.
    pub blob_bytes: u64,
    /// Most bytes that a registry may ask for as the smallest chunk of an upload. Default 64 MiB.
    pub least_chunk_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: limits::MANIFEST_BYTES,
            layers: limits::LAYERS,
            index_entries: limits::INDEX_ENTRIES,
            annotation_bytes: limits::ANNOTATION_BYTES,
            index_depth: limits::INDEX_DEPTH,
            header_bytes: limits::HEADER_BYTES,
            header_fields: limits::HEADER_FIELDS,
            error_body_bytes: limits::ERROR_BODY_BYTES,
            token_body_bytes: limits::TOKEN_BODY_BYTES,
            token_bytes: limits::TOKEN_BYTES,
            redirects: limits::REDIRECTS,
            page_bytes: limits::PAGE_BYTES,
            pages: limits::PAGES,
            copy_manifests: limits::COPY_MANIFESTS,
            copy_manifest_bytes: limits::COPY_MANIFEST_BYTES,
            referrers: limits::REFERRERS,
            referrer_depth: limits::REFERRER_DEPTH,
            list_bytes: limits::LIST_BYTES,
            artifact_bytes: limits::ARTIFACT_BYTES,
            blob_bytes: u64::MAX,
            least_chunk_bytes: limits::LEAST_CHUNK_BYTES,
        }
    }
}

/// One of the [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// [`Limits::manifest_bytes`].
    ManifestBytes,
    /// [`Limits::layers`].
    Layers,
    /// [`Limits::index_entries`].
    IndexEntries,
    /// [`Limits::annotation_bytes`].
    AnnotationBytes,
    /// [`Limits::index_depth`].
    IndexDepth,
    /// [`Limits::header_bytes`].
    HeaderBytes,
    /// [`Limits::header_fields`].
    HeaderFields,
    /// [`Limits::error_body_bytes`].
    ErrorBodyBytes,
    /// [`Limits::token_body_bytes`].
    TokenBodyBytes,
    /// [`Limits::token_bytes`].
    TokenBytes,
    /// [`Limits::redirects`].
    Redirects,
    /// [`Limits::page_bytes`].
    PageBytes,
    /// [`Limits::pages`].
    Pages,
    /// [`Limits::copy_manifests`].
    CopyManifests,
    /// [`Limits::copy_manifest_bytes`].
    CopyManifestBytes,
    /// [`Limits::referrers`].
    Referrers,
    /// [`Limits::referrer_depth`].
    ReferrerDepth,
    /// [`Limits::list_bytes`].
    ListBytes,
    /// [`Limits::artifact_bytes`].
    ArtifactBytes,
    /// [`Limits::blob_bytes`].
    BlobBytes,
    /// [`Limits::least_chunk_bytes`].
    LeastChunkBytes,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::ManifestBytes,
        Self::Layers,
        Self::IndexEntries,
        Self::AnnotationBytes,
        Self::IndexDepth,
        Self::HeaderBytes,
        Self::HeaderFields,
        Self::ErrorBodyBytes,
        Self::TokenBodyBytes,
        Self::TokenBytes,
        Self::Redirects,
        Self::PageBytes,
        Self::Pages,
        Self::CopyManifests,
        Self::CopyManifestBytes,
        Self::Referrers,
        Self::ReferrerDepth,
        Self::ListBytes,
        Self::ArtifactBytes,
        Self::BlobBytes,
        Self::LeastChunkBytes,
    ];

    /// Its name: that of the field, with hyphens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ManifestBytes => "manifest-bytes",
            Self::Layers => "layers",
            Self::IndexEntries => "index-entries",
            Self::AnnotationBytes => "annotation-bytes",
            Self::IndexDepth => "index-depth",
            Self::HeaderBytes => "header-bytes",
            Self::HeaderFields => "header-fields",
            Self::ErrorBodyBytes => "error-body-bytes",
            Self::TokenBodyBytes => "token-body-bytes",
            Self::TokenBytes => "token-bytes",
            Self::Redirects => "redirects",
            Self::PageBytes => "page-bytes",
            Self::Pages => "pages",
            Self::CopyManifests => "copy-manifests",
            Self::CopyManifestBytes => "copy-manifest-bytes",
            Self::Referrers => "referrers",
            Self::ReferrerDepth => "referrer-depth",
            Self::ListBytes => "list-bytes",
            Self::ArtifactBytes => "artifact-bytes",
            Self::BlobBytes => "blob-bytes",
            Self::LeastChunkBytes => "least-chunk-bytes",
        }
    }

    /// The most it is ever raised to; [`u64::MAX`] where nothing but the caller decides.
    pub fn most(self) -> u64 {
        let count = |most: usize| u64::try_from(most).unwrap_or(u64::MAX);
        match self {
            Self::ManifestBytes => limits::MOST_MANIFEST_BYTES,
            Self::Layers => count(limits::MOST_LAYERS),
            Self::IndexEntries => count(limits::MOST_INDEX_ENTRIES),
            Self::AnnotationBytes => count(limits::ANNOTATION_BYTES),
            Self::HeaderBytes => limits::MOST_HEADER_BYTES,
            Self::HeaderFields => count(limits::MOST_HEADER_FIELDS),
            _ => u64::MAX,
        }
    }

    /// What it limits.
    const fn what(self) -> &'static str {
        match self {
            Self::ManifestBytes => "the size of the manifest",
            Self::Layers => "the number of layers",
            Self::IndexEntries => "the number of entries in the index",
            Self::AnnotationBytes => "the size of the annotations",
            Self::IndexDepth => "the nesting of indexes",
            Self::HeaderBytes => "the size of the answer's header",
            Self::HeaderFields => "the number of fields in the answer's header",
            Self::ErrorBodyBytes => "the size of the error body",
            Self::TokenBodyBytes => "the size of the token server's answer",
            Self::TokenBytes => "the size of the token",
            Self::Redirects => "the number of redirects",
            Self::PageBytes => "the size of a page",
            Self::Pages => "the number of pages",
            Self::CopyManifests => "the number of manifests that belong to it",
            Self::CopyManifestBytes => "the size of the manifests that belong to it",
            Self::Referrers => "the number of referrers",
            Self::ReferrerDepth => "the number of steps to what refers to it",
            Self::ListBytes => "the size of the whole list",
            Self::ArtifactBytes => "the size of the answer",
            Self::BlobBytes => "the size of the blob",
            Self::LeastChunkBytes => "the smallest chunk the registry takes",
        }
    }

    /// What a person can do who is at this limit of `in_force`.
    pub(crate) fn advice(self, in_force: u64) -> String {
        let name = self.name();
        if in_force >= self.most() {
            return format!("the limit `{name}` is as high as it can be set");
        }
        format!(
            "if this server is to be trusted with more, raise the limit: --set-limit {name}={}",
            in_force.saturating_mul(2).max(1)
        )
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No limit has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no limit has this name")]
pub struct UnknownLimit;

impl FromStr for Limit {
    type Err = UnknownLimit;

    fn from_str(name: &str) -> Result<Self, UnknownLimit> {
        Self::ALL.into_iter().find(|limit| limit.name() == name).ok_or(UnknownLimit)
    }
}

impl Limits {
    /// The limit that is in force: never more than [`Limit::most`].
    pub fn get(&self, limit: Limit) -> u64 {
        let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let value = match limit {
            Limit::ManifestBytes => self.manifest_bytes,
            Limit::Layers => count(self.layers),
            Limit::IndexEntries => count(self.index_entries),
            Limit::AnnotationBytes => count(self.annotation_bytes),
            Limit::IndexDepth => count(self.index_depth),
            Limit::HeaderBytes => self.header_bytes,
            Limit::HeaderFields => count(self.header_fields),
            Limit::ErrorBodyBytes => self.error_body_bytes,
            Limit::TokenBodyBytes => self.token_body_bytes,
            Limit::TokenBytes => count(self.token_bytes),
            Limit::Redirects => count(self.redirects),
            Limit::PageBytes => self.page_bytes,
            Limit::Pages => count(self.pages),
            Limit::CopyManifests => count(self.copy_manifests),
            Limit::CopyManifestBytes => self.copy_manifest_bytes,
            Limit::Referrers => count(self.referrers),
            Limit::ReferrerDepth => count(self.referrer_depth),
            Limit::ListBytes => self.list_bytes,
            Limit::ArtifactBytes => self.artifact_bytes,
            Limit::BlobBytes => self.blob_bytes,
            Limit::LeastChunkBytes => self.least_chunk_bytes,
        };
        value.min(limit.most())
    }

    /// The same limits with another value for one of them; a value above [`Limit::most`] means that.
    #[must_use]
    pub fn with(mut self, limit: Limit, value: u64) -> Self {
        let value = value.min(limit.most());
        let count = usize::try_from(value).unwrap_or(usize::MAX);
        match limit {
            Limit::ManifestBytes => self.manifest_bytes = value,
            Limit::Layers => self.layers = count,
            Limit::IndexEntries => self.index_entries = count,
            Limit::AnnotationBytes => self.annotation_bytes = count,
            Limit::IndexDepth => self.index_depth = count,
            Limit::HeaderBytes => self.header_bytes = value,
            Limit::HeaderFields => self.header_fields = count,
            Limit::ErrorBodyBytes => self.error_body_bytes = value,
            Limit::TokenBodyBytes => self.token_body_bytes = value,
            Limit::TokenBytes => self.token_bytes = count,
            Limit::Redirects => self.redirects = count,
            Limit::PageBytes => self.page_bytes = value,
            Limit::Pages => self.pages = count,
            Limit::CopyManifests => self.copy_manifests = count,
            Limit::CopyManifestBytes => self.copy_manifest_bytes = value,
            Limit::Referrers => self.referrers = count,
            Limit::ReferrerDepth => self.referrer_depth = count,
            Limit::ListBytes => self.list_bytes = value,
            Limit::ArtifactBytes => self.artifact_bytes = value,
            Limit::BlobBytes => self.blob_bytes = value,
            Limit::LeastChunkBytes => self.least_chunk_bytes = value,
        }
        self
    }

    /// The same with nothing above [`Limit::most`].
    pub(crate) fn bounded(self) -> Self {
        Limit::ALL.into_iter().fold(self, |limits, limit| limits.with(limit, limits.get(limit)))
    }

    /// Those a manifest is parsed within.
    pub(crate) const fn of_manifests(&self) -> ManifestLimits {
        ManifestLimits {
            bytes: self.manifest_bytes,
            layers: self.layers,
            index_entries: self.index_entries,
            annotation_bytes: self.annotation_bytes,
        }
    }

    /// Refuses the header of an answer that is larger than allowed.
    ///
    /// # Errors
    /// `TooLarge`.
    pub(crate) fn check_header(&self, headers: &HeaderMap) -> Result<(), NetError> {
        if headers.len() > self.header_fields {
            return Err(self.exceeded(Limit::HeaderFields));
        }
        let bytes = headers.iter().map(|(name, value)| name.as_str().len().saturating_add(value.len()));
        let bytes = u64::try_from(bytes.fold(0, usize::saturating_add)).unwrap_or(u64::MAX);
        if bytes > self.header_bytes { Err(self.exceeded(Limit::HeaderBytes)) } else { Ok(()) }
    }

    /// The error about a manifest that is no usable one.
    pub(crate) fn refuse_manifest(&self, error: ManifestError) -> NetError {
        let unusable = |kind| NetError::new(kind, "the answer is no usable manifest");
        let too_large = |limit| self.named(limit, unusable(NetErrorKind::TooLarge));
        let refused = match &error {
            ManifestError::TooLarge { .. } => too_large(Limit::ManifestBytes),
            ManifestError::TooMany { what: Counted::Layers | Counted::Blobs, .. } => too_large(Limit::Layers),
            ManifestError::TooMany { what: Counted::Manifests, .. } => too_large(Limit::IndexEntries),
            ManifestError::TooMany { what: Counted::AnnotationBytes, .. } => too_large(Limit::AnnotationBytes),
            ManifestError::Unsupported(_) => unusable(NetErrorKind::Unsupported),
            _ => unusable(NetErrorKind::Protocol),
        };
        refused.with_source(error)
    }

    /// The error about what has more of something than a limit allows: `TooLarge`, and `Protocol` for indexes that are nested too
    /// deeply. It names the limit ([`NetError::limit`]), and how that is raised is among its hints.
    pub fn exceeded(&self, limit: Limit) -> NetError {
        let in_force = self.get(limit);
        let detail = format!("{} exceeds the limit `{limit}` of {in_force}", limit.what());
        let kind = if limit == Limit::IndexDepth { NetErrorKind::Protocol } else { NetErrorKind::TooLarge };
        NetError::new(kind, detail).with_limit(limit, limit.advice(in_force))
    }

    /// The error about a header so large that it was not read to its end: it exceeds one of two limits, and nobody knows which.
    pub(crate) fn unread_header(&self, error: NetError) -> NetError {
        let [fields, bytes] = [Limit::HeaderFields, Limit::HeaderBytes].map(|limit| (limit, self.get(limit)));
        let detail = format!(
            "the answer's header is not read to its end: it far exceeds the limit `{}` of {} or `{}` of {}",
            fields.0, fields.1, bytes.0, bytes.1
        );
        let error = error.with_detail(detail);
        [fields, bytes].into_iter().fold(error, |error, (limit, in_force)| error.with_hint(limit.advice(in_force)))
    }

    /// Says of a failure because of too large a body which limit that was; other failures stay as they are.
    pub(crate) fn name(&self, limit: Limit, error: NetError) -> NetError {
        let is_body = matches!(error.mismatch(), Some(Mismatch::TooLarge { .. }));
        if is_body && error.limit().is_none() { self.named(limit, error) } else { error }
    }

    fn named(&self, limit: Limit, error: NetError) -> NetError {
        let detail = format!("{} exceeds the limit `{limit}`", limit.what());
        error.with_detail(detail).with_limit(limit, limit.advice(self.get(limit)))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn every_limit_has_a_name_a_default_within_its_bounds_and_can_be_set() {
        for limit in Limit::ALL {
            assert_eq!(limit.name().parse(), Ok(limit));
            let default = Limits::default().get(limit);
            assert!(default > 0 && default <= limit.most(), "{limit}");
            assert_eq!(Limits::default().with(limit, 1).get(limit), 1, "{limit}");
            let highest = Limits::default().with(limit, u64::MAX);
            assert_eq!(highest.get(limit), limit.most(), "{limit}");
            assert!(highest.exceeded(limit).hints().iter().any(|hint| hint.contains(limit.name())), "{limit}");
        }
        assert_eq!("manifest_bytes".parse::<Limit>(), Err(UnknownLimit));
        let raised = Limits { manifest_bytes: u64::MAX, header_fields: usize::MAX, ..Limits::default() }.bounded();
        assert_eq!((raised.manifest_bytes, raised.header_fields), (64 << 20, 1_000));
    }

    #[test]
    fn an_error_says_which_limit_it_was_and_how_it_is_raised() {
        let error = Limits::default().exceeded(Limit::Layers);
        assert_eq!((error.kind(), error.limit()), (NetErrorKind::TooLarge, Some(Limit::Layers)));
        assert_eq!(error.to_string(), "the number of layers exceeds the limit `layers` of 1000");
        assert!(error.hints().concat().ends_with("--set-limit layers=2000"), "{:?}", error.hints());
        let other = Limits::default().name(Limit::Layers, NetError::new(NetErrorKind::NotFound, ""));
        assert_eq!((other.limit(), other.has_own_hints()), (None, false));
    }

    #[test]
    fn a_header_is_measured_by_its_fields_and_by_their_bytes() {
        let mut headers = HeaderMap::new();
        for number in 0..100 {
            headers.append(HeaderName::from_static("x-a"), HeaderValue::from(number));
        }
        let limits = Limits::default();
        assert!(limits.check_header(&headers).is_ok());
        headers.append("x-a", HeaderValue::from_static("one more"));
        assert_eq!(limits.check_header(&headers).unwrap_err().limit(), Some(Limit::HeaderFields));
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_bytes(&vec![b'a'; (64 << 10) - 3]).unwrap());
        assert!(limits.check_header(&headers).is_ok());
        headers.insert("b", HeaderValue::from_static(""));
        assert_eq!(limits.check_header(&headers).unwrap_err().limit(), Some(Limit::HeaderBytes));
    }
}
