//! From a value to a catalog: the shapes that are in use, and errors that name the element.

use std::collections::HashMap;

use greentic_dist_types::{SafeText, limits};
use serde_json::{Map, Value};

use super::{Catalog, CatalogError, Category, Label, Provider};

/// Most providers of a catalog. The published one has 31.
const PROVIDERS: usize = 10_000;
/// Most categories of a catalog.
const CATEGORIES: usize = 1_000;
/// Longest id of a provider or category, in bytes.
const ID_BYTES: usize = 256;
/// Longest text for people, in bytes.
const TEXT_BYTES: usize = 8 << 10;
/// The version that is understood.
const VERSION: &str = "providers@1";

type Object = Map<String, Value>;

/// Where in the document something stands: `items[3].label`.
#[derive(Clone, Copy)]
struct At<'a>(&'a str, usize);

impl At<'_> {
    fn fails<T>(self, key: &str, reason: &str) -> Result<T, CatalogError> {
        let Self(list, number) = self;
        let element = if key.is_empty() { format!("{list}[{number}]") } else { format!("{list}[{number}].{key}") };
        Err(CatalogError::Element { element: SafeText::new(&element), reason: SafeText::new(reason) })
    }
}

/// Reads a whole document.
pub(super) fn catalog(document: Value) -> Result<Catalog, CatalogError> {
    let catalog = match document {
        Value::Object(object) => versioned(object)?,
        Value::Array(list) => {
            let is_category = |element: &Value| element.get("items").is_some();
            if list.iter().any(is_category) {
                by_category(list)?
            } else {
                Catalog { providers: providers("", list, None)?, ..Catalog::default() }
            }
        }
        _ => return Err(CatalogError::NoContainer),
    };
    refuse_doubles(&catalog)?;
    Ok(catalog)
}

/// Whether a document has the outline of a catalog, also of one that another version wrote or that has mistakes in it: it names a
/// version, or it lists things with an id, or categories.
pub(super) fn is_catalog(document: &Value) -> bool {
    let has = |element: &Value, key: &str| element.get(key).is_some();
    match document {
        Value::Object(object) => {
            object.get("registry_version").is_some_and(Value::is_string)
                || object.get("items").is_some_and(Value::is_array)
        }
        Value::Array(list) => list.iter().all(|element| has(element, "id") || has(element, "items")),
        _ => false,
    }
}

/// An object with `items`.
fn versioned(mut object: Object) -> Result<Catalog, CatalogError> {
    let registry_version = match object.remove("registry_version") {
        None => None,
        Some(Value::String(version)) if version == VERSION => Some(version),
        Some(other) => {
            let shown = other.as_str().map_or_else(|| other.to_string(), ToOwned::to_owned);
            return Err(CatalogError::Version { version: SafeText::excerpt(&shown, 64) });
        }
    };
    let Some(items) = object.remove("items") else { return Err(CatalogError::NoItems) };
    let categories = match object.remove("categories") {
        None | Some(Value::Null) => Vec::new(),
        Some(list) => list_of("categories", list, CATEGORIES)?
            .into_iter()
            .enumerate()
            .map(|(number, element)| category(At("categories", number), element))
            .collect::<Result<_, _>>()?,
    };
    let providers = providers("items", list_of("items", items, PROVIDERS)?, None)?;
    Ok(Catalog { registry_version, categories, providers, extra: object })
}

/// A list of categories, each with its providers.
fn by_category(list: Vec<Value>) -> Result<Catalog, CatalogError> {
    let mut catalog = Catalog::default();
    for (number, element) in list.into_iter().enumerate() {
        let at = At("", number);
        if number >= CATEGORIES {
            return at.fails("", &format!("there are more than {CATEGORIES} categories"));
        }
        let mut object = object_of(at, element)?;
        let id = id_of(at, "category", object.remove("category"))?;
        let description = text_of(at, "description", object.remove("description"))?;
        let Some(items) = object.remove("items") else { return at.fails("items", "it is missing") };
        let name = format!("[{number}].items");
        let items = list_of(&name, items, PROVIDERS)?;
        catalog.providers.extend(providers(&name, items, Some(&id))?);
        if catalog.providers.len() > PROVIDERS {
            return at.fails("items", &format!("there are more than {PROVIDERS} providers"));
        }
        catalog.categories.push(Category { label: Label::plain(&id), id, description, extra: object });
    }
    Ok(catalog)
}

fn list_of(name: &str, value: Value, most: usize) -> Result<Vec<Value>, CatalogError> {
    let wrong = |reason: &str| CatalogError::Element { element: SafeText::new(name), reason: SafeText::new(reason) };
    match value {
        Value::Array(list) if list.len() > most => Err(wrong(&format!("it has more than {most} elements"))),
        Value::Array(list) => Ok(list),
        other => Err(wrong(&format!("it is {} instead of a list", kind(&other)))),
    }
}

fn providers(name: &str, list: Vec<Value>, category: Option<&str>) -> Result<Vec<Provider>, CatalogError> {
    if list.len() > PROVIDERS {
        return At(name, PROVIDERS).fails("", &format!("there are more than {PROVIDERS} providers"));
    }
    list.into_iter().enumerate().map(|(number, element)| provider(At(name, number), element, category)).collect()
}

fn provider(at: At<'_>, element: Value, category: Option<&str>) -> Result<Provider, CatalogError> {
    let mut object = object_of(at, element)?;
    let id = id_of(at, "id", object.remove("id"))?;
    let label = text_of(at, "label", object.remove("label"))?;
    let reference = match (object.remove("reference"), object.remove("ref")) {
        (None, None) => return at.fails("ref", "it is missing"),
        (Some(one), Some(other)) if one != other => {
            return at.fails("ref", "`ref` and `reference` say different things");
        }
        (Some(one), _) => name_of(at, "reference", one, limits::REFERENCE_BYTES)?,
        (None, Some(one)) => name_of(at, "ref", one, limits::REFERENCE_BYTES)?,
    };
    let own = match object.remove("category") {
        None | Some(Value::Null) => None,
        own => Some(id_of(at, "category", own)?),
    };
    Ok(Provider {
        label: label.unwrap_or_else(|| Label::plain(&id)),
        id,
        reference,
        category: own.or_else(|| category.map(ToOwned::to_owned)),
        extra: object,
    })
}

fn category(at: At<'_>, element: Value) -> Result<Category, CatalogError> {
    let mut object = object_of(at, element)?;
    let id = id_of(at, "id", object.remove("id"))?;
    let label = text_of(at, "label", object.remove("label"))?;
    let description = text_of(at, "description", object.remove("description"))?;
    Ok(Category { label: label.unwrap_or_else(|| Label::plain(&id)), id, description, extra: object })
}

fn object_of(at: At<'_>, element: Value) -> Result<Object, CatalogError> {
    match element {
        Value::Object(object) => Ok(object),
        other => at.fails("", &format!("it is {} instead of an object", kind(&other))),
    }
}

fn id_of(at: At<'_>, key: &str, value: Option<Value>) -> Result<String, CatalogError> {
    match value {
        Some(value) => name_of(at, key, value, ID_BYTES),
        None => at.fails(key, "it is missing"),
    }
}

/// A text that code decides by: not empty, not long, and of characters that can be seen.
fn name_of(at: At<'_>, key: &str, value: Value, most: usize) -> Result<String, CatalogError> {
    let Value::String(name) = value else {
        return at.fails(key, &format!("it is {} instead of a text", kind(&value)));
    };
    if name.trim().is_empty() {
        return at.fails(key, "it is empty");
    }
    if name.len() > most {
        return at.fails(key, &format!("it is longer than {most} bytes"));
    }
    if SafeText::excerpt(&name, most).as_str() != name {
        return at.fails(key, "it holds a control or invisible character");
    }
    Ok(name)
}

/// A text for people: as it is, or with a key for its translations.
fn text_of(at: At<'_>, key: &str, value: Option<Value>) -> Result<Option<Label>, CatalogError> {
    let text = |key: &str, value: Value| match value {
        Value::String(text) if text.len() <= TEXT_BYTES => Ok(text),
        Value::String(_) => at.fails(key, &format!("it is longer than {TEXT_BYTES} bytes")),
        other => at.fails(key, &format!("it is {} instead of a text", kind(&other))),
    };
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(mut object)) => {
            let inner = |name: &str| format!("{key}.{name}");
            let i18n_key = match object.remove("i18n_key") {
                None | Some(Value::Null) => None,
                Some(value) => Some(text(&inner("i18n_key"), value)?),
            };
            let Some(fallback) = object.remove("fallback") else {
                return at.fails(&inner("fallback"), "it is missing");
            };
            let fallback = text(&inner("fallback"), fallback)?;
            Ok(Some(Label { i18n_key, fallback, extra: object }))
        }
        Some(value) => Ok(Some(Label::plain(&text(key, value)?))),
    }
}

/// Ids are what is chosen by: each stands there once.
fn refuse_doubles(catalog: &Catalog) -> Result<(), CatalogError> {
    fn doubles<'a>(what: &'static str, ids: impl Iterator<Item = &'a String>) -> Result<(), CatalogError> {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (number, id) in ids.enumerate() {
            if let Some(first) = seen.insert(id, number) {
                return Err(CatalogError::Duplicate { what, id: SafeText::new(id), first, second: number });
            }
        }
        Ok(())
    }
    doubles("provider", catalog.providers.iter().map(|provider| &provider.id))?;
    doubles("category", catalog.categories.iter().map(|category| &category.id))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(document: &Value) -> Result<Catalog, CatalogError> {
        Catalog::from_slice(document.to_string().as_bytes())
    }

    fn ids(catalog: &Catalog) -> Vec<(&str, &str, Option<&str>)> {
        catalog.providers.iter().map(|one| (one.id.as_str(), one.reference.as_str(), one.category.as_deref())).collect()
    }

    #[test]
    fn the_three_shapes_in_use_are_read_and_unknown_keys_are_kept() {
        let list =
            read(&json!([{ "id": "a", "label": "A\u{1b}[31m", "reference": "oci://g.io/a", "since": 3 }])).unwrap();
        assert_eq!(ids(&list), [("a", "oci://g.io/a", None)]);
        assert_eq!(list.providers[0].extra["since"], 3);
        assert_eq!(list.providers[0].label.shown().as_str(), "A\u{fffd}[31m");

        let versioned = read(&json!({
            "registry_version": "providers@1", "generated": "now",
            "categories": [{ "id": "messaging", "label": { "i18n_key": "c.m", "fallback": "Messaging" },
                             "description": { "i18n_key": "d.m", "fallback": "Talk" }, "icon": "x" }],
            "items": [
                { "id": "a", "label": { "i18n_key": "l.a", "fallback": "A" }, "ref": "oci://g.io/a", "category": "messaging" },
                { "id": "b", "label": { "fallback": "B", "hint": 1 }, "reference": "oci://g.io/b" },
            ],
        }))
        .unwrap();
        assert_eq!(ids(&versioned), [("a", "oci://g.io/a", Some("messaging")), ("b", "oci://g.io/b", None)]);
        let category = &versioned.categories[0];
        assert_eq!((category.id.as_str(), category.label.i18n_key.as_deref()), ("messaging", Some("c.m")));
        assert_eq!(category.description.as_ref().unwrap().fallback, "Talk");
        assert_eq!((&category.extra["icon"], &versioned.extra["generated"]), (&json!("x"), &json!("now")));
        assert_eq!(versioned.providers[1].label.extra["hint"], 1);
        assert_eq!(versioned.providers_in("messaging").count(), 1);

        let by_category = read(&json!([
            { "category": "events", "description": "Things that happen",
              "items": [{ "id": "timer", "label": "Timer", "reference": "oci://g.io/t" }] },
            { "category": "empty", "items": [] },
        ]))
        .unwrap();
        assert_eq!(ids(&by_category), [("timer", "oci://g.io/t", Some("events"))]);
        assert_eq!(by_category.categories.len(), 2);
        assert_eq!(by_category.categories[0].description.as_ref().unwrap().fallback, "Things that happen");
        // Empty lists are catalogs of nothing, and no errors.
        assert!(read(&json!([])).unwrap().providers.is_empty());
        assert!(read(&json!({ "items": [] })).unwrap().providers.is_empty());
    }

    #[test]
    fn a_catalog_in_yaml_is_the_one_its_json_is() {
        let yaml = "registry_version: providers@1\nitems:\n- id: a\n  label: {fallback: A}\n  ref: oci://g.io/a\n";
        let json = json!({ "registry_version": "providers@1", "items": [{ "id": "a", "label": { "fallback": "A" }, "ref": "oci://g.io/a" }] });
        assert_eq!(Catalog::from_slice(yaml.as_bytes()), read(&json));
    }

    #[test]
    fn the_outline_of_a_catalog_is_a_version_or_a_list_of_things_with_ids() {
        for (document, expected) in [
            (json!([]), true),
            (json!({ "items": [] }), true),
            (json!({ "items": [{ "id": 7 }] }), true),
            (json!({ "registry_version": "providers@9", "providers": {} }), true),
            (json!([{ "id": "a" }, { "category": "c", "items": [] }]), true),
            (json!({}), false),
            (json!({ "errors": [{ "code": "UNAUTHORIZED" }] }), false),
            (json!([{ "code": "UNAUTHORIZED" }]), false),
            (json!([{ "id": "a" }, 7]), false),
            (json!({ "items": 7 }), false),
            (json!({ "registry_version": 1 }), false),
            (json!(null), false),
            (json!("items"), false),
        ] {
            assert_eq!(is_catalog(&document), expected, "{document}");
            // What is read always has the outline.
            assert!(catalog(document.clone()).is_err() || expected, "{document}");
        }
    }

    #[test]
    fn what_is_no_catalog_is_an_error_and_never_an_empty_catalog() {
        for (text, said) in [
            ("", "empty"),
            (" \n", "empty"),
            ("null", "neither a list nor an object"),
            ("7", "neither a list nor an object"),
            ("log in please", "neither a list nor an object"),
            ("{}", "no `items`"),
            (r#"{"providers":[]}"#, "no `items`"),
            (r#"{"registry_version":"providers@2","items":[]}"#, "providers@2"),
            (r#"{"registry_version":1,"items":[]}"#, "`1`"),
            (r#"{"registry_version":null,"items":[]}"#, "`null`"),
            (r#"{"items":null}"#, "items: it is null instead of a list"),
            (r#"{"items":{}}"#, "items: it is an object instead of a list"),
            (r#"{"items":[],"categories":7}"#, "categories: it is a number"),
            ("<html>", "neither a list nor an object"),
        ] {
            let error = Catalog::from_slice(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn errors_name_the_element() {
        let item = |change: &dyn Fn(&mut Value)| {
            let mut item = json!({ "id": "a", "label": "A", "reference": "oci://g.io/a" });
            change(&mut item);
            read(&json!({ "items": [{ "id": "first", "ref": "oci://g.io/f" }, item] })).unwrap_err().to_string()
        };
        for (key, value, said) in [
            ("id", json!(null), "items[1].id: it is null"),
            ("id", json!(""), "items[1].id: it is empty"),
            ("id", json!("a\u{202e}b"), "items[1].id: it holds"),
            ("id", json!("x".repeat(257)), "items[1].id: it is longer than 256"),
            ("reference", json!(["x"]), "items[1].reference: it is a list"),
            ("reference", json!("x\ny"), "items[1].reference: it holds"),
            ("ref", json!("oci://g.io/other"), "different things"),
            ("label", json!(5), "items[1].label: it is a number"),
            ("label", json!({}), "items[1].label.fallback: it is missing"),
            ("label", json!({ "fallback": "x", "i18n_key": [] }), "items[1].label.i18n_key: it is a list"),
            ("label", json!("x".repeat(TEXT_BYTES + 1)), "items[1].label: it is longer"),
            ("category", json!(7), "items[1].category: it is a number"),
        ] {
            let error = item(&|item| item[key] = value.clone());
            assert!(error.contains(said), "{key}: {error}");
        }
        for (document, said) in [
            (json!([{ "id": "a" }]), "[0].ref: it is missing"),
            (json!([{ "reference": "x" }]), "[0].id: it is missing"),
            (json!(["a"]), "[0]: it is a text instead of an object"),
            (json!([{ "category": "c", "items": [{ "id": "a" }] }]), "[0].items[0].ref: it is missing"),
            (json!([{ "category": "c", "items": [] }, { "id": "a", "reference": "r" }]), "[1].category: it is missing"),
            (json!({ "items": [], "categories": [{}] }), "categories[0].id: it is missing"),
        ] {
            let error = read(&document).unwrap_err().to_string();
            assert!(error.contains(said), "{document}: {error}");
        }
    }

    #[test]
    fn doubled_ids_and_endless_lists_are_refused_by_name() {
        let item = |id: &str| json!({ "id": id, "reference": "r" });
        let error = read(&json!([item("a"), item("b"), item("a")])).unwrap_err().to_string();
        assert_eq!(error, "the provider `a` stands there twice, as number 0 and as number 2");
        let error =
            read(&json!({ "items": [], "categories": [{ "id": "c" }, { "id": "c" }] })).unwrap_err().to_string();
        assert!(error.contains("the category `c`"), "{error}");
        let many: Vec<_> = (0..=PROVIDERS).map(|number| item(&number.to_string())).collect();
        for document in [json!(many), json!({ "items": many }), json!([{ "category": "c", "items": many }])] {
            assert!(read(&document).unwrap_err().to_string().contains("more than 10000"));
        }
    }

    /// A value in the shape of a catalog's, more or less.
    fn any_value() -> impl Strategy<Value = Value> {
        let text = "[a-c]{0,2}|[a-z\u{202e}\n]{0,3}".prop_map(Value::from);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i8>().prop_map(Value::from),
            text
        ];
        let key = prop::sample::select(vec![
            "id",
            "label",
            "ref",
            "reference",
            "category",
            "items",
            "categories",
            "fallback",
            "i18n_key",
            "description",
            "registry_version",
            "other",
        ]);
        leaf.prop_recursive(4, 40, 5, move |inner| {
            let object = proptest::collection::btree_map(key.clone().prop_map(str::to_owned), inner.clone(), 0..5);
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                object.prop_map(|object| Value::Object(object.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reading_is_total_and_what_is_read_is_fit_to_be_chosen_from(
            items in proptest::collection::vec(any_value(), 0..4), shape in 0..3_u8, whole in any_value()
        ) {
            let document = match shape {
                0 => Value::from(items),
                1 => json!({ "items": items }),
                _ => whole,
            };
            match catalog(document.clone()) {
                Ok(read) => {
                    prop_assert!(is_catalog(&document));
                    let mut seen = std::collections::BTreeSet::new();
                    for provider in &read.providers {
                        prop_assert!(seen.insert(&provider.id), "{} stands there twice", provider.id);
                        for name in [&provider.id, &provider.reference] {
                            prop_assert!(!name.trim().is_empty() && SafeText::new(name).as_str() == name.as_str());
                        }
                    }
                }
                Err(error) => prop_assert!(!error.to_string().chars().any(char::is_control), "{error}"),
            }
        }

        #[test]
        fn what_stands_in_a_document_is_what_is_read(ids in proptest::collection::btree_set("[a-z]{1,6}", 0..6)) {
            let items: Vec<Value> = ids.iter().map(|id| json!({ "id": id, "ref": format!("oci://g.io/{id}") })).collect();
            for document in [json!(items), json!({ "items": items }), json!([{ "category": "c", "items": items }])] {
                let read = catalog(document).unwrap();
                prop_assert!(read.providers.iter().map(|one| &one.id).eq(ids.iter()));
                let is_whole = |one: &Provider| one.reference == format!("oci://g.io/{}", one.id);
                prop_assert!(read.providers.iter().all(is_whole));
            }
        }
    }
}
