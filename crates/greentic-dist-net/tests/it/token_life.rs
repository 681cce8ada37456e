//! Tokens that are good for a few requests only, while one blob is on its way for many of them.

use std::sync::{Arc, Mutex};

use greentic_dist_net::{PushedBlob, UploadMode};
use greentic_dist_testkit::{LyingServer, Request, Response, fixture};

use crate::push::source;
use crate::support::{descriptor, net, read, repository};

/// Requests and what was shown with them: `401 Bearer 1 bytes=10-`.
type Lines = Arc<Mutex<Vec<String>>>;

/// A registry that takes a token for `uses` requests, and its token server.
fn registry(
    uses: usize,
    about: &'static str,
    answer: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> (LyingServer, Lines) {
    let lines = Lines::default();
    let (seen, life) = (Arc::clone(&lines), Mutex::new((0, 0)));
    let server = LyingServer::start(move |request, ctx| {
        let (number, left) = &mut *life.lock().unwrap();
        let mut lines = seen.lock().unwrap();
        if request.path == "/token" {
            (*number, *left) = (*number + 1, uses);
            lines.push(format!("token {number}"));
            return Response::ok(format!(r#"{{"token":"{number}"}}"#));
        }
        let shown = request.header("authorization").and_then(|shown| shown.strip_prefix("Bearer ")).unwrap_or("-");
        let is_good = *left > 0 && shown == number.to_string();
        let verdict = if is_good { "taken" } else { "refused" };
        let about = request.header(about).unwrap_or("-");
        lines.push(format!("{} {about} with {shown}: {verdict}", request.method));
        if !is_good {
            return Response::bearer_challenge(&ctx.url("/token"), "s", "");
        }
        *left -= 1;
        answer(request)
    });
    (server, lines)
}

#[tokio::test]
async fn a_blob_that_outlives_many_tokens_is_read_once_with_one_token_request_for_each() {
    const ANSWER: usize = 10_000;
    let bytes = fixture::random_bytes(12, 10 * ANSWER);
    let blob = bytes.clone();
    let (server, lines) = registry(2, "range", move |request| {
        let is_last = request.range(100_000) == Some(Some((90_000, 99_999)));
        let answer = Response::ranged(request, "\"e\"", blob.clone());
        if is_last { answer } else { answer.cut_after(ANSWER) }
    });
    let net = net();
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    let got = read(repository.blob(&descriptor(&bytes)).open().await.unwrap()).await.unwrap();
    assert!(got == bytes);
    let mut expected = vec!["GET - with -: refused".to_owned()];
    for token in 1..=5 {
        let from = (token - 1) * 2 * ANSWER;
        let range = |at: usize| if at == 0 { "-".to_owned() } else { format!("bytes={at}-") };
        if token > 1 {
            expected.push(format!("GET {} with {}: refused", range(from), token - 1));
        }
        expected.push(format!("token {token}"));
        expected.push(format!("GET {} with {token}: taken", range(from)));
        expected.push(format!("GET {} with {token}: taken", range(from + ANSWER)));
    }
    assert_eq!(*lines.lock().unwrap(), expected);
    assert_eq!(net.stats().token_requests, 5);
    let entries = server.journal().entries();
    let sent: u64 = entries
        .iter()
        .filter(|entry| entry.path.contains("/blobs/") && entry.status < 300)
        .map(|entry| entry.body_bytes_sent)
        .sum();
    assert_eq!(sent, 100_000, "every byte once");
}

#[tokio::test]
async fn chunks_that_outlive_many_tokens_are_taken_once_with_one_token_request_for_each() {
    let bytes = fixture::random_bytes(13, 40);
    let taken = Arc::new(Mutex::new(Vec::new()));
    let store = Arc::clone(&taken);
    let (server, lines) = registry(3, "content-range", move |request| {
        store.lock().unwrap().extend_from_slice(&request.body);
        match request.method.as_str() {
            "PUT" => Response::status(201, "").header("Location", "/v2/acme/hello/blobs/x"),
            _ => Response::status(202, "").header("Location", "/s"),
        }
    });
    let net = net();
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    let upload = repository.put_blob(source(&bytes)).check_first(false).mode(UploadMode::Chunked { chunk_bytes: 4 });
    assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent);
    let chunk = |number: usize| format!("PATCH {}-{}", number * 4, number * 4 + 3);
    let mut work = vec!["POST -".to_owned()];
    work.extend((0..10).map(chunk));
    work.push("PUT -".to_owned());
    let mut expected = Vec::new();
    for (index, three) in work.chunks(3).enumerate() {
        let before = if index == 0 { "-".to_owned() } else { index.to_string() };
        expected.push(format!("{} with {before}: refused", three[0]));
        expected.push(format!("token {}", index + 1));
        expected.extend(three.iter().map(|request| format!("{request} with {}: taken", index + 1)));
    }
    assert_eq!(*lines.lock().unwrap(), expected);
    assert_eq!(net.stats().token_requests, 4);
    assert!(*taken.lock().unwrap() == bytes, "every byte is taken once");
}
