use proptest::prelude::*;

use super::*;

fn pin(letter: &str) -> String {
    format!("sha256:{}", letter.repeat(64))
}

fn parse(text: &str) -> Lockfile {
    Lockfile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The problems of a text that must be refused, one line each.
fn refusal(text: impl AsRef<[u8]>) -> Vec<String> {
    let error = Lockfile::parse(text.as_ref()).expect_err("it was accepted");
    assert_eq!(error.total(), error.problems().len());
    error.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn every_documented_shape_is_read() {
    let (a, b) = (pin("a"), pin("b"));
    let hex = "a".repeat(64);
    for (text, reference, digest) in [
        (r#"["ghcr.io/acme/x:1"]"#.to_owned(), Some("ghcr.io/acme/x:1"), None),
        (r#"[{"reference":"oci://ghcr.io/acme/x"}]"#.to_owned(), Some("oci://ghcr.io/acme/x"), None),
        (r#"[{"ref":"./x.wasm"}]"#.to_owned(), Some("./x.wasm"), None),
        (format!(r#"[{{"digest":"{a}"}}]"#), None, Some(&a)),
        (format!(r#"[{{"digest":"{hex}"}}]"#), None, Some(&a)),
        (format!(r#"["{a}"]"#), None, Some(&a)),
        (format!(r#"[{{"ref":"{a}","digest":"{a}"}}]"#), None, Some(&a)),
        (format!(r#"[{{"reference":"a.b/c:1","digest":"{b}"}}]"#), Some("a.b/c:1"), Some(&b)),
        (r#"[{"ref":"a.b/second","reference":"a.b/first"}]"#.to_owned(), Some("a.b/first"), None),
        (r#"[{"reference":"a.b/first","ref":"a.b/second"}]"#.to_owned(), Some("a.b/first"), None),
        (r#"[{"reference":null,"ref":"a.b/c","digest":null,"name":null}]"#.to_owned(), Some("a.b/c"), None),
        (r#"{"components":["repo://x"]}"#.to_owned(), Some("repo://x"), None),
        (r#"{"schema_version":1,"components":[{"name":"x","ref":"a.b/c"}]}"#.to_owned(), Some("a.b/c"), None),
        (
            r#"{"schema_version":null,"components":["store://x"],"made_by":{"tool":[1]}}"#.to_owned(),
            Some("store://x"),
            None,
        ),
        (
            format!(r#"[{{"reference":"repo://x@{a}","digest":"{a}"}}]"#),
            Some(format!("repo://x@{a}").as_str()),
            Some(&a),
        ),
    ] {
        let lock = parse(&text);
        let [entry] = lock.entries.as_slice() else { panic!("{text}") };
        assert_eq!(entry.reference.as_deref(), reference, "{text}");
        assert_eq!(entry.digest.map(|digest| digest.to_string()).as_ref(), digest, "{text}");
    }
    for empty in ["[]", r#"{"components":[]}"#, " [ ] \n"] {
        assert!(parse(empty).entries.is_empty(), "{empty}");
    }
}

#[test]
fn everything_an_entry_can_say_is_read_and_written_back() {
    let (a, b) = (pin("a"), pin("b"));
    let text = format!(
        r#"{{"made_by":"hand","components":[{{"signer":{{"issuer": "x"}},"size_bytes":7,"media_type":"application/wasm",
           "content_digest":"{b}","digest":"{a}","ref":"a.b/c:1","name":"c"}}]}}"#
    );
    let lock = parse(&text);
    let [entry] = lock.entries.as_slice() else { panic!() };
    assert_eq!((entry.name.as_deref(), entry.size_bytes), (Some("c"), Some(7)));
    assert_eq!(entry.media_type.as_deref(), Some("application/wasm"));
    assert_eq!(entry.content_digest.unwrap().to_string(), b);
    assert_eq!(entry.extra.get("signer"), Some(r#"{"issuer": "x"}"#));
    assert_eq!(lock.extra.get("made_by"), Some(r#""hand""#));
    let expected = format!(
        r#"{{
  "schema_version": 1,
  "components": [
    {{
      "name": "c",
      "reference": "a.b/c:1",
      "digest": "{a}",
      "content_digest": "{b}",
      "size_bytes": 7,
      "media_type": "application/wasm",
      "signer": {{"issuer": "x"}}
    }}
  ],
  "made_by": "hand"
}}
"#
    );
    assert_eq!(lock.to_json().unwrap(), expected);
    assert_eq!(parse(&expected).to_json().unwrap(), expected);
}

/// Panics unless a text has this one problem; what is said may go on behind it.
fn is_told(text: &str, problem: &str) {
    let problems = refusal(text);
    assert!(problems.len() == 1 && problems[0].starts_with(problem), "{text}\n{problem}\n{problems:#?}");
}

#[test]
fn a_file_of_another_shape_is_told_with_its_place() {
    for (text, problem) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("[", "`[0]`: EOF while parsing a list at line 1 column 1"),
        ("[\"a.b/c\",\n{\"ref\"}]", "`[1]`: expected `:` at line 2 column 7"),
        (r#"{"components":["a.b/c" "a.b/d"]}"#, "`components[1]`: expected `,` or `]` at line 1 column 24"),
        ("[] x", "trailing characters at line 1 column 4"),
        ("[][]", "trailing characters at line 1 column 3"),
        (
            "7",
            "invalid type: integer `7`, expected an array of entries, or an object with `components` at line 1 column 1",
        ),
        ("null", "invalid type: null, expected an array of entries, or an object with `components`"),
        ("{}", "`components`: the file lists nothing: it is an object without `components`"),
        (r#"{"artifacts":["a.b/c"]}"#, "`components`: the file lists nothing: it is an object without `components`"),
        (r#"{"components":null}"#, "invalid type: null, expected an array of entries at line 1 column 18"),
        (r#"{"components":{"x":"a.b/c"}}"#, "invalid type: map, expected an array of entries at line 1 column 15"),
        (r#"{"components":[],"components":[]}"#, "`components`: the key stands there twice"),
        (r#"{"components":[],"x":1,"x":2}"#, "`x`: the key stands there twice"),
        (r#"{"schema_version":1,"schema_version":1,"components":[]}"#, "`schema_version`: the key stands there twice"),
        (
            r#"{"schema_version":99,"components":[]}"#,
            "`schema_version`: 99 is no schema this client knows (it knows 1)",
        ),
        (
            r#"{"schema_version":"1","components":[]}"#,
            "`schema_version`: \"1\" is no schema this client knows (it knows 1)",
        ),
    ] {
        is_told(text, problem);
    }
}

#[test]
fn entries_of_another_shape_are_told_with_index_and_field() {
    for (text, problem) in [
        ("[null]", "`[0]`: `null` is neither a reference nor an object"),
        ("[7]", "`[0]`: a number is neither a reference nor an object"),
        ("[true]", "`[0]`: a truth value is neither a reference nor an object"),
        (r#"[["a.b/c"]]"#, "`[0]`: an array is neither a reference nor an object"),
        ("[{}]", "`[0]`: the entry names nothing: it has no `reference`, no `ref` and no `digest`"),
        (r#"[{"reference":null}]"#, "`[0]`: the entry names nothing: it has no `reference`, no `ref` and no `digest`"),
        (r#"[{"name":"x"}]"#, "`[0]`: the entry names nothing: it has no `reference`, no `ref` and no `digest`"),
        (r#"[{"reference":7}]"#, "`[0].reference`: expected a text, found a number"),
        (r#"[{"digest":{}}]"#, "`[0].digest`: expected a text, found an object"),
        (r#"[{"ref":"a.b/c","ref":"a.b/c"}]"#, "`[0].ref`: the key stands there twice"),
        (r#"[{"ref":"a.b/c","x":1,"x":1}]"#, "`[0].x`: the key stands there twice"),
        (r#"[{"ref":"a.b/c","size_bytes":-1}]"#, "`[0].size_bytes`: expected a number of bytes"),
        (r#"[{"ref":"a.b/c","size_bytes":"7"}]"#, "`[0].size_bytes`: expected a number of bytes"),
    ] {
        is_told(text, problem);
    }
}

#[test]
fn entries_that_name_nothing_or_contradict_themselves_are_told_with_index_and_field() {
    let (a, b) = (pin("a"), pin("b"));
    for (text, problem) in [
        (r#"["\ud800"]"#, "`[0]`: unexpected end of hex escape"),
        (r#"[{"name":"\ud800","ref":"a.b/c"}]"#, "`[0].name`: the text is not valid Unicode"),
        (r#"[""]"#, "`[0].reference`: the reference is empty"),
        (
            r#"["x.wasm"]"#,
            "`[0].reference`: `x.wasm` names no registry (write `host/name:tag`, or `./name` for a file beside the lock file)",
        ),
        (
            r#"["abcdef"]"#,
            "`[0].reference`: `abcdef` names no registry (write `host/name:tag`, or `./name` for a file beside the lock file)",
        ),
        (
            r#"[{"ref":"ftp://x/y"}]"#,
            "`[0].ref`: `ftp://x/y` has an unsupported scheme (use oci, https, file, repo, store or fixture)",
        ),
        (
            r#"[{"digest":"abcdef"}]"#,
            "`[0].digest`: `abcdef` is not a digest: expected 64 (sha256), 96 (sha384) or 128 (sha512) hex characters",
        ),
        (
            r#"[{"digest":"SHA256:aa"}]"#,
            "`[0].digest`: `SHA256:aa` is not a digest: the algorithm is written in lower case, `sha256:` or `sha512:`",
        ),
        (
            &format!(r#"[{{"digest":"sha256:{}"}}]"#, "A".repeat(64)),
            &format!(
                "`[0].digest`: `sha256:{}` is not a digest: only lower-case hex characters are allowed",
                "A".repeat(64)
            ),
        ),
        (
            &format!(r#"["a.b/c",{{"reference":"a.b/c@{a}","digest":"{b}"}}]"#),
            &format!("`[1].digest`: {b} is not the digest of the reference, {a}"),
        ),
        (
            &format!(r#"[{{"reference":"{a}","digest":"{b}"}}]"#),
            &format!("`[0].digest`: {b} is not the digest of the reference, {a}"),
        ),
        (
            &format!(r#"[{{"reference":"repo://c@{a}","digest":"{b}"}}]"#),
            &format!("`[0].digest`: {b} is not the digest of the reference, {a}"),
        ),
    ] {
        is_told(text, problem);
    }
}

#[test]
fn encodings_and_nesting_that_only_an_attacker_writes_are_refused_before_anything_is_read() {
    assert_eq!(refusal(b"\xef\xbb\xbf[]"), ["the file begins with a byte order mark; save it as UTF-8 without one"]);
    assert_eq!(refusal(b"[\"a.b/c\xff\"]"), ["the file is not UTF-8 from byte 7 on"]);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for nested in [deep.clone(), format!(r#"["a.b/c",{{"ref":"a.b/c","x":{deep}}}]"#), format!(r#"{{"x":{deep}}}"#)] {
        assert_eq!(refusal(&nested), ["the file is nested more than 64 levels deep"]);
    }
    // Brackets in texts are no nesting.
    let texts = format!(r#"[{{"ref":"a.b/c","x":"\"{}"}}]"#, "[".repeat(10_000));
    assert_eq!(parse(&texts).entries.len(), 1);
}

#[test]
fn a_file_over_16_mib_and_one_with_too_many_entries_are_refused() {
    let mut text = "[\"a.b/c\"]".to_owned();
    text.push_str(&" ".repeat((16 << 20) - text.len()));
    assert_eq!(parse(&text).entries.len(), 1);
    text.push(' ');
    assert_eq!(refusal(&text), ["the file is larger than 16777216 bytes"]);
    let many = |count: usize| format!("[{}\"a.b/c\"]", "\"a.b/c\",".repeat(count - 1));
    assert_eq!(parse(&many(100_000)).entries.len(), 100_000);
    assert_eq!(refusal(many(100_001)), ["there are more than 100000 entries at line 1 column 800009"]);
    let keys: Vec<String> = (0..33).map(|key| format!(r#""k{key}":0"#)).collect();
    let entry = format!(r#"[{{"ref":"a.b/c",{}}}]"#, keys.join(","));
    assert_eq!(refusal(entry), ["`[0].k32`: there are more than 32 unknown keys"]);
}

#[test]
fn every_bad_entry_is_counted_and_the_first_twenty_are_described() {
    let mut entries = vec!["\"a.b/c\""; 99_999];
    entries.insert(7_000, "{\"digest\":\"no\"}");
    let text = format!("[{}]", entries.join(","));
    let error = Lockfile::parse(text.as_bytes()).unwrap_err();
    assert_eq!(
        (error.total(), error.problems()[0].index(), error.problems()[0].field()),
        (1, Some(7_000), Some("digest"))
    );

    let text = format!("[{}]", vec!["{}"; 45].join(","));
    let error = Lockfile::parse(text.as_bytes()).unwrap_err();
    assert_eq!((error.total(), error.problems().len()), (45, 20));
    assert_eq!(error.problems()[19].index(), Some(19));
    assert!(error.to_string().ends_with("; and 25 more"), "{error}");
}

#[test]
fn what_is_repeated_from_a_file_is_cut_safe_and_without_secrets() {
    let key = format!("\u{1b}[31m{}", "k".repeat(5_000));
    let text = serde_json::json!([
        { "ref": "https://ann:canary@\u{202e}x/" },
        { "ref": "oci://ann:canary@a.b/c" },
        { "ref": "a.b/c", "digest": "ann:canary@x/y" },
        { "ref": "ann:canary@x/y" },
        { key: 1, "ref": 1 },
    ]);
    let error = Lockfile::parse(text.to_string().as_bytes()).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert_eq!(error.total(), 5, "{shown}");
    assert!(!shown.contains("canary") && shown.len() < 4_000, "{shown}");
    assert!(!error.to_string().chars().any(char::is_control), "{shown}");
}

prop_compose! {
    fn any_entry()(
        name in proptest::option::of("\\PC{1,12}"),
        reference in proptest::option::of(prop_oneof![
            Just("oci://a.b/c:1".to_owned()), Just("./x.wasm".to_owned()), Just("https://x.y/z?q=1".to_owned()),
            Just("repo://tool".to_owned()),
        ]),
        digest in any::<Option<u64>>(),
        content in any::<Option<u64>>(),
        size_bytes in any::<Option<u64>>(),
        media_type in proptest::option::of("[a-z]{1,9}/[a-z+]{1,9}"),
    ) -> LockEntry {
        let of = |seed: u64| Digest::sha256(&seed.to_le_bytes());
        let digest = digest.map(of).or_else(|| reference.is_none().then(|| of(0)));
        LockEntry { name, reference, digest, content_digest: content.map(of), size_bytes, media_type, extra: Extra::default() }
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(entries in proptest::collection::vec(any_entry(), 0..6)) {
        let lock = Lockfile { entries, extra: Extra::default() };
        let text = lock.to_json().unwrap();
        let read = Lockfile::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(&read.entries, &lock.entries);
        prop_assert_eq!(read.to_json().unwrap(), text);
    }

    #[test]
    fn reading_never_panics_and_problems_are_always_named(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = Lockfile::parse(&bytes) {
            prop_assert!(error.total() > 0 && !error.to_string().is_empty());
        }
    }

    #[test]
    fn a_damaged_lock_never_panics(at in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
        let pin = pin("a");
        let mut bytes = format!(
            r#"{{"schema_version":1,"components":["a.b/c:1",{{"name":"x","reference":"./x","digest":"{pin}","size_bytes":3,"y":[{{}}]}}]}}"#
        ).into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(cut.max(at));
        drop(Lockfile::parse(&bytes));
    }
}
