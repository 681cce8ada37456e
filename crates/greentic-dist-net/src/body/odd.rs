//! What is odd about an answer, told when its bytes turn out not to be the wanted ones.

use http::header;

use crate::NetError;
use crate::sent::GivenSecrets;
use crate::transport::Reply;

/// What a web page in place of content means.
pub(crate) const WEB_PAGE: &str = "the answer is a web page: is there a proxy or a login page in between?";

/// What the headers of a body's answers say that would explain wrong bytes. On its own it is no failure: the digest decides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Odd(Option<String>);

impl Odd {
    /// Looks at one more answer; what an earlier one said stays, since its bytes are a part of the whole.
    pub(super) fn look_at(&mut self, reply: &Reply, secrets: &GivenSecrets) {
        if self.0.is_some() {
            return;
        }
        let content_type = reply.header(header::CONTENT_TYPE).unwrap_or_default();
        let is_page = content_type.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("text/html"));
        self.0 = match reply.encoding(secrets) {
            _ if is_page => Some(WEB_PAGE.to_owned()),
            Some(name) => Some(format!(
                "the answer has the content encoding `{name}`, which was not asked for: is there a proxy that compresses?"
            )),
            None => None,
        };
    }

    /// The error about wrong bytes with what may explain it.
    pub(crate) fn explain(&self, error: NetError) -> NetError {
        match &self.0 {
            Some(hint) => error.with_hint(hint.clone()),
            None => error,
        }
    }
}
