//! Spans for tests of this and other crates.

use super::{Landing, Span};
use crate::git_id::GitId;

/// Reads spans such as `5.10..6.1.20`, `..6.3` (before history) and `6.10.10..` (not fixed).
pub fn spans(texts: &[&str]) -> Vec<Span> {
    let landing = |text: &str| {
        (!text.is_empty()).then(|| Landing {
            version: text.parse().expect("a sample's version"),
            commit: GitId::from_bytes([7; 20]),
        })
    };
    let ends = texts.iter().filter_map(|text| text.split_once(".."));
    ends.map(|(bug, fix)| Span {
        introduced: landing(bug),
        fixed: landing(fix),
    })
    .collect()
}
