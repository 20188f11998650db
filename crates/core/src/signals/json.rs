//! Documents of others: only what is asked for is kept, and lists are bounded while they are read.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::{SignalError, quote};
use super::{date, decimal};
use crate::cve::{CveId, Score};
use crate::instant::UtcSeconds;

/// A score of CVSS 3.1, as CVE records and NVD both write it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cvss<'a> {
    #[serde(borrow, default)]
    pub(super) vector_string: Leaf<'a>,
    #[serde(borrow, default)]
    pub(super) base_score: Leaf<'a>,
}

/// One value of a document; what is not a plain value is only named.
#[derive(Clone, Debug, Default)]
pub(super) enum Leaf<'a> {
    /// Not there, or `null`.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Number(String),
    Other(&'static str),
}

impl Leaf<'_> {
    /// Says what is there instead of what was expected.
    pub(super) fn wrong(&self, path: impl FnOnce() -> String, want: &'static str) -> SignalError {
        let found = match self {
            Leaf::Absent => "nothing".to_owned(),
            Leaf::Text(text) => quote(text),
            Leaf::Number(number) => number.clone(),
            Leaf::Other(kind) => (*kind).to_owned(),
        };
        SignalError::Field {
            path: path(),
            found,
            want,
        }
    }

    /// Takes a text.
    pub(super) fn text(
        &self,
        path: impl FnOnce() -> String,
        want: &'static str,
    ) -> Result<&str, SignalError> {
        match self {
            Leaf::Text(text) => Ok(text),
            Leaf::Absent | Leaf::Number(_) | Leaf::Other(_) => Err(self.wrong(path, want)),
        }
    }

    /// Takes a text if there is one, nothing if there is none.
    pub(super) fn optional(
        &self,
        path: impl FnOnce() -> String,
        want: &'static str,
    ) -> Result<Option<&str>, SignalError> {
        match self {
            Leaf::Absent => Ok(None),
            Leaf::Text(_) | Leaf::Number(_) | Leaf::Other(_) => self.text(path, want).map(Some),
        }
    }

    /// Takes a CVE id.
    pub(super) fn cve(&self, path: impl Fn() -> String) -> Result<CveId, SignalError> {
        const WANT: &str = "a CVE id such as CVE-2024-14027";
        let text = self.text(&path, WANT)?;
        text.parse().map_err(|_| self.wrong(path, WANT))
    }

    /// Takes a date.
    pub(super) fn date(&self, path: impl Fn() -> String) -> Result<UtcSeconds, SignalError> {
        const WANT: &str = "a date such as 2024-08-26";
        let text = self.text(&path, WANT)?;
        date::parse(text).ok_or_else(|| self.wrong(path, WANT))
    }

    /// Takes a date if there is one, nothing if there is none.
    pub(super) fn optional_date(
        &self,
        path: impl Fn() -> String,
    ) -> Result<Option<UtcSeconds>, SignalError> {
        match self {
            Leaf::Absent => Ok(None),
            Leaf::Text(_) | Leaf::Number(_) | Leaf::Other(_) => self.date(path).map(Some),
        }
    }

    /// Takes a base score, a number from 0 to 10.
    pub(super) fn score(&self, path: impl Fn() -> String) -> Result<Score, SignalError> {
        let number = match self {
            Leaf::Number(number) => decimal::units(number, 1, 100),
            Leaf::Absent | Leaf::Text(_) | Leaf::Other(_) => None,
        };
        let tenths = number.and_then(|tenths| u8::try_from(tenths).ok());
        tenths
            .and_then(Score::from_tenths)
            .ok_or_else(|| self.wrong(path, "a score from 0 to 10"))
    }

    /// Takes a CVSS v3.1 vector.
    pub(super) fn vector(&self, path: impl Fn() -> String) -> Result<String, SignalError> {
        const WANT: &str = "a vector such as CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H";
        let text = self.text(&path, WANT)?;
        let plain = text.starts_with("CVSS:3.1/")
            && text.len() <= 200
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if plain {
            Ok(text.to_owned())
        } else {
            Err(self.wrong(path, WANT))
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Leaf<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any<'a>(PhantomData<Leaf<'a>>);
        impl<'de: 'a, 'a> Visitor<'de> for Any<'a> {
            type Value = Leaf<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Leaf<'a>, E> {
                Ok(Leaf::Absent)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Leaf<'a>, E> {
                Ok(Leaf::Other(if value { "true" } else { "false" }))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Leaf<'a>, E> {
                Ok(Leaf::Number(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Leaf<'a>, E> {
                Ok(Leaf::Number(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Leaf<'a>, E> {
                Ok(Leaf::Number(value.to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Leaf<'a>, E> {
                Ok(Leaf::Text(Cow::Owned(value.to_owned())))
            }

            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Leaf<'a>, E> {
                Ok(Leaf::Text(Cow::Borrowed(value)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Leaf<'a>, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Leaf::Other("a list"))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Leaf<'a>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Leaf::Other("an object"))
            }
        }
        from.deserialize_any(Any(PhantomData))
    }
}

/// A list of at most `MOST` items; absent and `null` are an empty one.
#[derive(Debug)]
pub(super) struct List<T, const MOST: usize>(pub(super) Vec<T>);

impl<T, const MOST: usize> Default for List<T, MOST> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Items<T, const MOST: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Items<T, MOST> {
            type Value = List<T, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(List::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    if items.len() == MOST {
                        return Err(A::Error::custom(format!("more than {MOST} items")));
                    }
                    items.push(item);
                }
                Ok(List(items))
            }
        }
        from.deserialize_any(Items(PhantomData))
    }
}

/// Reads one document, and nothing after it.
pub(super) fn document<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, SignalError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.trim_ascii().is_empty() {
        return Err(SignalError::Empty);
    }
    serde_json::from_slice(bytes).map_err(|error| SignalError::Json(error.to_string()))
}

/// Strips control characters and bounds the length: the text goes to terminals.
pub(super) fn words(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect::<String>()
        .trim()
        .to_owned()
}
