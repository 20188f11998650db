//! Canonical JSON, the one form of a value that is signed.
//!
//! No white space, members sorted by key, only `"` and `\` escaped, integers only
//! (<http://wiki.laptop.org/go/Canonical_JSON>).

use serde_json::Value;

/// Nesting a value may have.
pub const DEPTH_LIMIT: usize = 32;
/// Integers above this are not exact in every JSON reader.
pub const INTEGER_LIMIT: u64 = 1 << 53;

/// Why a value has no canonical form here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    /// Not JSON at all.
    #[error("not JSON: {0}")]
    Json(String),
    /// Fractions and exponents have no canonical form.
    #[error("number {0} is not an integer below 2^53")]
    Number(String),
    /// Nested deeper than any metadata is.
    #[error("nested deeper than {DEPTH_LIMIT} levels")]
    Depth,
}

/// Parses `bytes`, refusing what could not be signed.
pub fn parse(bytes: &[u8]) -> Result<Value, NotCanonical> {
    let value = serde_json::from_slice(bytes).map_err(|e| NotCanonical::Json(e.to_string()))?;
    check(&value, DEPTH_LIMIT)?;
    Ok(value)
}

/// Returns the canonical bytes of `value`.
pub fn bytes(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    check(value, DEPTH_LIMIT)?;
    let mut out = Vec::new();
    write(value, &mut out);
    Ok(out)
}

/// Tells whether every string in `value` is printable ASCII; lines may end, as in a key in PEM.
///
/// One canonicaliser in use normalises to NFC and another does not, so our own files hold no letter
/// they could differ on.
pub fn is_plain(value: &Value) -> bool {
    let plain = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n'));
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => plain(text),
        Value::Array(items) => items.iter().all(is_plain),
        Value::Object(members) => members
            .iter()
            .all(|(key, value)| plain(key) && is_plain(value)),
    }
}

fn check(value: &Value, depth: usize) -> Result<(), NotCanonical> {
    let below = || depth.checked_sub(1).ok_or(NotCanonical::Depth);
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
        Value::Number(number) => {
            let small = number.as_u64().is_some_and(|n| n < INTEGER_LIMIT)
                || number
                    .as_i64()
                    .is_some_and(|n| n.unsigned_abs() < INTEGER_LIMIT);
            small
                .then_some(())
                .ok_or_else(|| NotCanonical::Number(number.to_string()))
        }
        Value::Array(items) => {
            let below = below()?;
            items.iter().try_for_each(|item| check(item, below))
        }
        Value::Object(members) => {
            let below = below()?;
            members.values().try_for_each(|member| check(member, below))
        }
    }
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            // Not every build of the JSON library keeps members sorted.
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by(|left, right| left.0.cmp(right.0));
            out.push(b'{');
            for (index, (key, member)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write(member, out);
            }
            out.push(b'}');
        }
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_sorted_and_blanks_are_gone() {
        let value = parse(br#"{ "b": [1, true, null], "a": "x\n\"\\" }"#).unwrap();
        let bytes = bytes(&value).unwrap();
        assert_eq!(bytes, b"{\"a\":\"x\n\\\"\\\\\",\"b\":[1,true,null]}");
    }

    #[test]
    fn what_has_no_canonical_form_is_refused() {
        for bad in ["1.0", "1e3", "9007199254740992", "-9007199254740992"] {
            assert!(
                matches!(parse(bad.as_bytes()), Err(NotCanonical::Number(_))),
                "{bad}"
            );
        }
        let deep = "[".repeat(40) + &"]".repeat(40);
        assert_eq!(parse(deep.as_bytes()), Err(NotCanonical::Depth));
        assert!(matches!(parse(b"{"), Err(NotCanonical::Json(_))));
        let endless = "[".repeat(1_000_000);
        assert!(matches!(
            parse(endless.as_bytes()),
            Err(NotCanonical::Json(_))
        ));
    }
}
