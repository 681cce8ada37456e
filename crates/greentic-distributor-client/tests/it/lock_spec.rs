//! The examples of `docs/lockfile.md` are what they say they are.

use greentic_distributor_client::dist::Lockfile;

const DOCUMENT: &str = include_str!("../../../../docs/lockfile.md");

/// The examples that are marked with a word.
fn examples(mark: &str) -> Vec<&'static str> {
    let fence = format!("```json {mark}\n");
    DOCUMENT.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn what_the_document_shows_as_written_is_what_would_be_written() {
    let [example] = examples("written")[..] else { panic!() };
    assert_eq!(Lockfile::parse(example.as_bytes()).unwrap().to_json().unwrap(), example);
}

#[test]
fn what_the_document_shows_as_read_is_read_and_keeps_its_unknown_keys() {
    let read: Vec<Lockfile> = examples("read").iter().map(|text| Lockfile::parse(text.as_bytes()).unwrap()).collect();
    assert_eq!(read.iter().map(|lock| lock.entries.len()).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(read[1].entries[1].extra.get("signer"), Some("\"keys/acme.pub\""));
    assert!(read[1].to_json().unwrap().contains("\"signer\": \"keys/acme.pub\""));
}

#[test]
fn what_the_document_shows_as_refused_is_refused() {
    let refused = examples("refused");
    assert_eq!(refused.len(), 3);
    for text in refused {
        assert!(Lockfile::parse(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(DOCUMENT.matches("```json").count(), 6);
}
