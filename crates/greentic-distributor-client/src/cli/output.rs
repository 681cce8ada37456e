//! What is printed: data on stdout, words on stderr.
//!
//! Words are sanitised and cut. Data is not: references are the caller's own (URLs without their secrets), paths are those of
//! the cache, and what a publisher wrote is escaped by JSON or sanitised by the command that prints it.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use greentic_dist_net::GivenSecrets;
use greentic_dist_types::{SafeText, redact_url};
use serde::Serialize;
use serde_json::{Value, json};

use super::CliError;

/// Longest line shown of an error, in characters.
const LINE_CHARS: usize = 1_000;

/// Bytes of many lines that are written at once.
const BUFFER_BYTES: usize = 64 << 10;

/// The two streams of the process.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    lost: AtomicBool,
    secrets: OnceLock<GivenSecrets>,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json, lost: AtomicBool::new(false), secrets: OnceLock::new() }
    }

    /// Keeps what `secrets` knows out of everything that is told of failures, whatever a server made a part of it.
    pub(crate) fn conceal(&self, secrets: &GivenSecrets) {
        self.secrets.get_or_init(|| secrets.clone());
    }

    fn without_secrets<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.secrets.get().map_or(Cow::Borrowed(text), |secrets| secrets.blank(text))
    }

    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// A line of result. A reader that went away is no error of ours; any other failure is remembered for [`Output::end`].
    pub(crate) fn line(&self, text: &str) {
        let written = writeln!(io::stdout().lock(), "{text}");
        self.note_loss(written);
    }

    /// Many lines of result, as [`Output::line`] prints each.
    pub(crate) fn lines<T: Display>(&self, lines: impl IntoIterator<Item = T>) {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
        let written = lines.into_iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush());
        self.note_loss(written);
    }

    fn note_loss(&self, written: io::Result<()>) {
        if written.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe) {
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    /// Ends the output: a result that could not be written is a failure, whatever else went well.
    pub(crate) fn end(&self) -> Result<(), CliError> {
        self.note_loss(io::stdout().lock().flush());
        if self.lost.load(Ordering::Relaxed) {
            return Err(CliError::internal("the result could not be written to the standard output"));
        }
        Ok(())
    }

    /// The one JSON document of a command.
    pub(crate) fn document<T: Serialize>(&self, value: &T) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| CliError::internal(&format!("cannot write JSON: {error}")))?;
        self.line(&text);
        Ok(())
    }

    /// A line for people.
    pub(crate) fn note(&self, text: &str) {
        let text = self.without_secrets(text);
        drop(writeln!(io::stderr().lock(), "{}", SafeText::excerpt(&text, LINE_CHARS)));
    }

    /// Prints a failure: what failed, why, what to do; as JSON on stdout too when JSON was asked for.
    pub(crate) fn failure(&self, error: &CliError) -> ExitCode {
        if self.json {
            self.failure_document(error);
        }
        self.explain(error);
        u8::try_from(error.code).map_or(ExitCode::FAILURE, ExitCode::from)
    }

    /// The one JSON document of a command that failed.
    pub(crate) fn failure_document(&self, error: &CliError) {
        let mut document = json!({ "error": error_value(error) });
        if let (Some(partial), Some(object)) = (&error.partial, document.as_object_mut()) {
            object.insert("results".to_owned(), partial.clone());
        }
        self.conceal_in(&mut document);
        drop(self.document(&document));
    }

    /// Blanks secrets in the failure of a document and in those of its results.
    fn conceal_in(&self, document: &mut Value) {
        let conceal = |text: &mut Value| {
            if let Value::String(text) = text {
                *text = self.without_secrets(text).into_owned();
            }
        };
        if let Some(error) = document.get_mut("error") {
            error.get_mut("message").into_iter().for_each(conceal);
            for name in ["causes", "hints"] {
                error.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten().for_each(conceal);
            }
        }
        for result in document.get_mut("results").and_then(Value::as_array_mut).into_iter().flatten() {
            self.conceal_in(result);
        }
    }

    /// Prints a failure for people without ending anything.
    pub(crate) fn explain(&self, error: &CliError) {
        self.note(&format!("error: {}", error.message));
        for cause in &error.causes {
            self.note(&format!("  cause: {cause}"));
        }
        for hint in &error.hints {
            self.note(&format!("   hint: {hint}"));
        }
    }
}

/// A failure as a JSON object.
pub(crate) fn error_value(error: &CliError) -> Value {
    let mut value = json!({
        "code": error.kind,
        "exit": error.code,
        "message": error.message,
        "causes": error.causes,
        "reference": error.reference,
        "retryable": error.retryable,
        "hints": error.hints,
    });
    if let (Some(reason), Some(object)) = (error.reason, value.as_object_mut()) {
        object.insert("reason".to_owned(), reason.name().into());
    }
    value
}

/// A reference as a result repeats it: as typed, and a URL without its secrets.
pub(crate) fn echoed(reference: &str) -> String {
    let is_url = reference
        .split_once("://")
        .is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http"));
    if is_url { redact_url(reference) } else { reference.to_owned() }
}

/// A size for people: `2.0 MiB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths in integers: exact enough for people, and free of rounding surprises.
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).unwrap_or(&"TiB"))
}

#[cfg(test)]
mod tests {
    use super::human_bytes;

    #[test]
    fn sizes_are_shown_with_one_decimal_and_a_binary_unit() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (2 << 20, "2.0 MiB"),
            (1 << 30, "1.0 GiB"),
        ] {
            assert_eq!(human_bytes(bytes), shown);
        }
    }
}
