//! A document in YAML as the value that the same document in JSON is.
//!
//! What YAML has beyond JSON is refused instead of guessed at: aliases (which make small texts large), tags, several documents,
//! keys that are no text. Plain scalars are read by the core schema of YAML 1.2, so `yes` and `1.2.3` are texts.

use greentic_dist_types::SafeText;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};
use serde_json::{Map, Number, Value};

use super::CatalogError;
use super::document::Budget;

/// Deepest nesting. A catalog has five levels.
const DEPTH: usize = 64;
/// Most characters of a document that an error repeats.
const EXCERPT_CHARS: usize = 32;

/// A list or mapping that is not at its end.
enum Open {
    List(Vec<Value>),
    /// With the key whose value comes next.
    Mapping(Map<String, Value>, Option<String>),
}

/// Reads one document.
pub(super) fn parse(text: &str, budget: &Budget) -> Result<Value, CatalogError> {
    let refused = |reason: &str| CatalogError::Syntax {
        format: "JSON or YAML",
        excerpt: SafeText::excerpt(text.trim_start(), EXCERPT_CHARS),
        reason: SafeText::new(reason),
    };
    let mut open: Vec<Open> = Vec::new();
    let mut document: Option<Value> = None;
    let mut documents = 0_usize;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error: ScanError| refused(&error.to_string()))?;
        let at = |reason: &str| refused(&format!("{reason} (line {})", span.start.line()));
        let value = match event {
            Event::Alias(_) => return Err(at("an alias (`*name`) is not read; write out what it stands for")),
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                return Err(at("a tag (`!name`) is not read"));
            }
            Event::Scalar(text, style, _, None) => {
                budget.take().map_err(|reason| at(&reason))?;
                // A key is its text, whatever it looks like.
                if let Some(Open::Mapping(object, key @ None)) = open.last_mut() {
                    if object.contains_key(text.as_ref()) {
                        let shown = SafeText::excerpt(&text, EXCERPT_CHARS);
                        return Err(at(&format!("the key `{shown}` stands in a mapping twice")));
                    }
                    *key = Some(text.into_owned());
                    continue;
                }
                scalar(text.into_owned(), style)
            }
            Event::SequenceStart(_, None) | Event::MappingStart(_, None) => {
                budget.take().map_err(|reason| at(&reason))?;
                if open.len() >= DEPTH {
                    return Err(at(&format!("it is nested more than {DEPTH} levels deep")));
                }
                if matches!(open.last(), Some(Open::Mapping(_, None))) {
                    return Err(at("a key that is no text is not read"));
                }
                let is_list = matches!(event, Event::SequenceStart(..));
                open.push(if is_list { Open::List(Vec::new()) } else { Open::Mapping(Map::new(), None) });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => Value::Array(list),
                Some(Open::Mapping(object, _)) => Value::Object(object),
                None => continue,
            },
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(at("a second document is not read"));
                }
                continue;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => continue,
        };
        match open.last_mut() {
            Some(Open::List(list)) => list.push(value),
            Some(Open::Mapping(object, key)) => {
                if let Some(key) = key.take() {
                    object.insert(key, value);
                }
            }
            None => document = Some(value),
        }
    }
    document.ok_or(CatalogError::Empty)
}

/// A scalar by the core schema of YAML 1.2 (10.3.2); what is quoted is a text.
fn scalar(text: String, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text);
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(&text).map_or(Value::String(text), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|ch: char| ch.is_ascii_digit()) && !digits.starts_with('.') {
        return None;
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let integer = text.strip_prefix('+').unwrap_or(text);
        let unsigned = integer.parse::<u64>().map(Number::from);
        return unsigned.or_else(|_| integer.parse::<i64>().map(Number::from)).ok();
    }
    let is_float = digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if is_float { Number::from_f64(text.parse().ok()?) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Result<Value, String> {
        parse(text, &Budget::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_document_is_the_value_that_its_json_is() {
        let text = "---\n# a comment\nregistry_version: providers@1\nitems:\n  - id: a\n    label: {fallback: 'x: y'}\n    \
                    ref: oci://ghcr.io/a/b:1\n    tags: [yes, 1, -2, 1.5, 1.2.3, 0x1f, ~, true, \"7\", .5, +3]\n  - |\n    two\n    lines\n";
        let expected = json!({
            "registry_version": "providers@1",
            "items": [
                {
                    "id": "a", "label": { "fallback": "x: y" }, "ref": "oci://ghcr.io/a/b:1",
                    "tags": ["yes", 1, -2, 1.5, "1.2.3", "0x1f", null, true, "7", 0.5, 3],
                },
                "two\nlines\n",
            ],
        });
        assert_eq!(read(text), Ok(expected));
        assert_eq!(read("- a\n- b: 1\n"), Ok(json!(["a", { "b": 1 }])));
    }

    #[test]
    fn what_yaml_has_beyond_json_is_refused() {
        let bomb = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n";
        let deep = "[".repeat(DEPTH + 1) + &"]".repeat(DEPTH + 1);
        for (text, said) in [
            (bomb, "alias"),
            ("a: !!binary aGk=\n", "tag"),
            ("- !custom x\n", "tag"),
            ("a: 1\n---\nb: 2\n", "second document"),
            ("a: 1\na: 2\n", "`a` stands in a mapping twice"),
            ("{[a]: 1}", "no text"),
            ("? {a: 1}\n: 2\n", "no text"),
            (&deep, "64 levels"),
            ("a: [1, 2\n", "YAML"),
            ("a: b: c\n", "YAML"),
            ("", "empty"),
            ("# nothing\n", "empty"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn reading_is_total(text in "[-:?{}\\[\\],&*!|>'\"%@`#a-c0-9 \n]{0,60}") {
            drop(read(&text));
        }

        #[test]
        fn json_is_read_as_json(texts in proptest::collection::vec("[a-z0-9:/@. -]{0,12}", 0..5), number in any::<i32>()) {
            let value = json!({ "items": texts, "n": number, "deep": [{ "x": null }] });
            prop_assert_eq!(read(&serde_json::to_string_pretty(&value).unwrap()), Ok(value));
        }
    }
}
