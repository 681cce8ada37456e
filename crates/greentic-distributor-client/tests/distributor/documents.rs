//! The examples of docs/distributor-api.md are what the types read and write.

use greentic_distributor_client::{PackStatusResponse, ResolveComponentRequest, ResolveComponentResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../../../docs/distributor-api.md");

/// The JSON of the example with this name.
fn example(name: &str) -> Value {
    let (_, rest) = DOCUMENT.split_once(&format!("<!-- example: {name} -->\n```json\n")).unwrap();
    serde_json::from_str(rest.split_once("```").unwrap().0).unwrap()
}

/// Reads an example and writes it back.
#[track_caller]
fn round_trip<T: DeserializeOwned + Serialize>(name: &str) {
    let value: T = serde_json::from_value(example(name)).unwrap();
    assert_eq!(serde_json::to_value(&value).unwrap(), example(name), "{name}");
}

#[test]
fn the_documented_messages_are_read_and_written_as_they_stand() {
    round_trip::<ResolveComponentRequest>("resolve-component request");
    round_trip::<ResolveComponentResponse>("resolve-component answer");
    round_trip::<PackStatusResponse>("pack-status-v2 answer");
    assert_eq!(example("warm-pack request").as_object().unwrap().len(), 3);
}
