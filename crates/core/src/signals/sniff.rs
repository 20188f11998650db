//! Tells by content which source a file is of.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::Source;
use super::error::SignalError;

/// Most keys of a document that are looked at.
const MOST_KEYS: usize = 64;

/// Tells which source's form the bytes have, whole or cut short.
///
/// Only the first line, or the first document's keys, are looked at: the source's own parser says
/// what is wrong further in.
pub fn source(bytes: &[u8]) -> Result<Source, SignalError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = bytes.trim_ascii_start();
    if text.is_empty() {
        return Err(SignalError::Empty);
    }
    if text.starts_with(b"{") {
        return document(text);
    }
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let has = |word: &[u8]| line.windows(word.len()).any(|window| window == word);
    if has(b"score_date:") || has(b"epss,percentile") {
        Ok(Source::Epss)
    } else if has(b"cveID") && has(b"dateAdded") {
        Ok(Source::Kev)
    } else {
        Err(SignalError::UnknownForm)
    }
}

fn document(text: &[u8]) -> Result<Source, SignalError> {
    let mut keys = Vec::new();
    // A document cut short still has its first keys, so an error is not looked at here.
    Keys(&mut keys)
        .deserialize(&mut serde_json::Deserializer::from_slice(text))
        .ok();
    let has = |name: &str| keys.iter().any(|key| key == name);
    let is_record = has("cveMetadata") || (has("dataType") && has("containers"));
    if is_record {
        Ok(Source::Adp)
    } else if has("catalogVersion") || has("dateReleased") {
        Ok(Source::Kev)
    } else if has("resultsPerPage") || (has("vulnerabilities") && has("timestamp")) {
        Ok(Source::Nvd)
    } else if has("vulnerability") {
        Err(SignalError::OneEntry)
    } else if has("exploits") {
        Ok(Source::Exploits)
    } else {
        Err(SignalError::UnknownForm)
    }
}

/// Collects the names in a document, as far as it can be read.
struct Keys<'k>(&'k mut Vec<String>);

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if self.0.len() < MOST_KEYS {
                self.0.push(key.into_owned());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}
