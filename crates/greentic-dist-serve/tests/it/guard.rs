//! Who is answered, and what a request must look like.

use greentic_dist_serve::{Registry, ServeOptions, TreeLayout};
use greentic_dist_types::Secret;
use serde_json::json;

use crate::slow::raw;
use crate::tree::{Served, question};
use crate::{ask, get};

/// The status of what is answered to these bytes.
fn status(served: &Served, request: &str) -> u16 {
    let answer = raw(served.running.addr(), request.as_bytes());
    answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{request:?}: {answer:?}"))
}

#[test]
fn row_83_a_request_names_one_host_and_that_is_this_machine() {
    let served = Served::flat();
    for (head, wanted) in [
        ("GET /v2/ HTTP/1.1\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nHost: [::1].evil.example\r\n", 403),
        ("GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1:x.evil.example\r\n", 403),
        ("GET http://evil.example/v2/ HTTP/1.1\r\nHost: localhost\r\n", 403),
        ("GET http://localhost/v2/ HTTP/1.1\r\nHost: localhost\r\n", 200),
        ("GET /v2/ HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n", 403),
        ("GET /v2/ HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: none\r\n", 200),
        ("GET /v2/ HTTP/1.0\r\n", 200),
    ] {
        assert_eq!(status(&served, &format!("{head}Connection: close\r\n\r\n")), wanted, "{head}");
    }
}

#[test]
fn only_a_host_that_can_be_one_is_repeated_in_a_reference() {
    let served = Served::flat();
    let options = ServeOptions::new().token(Some(Secret::new("s3cret")));
    let registry = Registry::over_tree(served.dir.path().join("root"), TreeLayout::Flat).unwrap();
    let running = registry.start_with(([127, 0, 0, 1], 0).into(), options).unwrap();
    let document = question("part", "1.2.0").to_string();
    for (host, repeated) in [
        ("registry.example:5000", "registry.example:5000"),
        ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ("a:b:c", &*running.host()),
        ("[::1].evil", &*running.host()),
        ("127.0.0.1:80@evil", &*running.host()),
    ] {
        let head = format!(
            "POST /distributor-api/resolve-component HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer s3cret\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{document}",
            document.len()
        );
        let answer = raw(running.addr(), head.as_bytes());
        assert!(answer.contains(&format!("\"{repeated}/components/part@sha256:")), "{host}: {answer}");
    }
}

#[test]
fn refused_methods_come_with_those_that_are_taken() {
    let served = Served::flat();
    for (method, target, allow) in [
        ("PUT", "/v2/packs/kit/manifests/1.0.0", "GET, HEAD"),
        ("POST", "/v2/packs/kit/blobs/uploads/", ""),
        ("DELETE", "/distributor-api/warm-pack", "POST"),
        ("GET", "/distributor-api/resolve-component", "POST"),
        ("POST", "/distributor-api/pack-status", "GET"),
    ] {
        let answer = ask(&served.running, method, target, &[], &[]);
        assert_eq!((answer.status, answer.headers.get("allow")), (405, Some(allow)), "{method} {target}");
    }
}

#[test]
fn row_84_a_peer_that_asks_whether_to_send_too_much_is_told_not_to() {
    let served = Served::flat();
    let head = "POST /distributor-api/warm-pack HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n";
    assert_eq!(status(&served, head), 413);
}

#[test]
fn a_question_without_one_of_its_fields_is_refused_by_the_fields_name() {
    let served = Served::flat();
    for field in ["tenant", "environment_id", "pack_id", "component_id", "version"] {
        for wrong in [None, Some(json!(7))] {
            let mut document = question("part", "1.2.0");
            match wrong {
                Some(wrong) => document[field] = wrong,
                None => drop(document.as_object_mut().unwrap().remove(field)),
            }
            let answer = served.post("resolve-component", &document);
            assert_eq!(answer.status, 400, "{document}");
            assert!(answer.text().contains(&format!("`{field}`")), "{}", answer.text());
        }
    }
    let mut document = question("part", "1.2.0");
    document["tenant"]["tenant_id"] = json!(null);
    assert!(served.post("resolve-component", &document).text().contains("`tenant.tenant_id`"));
}

#[test]
fn an_id_that_is_no_repository_name_is_answered_and_not_listed() {
    let served = Served::flat();
    served.file("root/components/Upper-1.0.0.wasm", b"\0asm");
    let answer = served.resolve("Upper", "1.0.0").json();
    assert_eq!(answer["artifact"], json!({ "kind": "distributor_internal", "handle": "components/Upper/1.0.0" }));
    assert_eq!(get(&served.running, "/v2/components/Upper/manifests/1.0.0").status, 400);
    assert!(!get(&served.running, "/v2/_catalog").text().contains("Upper"));
}
