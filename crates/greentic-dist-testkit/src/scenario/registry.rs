//! The answers of a lying registry.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use greentic_dist_types::Digest;
use serde_json::json;

use super::lie::take;
use super::{Auth, Lie, Part};
use crate::fixture::{Artifact, Document, artifact, index};
use crate::{Ctx, Request, Response};

const SERVICE: &str = "lying-registry";

/// What the registry holds and how it lies about it.
pub(super) struct State {
    pub(super) lies: Vec<Lie>,
    pub(super) tokens: HashSet<String>,
    auth: Auth,
    documents: HashMap<String, Document>,
    tags: HashMap<String, Digest>,
    blobs: HashMap<String, Bytes>,
    decoy: Artifact,
    issued: usize,
}

impl State {
    pub(super) fn new(first: &Artifact, tag: &str, lies: Vec<Lie>, auth: Auth) -> Self {
        let decoy = artifact("application/wasm", "\0asm this is not what you asked for");
        let mut state = Self {
            lies,
            tokens: HashSet::new(),
            auth,
            documents: HashMap::new(),
            tags: HashMap::new(),
            blobs: HashMap::new(),
            decoy: decoy.clone(),
            issued: 0,
        };
        for blob in decoy.blobs() {
            state.blobs.insert(blob.digest.to_string(), Bytes::from(blob.bytes.clone()));
        }
        state.publish(first, tag);
        state
    }

    pub(super) fn publish(&mut self, artifact: &Artifact, tag: &str) {
        for blob in artifact.blobs() {
            self.blobs.insert(blob.digest.to_string(), Bytes::from(blob.bytes.clone()));
        }
        let document = Document {
            media_type: artifact.media_type.clone(),
            bytes: artifact.manifest_bytes.clone(),
            digest: artifact.manifest_digest,
        };
        self.publish_document(&document, Some(tag));
    }

    pub(super) fn publish_document(&mut self, document: &Document, tag: Option<&str>) {
        self.documents.insert(document.digest.to_string(), document.clone());
        if let Some(tag) = tag {
            self.tags.insert(tag.to_owned(), document.digest);
        }
    }

    pub(super) fn answer(&mut self, repository: &str, request: &Request, ctx: &Ctx) -> Response {
        let below = request.path.strip_prefix("/v2/").unwrap_or_default();
        let rest = below.strip_prefix(repository).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
        let part = match rest.split('/').next() {
            _ if request.path == "/token" => Part::Token,
            Some("manifests") => Part::Manifest,
            Some("blobs") => Part::Blob,
            Some("tags") => Part::Tags,
            _ => Part::All,
        };
        let answer = self
            .lies
            .iter_mut()
            .find_map(|lie| lie.intercept(part))
            .or_else(|| (part != Part::Token).then(|| self.challenge(repository, request, ctx)).flatten())
            .unwrap_or_else(|| match (part, rest.split_once('/')) {
                (Part::Token, _) => self.token(request),
                (Part::Manifest, Some((_, name))) => self.manifest(name, request),
                (Part::Blob, Some((_, digest))) => self.blob(digest, request),
                (Part::Tags, Some((_, "list"))) => self.tag_list(repository),
                _ if below.is_empty() && request.path.starts_with("/v2") => Response::ok("{}"),
                _ => Response::oci_error(404, "NAME_UNKNOWN", "repository name not known to registry"),
            });
        match self.find(|lie| if let Lie::Slow(delay) = lie { Some(*delay) } else { None }) {
            Some(delay) => answer.delay(delay),
            None => answer,
        }
    }

    fn find<T>(&mut self, pick: impl FnMut(&mut Lie) -> Option<T>) -> Option<T> {
        self.lies.iter_mut().find_map(pick)
    }

    /// The challenge for a request that does not show what [`Auth`] asks for.
    fn challenge(&mut self, repository: &str, request: &Request, ctx: &Ctx) -> Option<Response> {
        let shown = request.header("authorization").unwrap_or_default();
        match &self.auth {
            Auth::None => None,
            Auth::Basic { user, password } => {
                (!is_basic(shown, user, password)).then(|| Response::basic_challenge(SERVICE))
            }
            Auth::AnonymousBearer | Auth::Bearer { .. } => {
                let refused = self.lies.iter().any(|lie| matches!(lie, Lie::TokenRefused));
                let known = shown.strip_prefix("Bearer ").is_some_and(|token| self.tokens.contains(token));
                if known && !refused {
                    return None;
                }
                let realm = self
                    .find(|lie| if let Lie::Realm(realm) = lie { Some(realm.clone()) } else { None })
                    .unwrap_or_else(|| ctx.url("/token"));
                Some(Response::bearer_challenge(&realm, SERVICE, &format!("repository:{repository}:pull")))
            }
        }
    }

    fn token(&mut self, request: &Request) -> Response {
        let lie = self.find(|lie| match lie {
            Lie::TokenBody(body) => Some(Response::ok(body.clone()).header("Content-Type", "application/json")),
            Lie::EndlessToken => {
                Some(Response::ok("{\"token\":\"").header("Content-Type", "application/json").endless())
            }
            _ => None,
        });
        if let Some(answer) = lie {
            return answer;
        }
        if let Auth::Bearer { user, password } = &self.auth
            && !is_basic(request.header("authorization").unwrap_or_default(), user, password)
        {
            return Response::oci_error(401, "UNAUTHORIZED", "incorrect username or password");
        }
        self.issued += 1;
        let token = format!("token-{}", self.issued);
        self.tokens.insert(token.clone());
        let body = json!({ "token": token, "expires_in": 300 });
        Response::ok(body.to_string()).header("Content-Type", "application/json")
    }

    fn tag_list(&mut self, repository: &str) -> Response {
        let mut tags: Vec<&String> = self.tags.keys().collect();
        tags.sort();
        let body = json!({ "name": repository, "tags": tags }).to_string();
        let answer = Response::ok(body).header("Content-Type", "application/json");
        match self.find(|lie| if let Lie::TagsLink(link) = lie { Some(link.clone()) } else { None }) {
            Some(link) => answer.header("Link", link),
            None => answer,
        }
    }

    /// The document a name stands for, after the lies about which one that is.
    fn document(&mut self, name: &str) -> Option<(Document, String)> {
        let lie = self.lies.iter().find(|lie| matches!(lie, Lie::WrongManifestEchoed | Lie::IndexLoop)).cloned();
        match lie {
            Some(Lie::WrongManifestEchoed) => {
                let decoy = Document {
                    media_type: self.decoy.media_type.clone(),
                    bytes: self.decoy.manifest_bytes.clone(),
                    digest: self.decoy.manifest_digest,
                };
                let header = if name.contains(':') { name.to_owned() } else { decoy.digest.to_string() };
                Some((decoy, header))
            }
            Some(Lie::IndexLoop) => {
                let document = index(&[(self.decoy.descriptor(), None)]);
                let header = if name.contains(':') { name.to_owned() } else { document.digest.to_string() };
                Some((document, header))
            }
            _ => {
                let digest = match self.tags.get(name) {
                    Some(digest) => digest.to_string(),
                    None => name.to_owned(),
                };
                let mut document = self.documents.get(&digest)?.clone();
                if self.lies.iter().any(|lie| matches!(lie, Lie::PaddedManifest)) {
                    document.bytes.push(b' ');
                }
                Some((document, digest))
            }
        }
    }

    fn manifest(&mut self, name: &str, request: &Request) -> Response {
        let early = self.find(|lie| match lie {
            Lie::HeadRefused(status) if request.method == "HEAD" => {
                Some(Response::oci_error(*status, "UNSUPPORTED", "the operation is unsupported"))
            }
            Lie::RedirectManifest { status, base } => {
                Some(Response::redirect(*status, format!("{base}{}", request.target)))
            }
            Lie::UnaskedNotModified => Some(Response::not_modified("\"unasked\"")),
            _ => None,
        });
        if let Some(answer) = early {
            return answer;
        }
        let Some((document, digest)) = self.document(name) else {
            return Response::oci_error(404, "MANIFEST_UNKNOWN", "manifest unknown");
        };
        let etag = self.etag(&digest);
        if !etag.is_empty() && request.header("if-none-match") == Some(&etag) {
            return Response::not_modified(etag).header("Docker-Content-Digest", digest);
        }
        let media_type = self
            .find(|lie| if let Lie::ContentType(text) = lie { Some(text.clone()) } else { None })
            .unwrap_or(document.media_type);
        let header = self.find(|lie| match lie {
            Lie::DigestHeader(text) => Some(text.clone()),
            Lie::NoDigestHeader => Some(String::new()),
            _ => None,
        });
        let mut answer = Response::ok(document.bytes).header("Content-Type", media_type);
        let header = header.unwrap_or(digest);
        if !header.is_empty() {
            answer = answer.header("Docker-Content-Digest", header);
        }
        if !etag.is_empty() {
            answer = answer.header("ETag", etag);
        }
        if request.method == "HEAD" {
            return answer;
        }
        self.find(|lie| match lie {
            Lie::CutManifest { after, times } => take(times).then(|| answer.clone().cut_after(*after)),
            Lie::StallManifest(after) => Some(answer.clone().stall_after(*after)),
            Lie::EndlessManifest => Some(answer.clone().endless()),
            _ => None,
        })
        .unwrap_or(answer)
    }

    fn etag(&self, digest: &str) -> String {
        if self.lies.iter().any(|lie| matches!(lie, Lie::NoEtag)) {
            return String::new();
        }
        let weak = self.lies.iter().any(|lie| matches!(lie, Lie::WeakEtag));
        format!("{}\"{digest}\"", if weak { "W/" } else { "" })
    }

    fn blob(&mut self, digest: &str, request: &Request) -> Response {
        let Some(mut body) = self.blobs.get(digest).cloned() else {
            return Response::oci_error(404, "BLOB_UNKNOWN", "blob unknown to registry");
        };
        let elsewhere = self.find(|lie| match lie {
            Lie::RedirectBlob { status, base } => Some(Response::redirect(*status, format!("{base}/blob/{digest}"))),
            Lie::RedirectBlobTo { status, url } => Some(Response::redirect(*status, url.clone())),
            Lie::RedirectLoop => Some(Response::redirect(307, request.target.clone())),
            _ => None,
        });
        if let Some(answer) = elsewhere {
            return answer;
        }
        for lie in &self.lies {
            match lie {
                Lie::WrongBlob => {
                    let mut wrong = body.to_vec();
                    let middle = wrong.len() / 2;
                    if let Some(byte) = wrong.get_mut(middle) {
                        *byte ^= 1;
                    }
                    body = Bytes::from(wrong);
                }
                Lie::ShortBlob(bytes) => body.truncate(*bytes),
                _ => {}
            }
        }
        let etag = self.etag(digest);
        if !etag.is_empty() && request.header("if-none-match") == Some(&etag) {
            return Response::not_modified(etag);
        }
        let answer = self
            .ranged(&etag, &body, request)
            .header("Content-Type", "application/octet-stream")
            .header("Docker-Content-Digest", digest);
        if request.method == "HEAD" {
            return answer;
        }
        self.find(|lie| match lie {
            Lie::OverLongBlob(extra) => Some(answer.clone().over_long(*extra)),
            Lie::OverLongBlobChunked(extra) => Some(answer.clone().over_long(*extra).chunked()),
            Lie::EndlessBlob => Some(answer.clone().endless()),
            Lie::ChunkedBlob => Some(answer.clone().chunked()),
            Lie::CutBlob { after, times } => take(times).then(|| answer.clone().cut_after(*after)),
            Lie::ResetBlob { after, times } => take(times).then(|| answer.clone().reset_after(*after)),
            Lie::StallBlob { after, times } => take(times).then(|| answer.clone().stall_after(*after)),
            Lie::DripBlob { piece, interval } => Some(answer.clone().drip(*piece, *interval)),
            _ => None,
        })
        .unwrap_or(answer)
    }

    fn ranged(&mut self, etag: &str, body: &Bytes, request: &Request) -> Response {
        let honest = Response::ranged(request, etag, body.clone());
        let total = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let Some(Some((first, last))) = request.range(total) else { return honest };
        let from = usize::try_from(first).unwrap_or(usize::MAX);
        let upto = usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1);
        let asked = body.slice(from..upto);
        self.find(|lie| match lie {
            Lie::RangeIgnored => Some(Response::ok(body.clone()).header("ETag", etag)),
            Lie::WrongContentRange => Some(
                Response::status(206, asked.clone())
                    .header("Content-Range", format!("bytes {}-{}/{total}", first + 1, last + 1)),
            ),
            Lie::WrongRangeBytes => Some(
                Response::status(206, body.slice(..asked.len()))
                    .header("Content-Range", format!("bytes {first}-{last}/{total}")),
            ),
            Lie::NoContentRange => Some(Response::status(206, asked.clone())),
            Lie::RangeRefused(status) => Some(
                Response::oci_error(*status, "UNSUPPORTED", "no ranges here")
                    .header("Content-Range", format!("bytes */{total}")),
            ),
            _ => None,
        })
        .unwrap_or(honest)
    }
}

fn is_basic(shown: &str, user: &str, password: &str) -> bool {
    shown.strip_prefix("Basic ").and_then(crate::journal::decode_base64) == Some(format!("{user}:{password}"))
}
