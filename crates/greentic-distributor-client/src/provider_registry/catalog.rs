//! A provider catalog as types.

use std::path::Path;

use greentic_dist_types::SafeText;
use serde_json::{Map, Value};

use super::document::{self, DOCUMENT_BYTES};
use super::{CatalogError, disk, read};

/// A provider catalog: what providers there are, and which packs they come from.
///
/// Read from any of the shapes in use (a list of providers, `providers@1`, a list of categories with their providers), in JSON
/// or YAML. At most 10 000 providers, 1 000 categories and 16 MiB.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Catalog {
    /// The version the document names: `providers@1` or nothing.
    pub registry_version: Option<String>,
    /// The categories, in their order. A list of providers has none.
    pub categories: Vec<Category>,
    /// The providers, in their order. No id stands there twice.
    pub providers: Vec<Provider>,
    /// Keys of the document that mean nothing to this client.
    pub extra: Map<String, Value>,
}

/// One provider.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Provider {
    /// The name by which it is chosen; without control or invisible characters.
    pub id: String,
    /// The name people see; the id where there is none.
    pub label: Label,
    /// The reference of its pack, for example `oci://ghcr.io/acme/packs/mail:latest`; without control or invisible characters.
    pub reference: String,
    /// The id of its category.
    pub category: Option<String>,
    /// Keys that mean nothing to this client.
    pub extra: Map<String, Value>,
}

/// One category of providers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Category {
    /// What providers name; without control or invisible characters.
    pub id: String,
    /// The name people see; the id where there is none.
    pub label: Label,
    /// What it is for.
    pub description: Option<Label>,
    /// Keys that mean nothing to this client.
    pub extra: Map<String, Value>,
}

/// A text for people, which may be translated.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Label {
    /// The key of its translations.
    pub i18n_key: Option<String>,
    /// The text where there is no translation, as its author wrote it; [`Label::shown`] is fit for a terminal.
    pub fallback: String,
    /// Keys that mean nothing to this client.
    pub extra: Map<String, Value>,
}

impl Label {
    /// A text without translations.
    pub(super) fn plain(text: &str) -> Self {
        Self { i18n_key: None, fallback: text.to_owned(), extra: Map::new() }
    }

    /// The text in one line, without control, bidi or invisible characters.
    pub fn shown(&self) -> SafeText {
        SafeText::new(&self.fallback)
    }
}

impl Catalog {
    /// Reads a document: JSON, else YAML.
    ///
    /// # Errors
    /// [`CatalogError`], which names the element that is wrong.
    ///
    /// # Example
    /// ```
    /// use greentic_distributor_client::provider_registry::Catalog;
    ///
    /// let catalog = Catalog::from_slice(br#"{
    ///     "registry_version": "providers@1",
    ///     "categories": [{ "id": "messaging", "label": { "i18n_key": "c.messaging", "fallback": "Messaging" } }],
    ///     "items": [{ "id": "mail", "label": { "fallback": "Mail" }, "category": "messaging",
    ///                 "ref": "oci://ghcr.io/acme/packs/messaging/mail:latest" }]
    /// }"#)?;
    /// let mail = catalog.provider("mail").expect("it is listed");
    /// assert_eq!(mail.reference, "oci://ghcr.io/acme/packs/messaging/mail:latest");
    /// assert_eq!(mail.label.shown().as_str(), "Mail");
    /// assert_eq!(catalog.providers_in("messaging").count(), 1);
    /// # Ok::<(), greentic_distributor_client::provider_registry::CatalogError>(())
    /// ```
    pub fn from_slice(bytes: &[u8]) -> Result<Self, CatalogError> {
        read::catalog(document::parse(bytes)?)
    }

    /// Reads a file. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Catalog::from_slice`]; `Unreadable` for a file that cannot be read or is no regular one.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, CatalogError> {
        let path = path.as_ref();
        let bytes = disk::read_named(path, DOCUMENT_BYTES).map_err(|error| CatalogError::unreadable(path, &error))?;
        Self::from_slice(&bytes)
    }

    /// The provider with this id.
    pub fn provider(&self, id: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.id == id)
    }

    /// The providers of a category, in their order.
    pub fn providers_in<'a>(&'a self, category: &'a str) -> impl Iterator<Item = &'a Provider> {
        self.providers.iter().filter(move |provider| provider.category.as_deref() == Some(category))
    }
}
