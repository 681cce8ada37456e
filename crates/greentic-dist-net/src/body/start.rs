//! What a transfer is asked for.

/// Where and how a transfer begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// The first byte wanted.
    pub(crate) offset: u64,
    /// The size of the whole body, when it is known beforehand.
    pub(crate) size: Option<u64>,
    /// Most bytes of a body whose size is not known beforehand.
    pub(crate) limit: u64,
    /// Whether the body is named by its digest: any server's bytes of it are the same, no validator is needed to resume.
    pub(crate) content_addressed: bool,
    /// The end of the only range that is wanted, of a body whose size is known: an answer that is not exactly that range is
    /// an error of kind `Protocol`.
    pub(crate) range_end: Option<u64>,
}
