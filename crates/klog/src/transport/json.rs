//! JSON objects: journald's, and `dmesg -J`'s.

use serde_json::Value;

use super::journal::Entry;

/// Bytes of one object; a longer one is passed over.
const OBJECT_LIMIT: usize = 256 * 1024;

/// Cuts the innermost objects out of bytes that come in pieces: journald writes them bare, `dmesg`
/// within a list within an object.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    held: Vec<u8>,
    /// An object is open.
    inside: bool,
    quoted: bool,
    escaped: bool,
    start: u64,
    offset: u64,
}

/// One object, read.
#[derive(Debug)]
pub(crate) enum Object {
    /// A journal entry.
    Entry(Entry),
    /// A line of `dmesg -J`, in the form of a `dmesg -r` line.
    Line(Vec<u8>, u64, u64),
    /// No JSON, no object of a known kind, or too long: where it stands.
    Unparsed(u64, u64),
}

impl Objects {
    /// Takes in the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Object)) {
        for byte in bytes {
            let at = self.offset;
            self.offset += 1;
            if self.inside && self.held.len() < OBJECT_LIMIT {
                self.held.push(*byte);
            }
            if self.quoted {
                match (self.escaped, byte) {
                    (true, _) => self.escaped = false,
                    (false, b'\\') => self.escaped = true,
                    (false, b'"') => self.quoted = false,
                    (false, _) => {}
                }
                continue;
            }
            match byte {
                b'"' => self.quoted = true,
                b'{' => {
                    self.inside = true;
                    self.start = at;
                    self.held.clear();
                    self.held.push(b'{');
                }
                b'}' if self.inside => {
                    self.inside = false;
                    take(read(&self.held, self.start, at + 1));
                    self.held.clear();
                }
                // A line break within a string is no JSON: a torn object ends here.
                _ => {}
            }
        }
    }

    /// Says what is left over.
    pub(crate) fn finish(&mut self, mut take: impl FnMut(Object)) {
        if self.inside {
            take(Object::Unparsed(self.start, self.offset));
        }
    }
}

fn read(text: &[u8], start: u64, end: u64) -> Object {
    let text = String::from_utf8_lossy(text);
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(&text) else {
        return Object::Unparsed(start, end);
    };
    if let Some(Value::String(text)) = fields.get("msg") {
        return Object::Line(dmesg(&fields, text), start, end);
    }
    let mut entry = Entry {
        start,
        end,
        ..Entry::default()
    };
    for (name, value) in &fields {
        if name == "MESSAGE" && *value == Value::Null {
            entry.message_is_null = true;
            entry.any = true;
        } else if let Some(value) = bytes_of(value) {
            entry.set(name.as_bytes(), &value);
        }
    }
    Object::Entry(entry)
}

/// A string, an array of byte numbers, or the first of several values.
fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Number(number) => Some(number.to_string().into_bytes()),
        Value::Array(values) => {
            let bytes: Option<Vec<u8>> = values
                .iter()
                .map(|value| u8::try_from(value.as_u64()?).ok())
                .collect();
            bytes.or_else(|| values.iter().find_map(bytes_of))
        }
        Value::Null | Value::Bool(_) | Value::Object(_) => None,
    }
}

/// `{"pri":5,"time":    0.000000,"msg":"…"}`, or with `-x` the words.
fn dmesg(fields: &serde_json::Map<String, Value>, text: &str) -> Vec<u8> {
    const LEVELS: [&str; 8] = [
        "emerg", "alert", "crit", "err", "warn", "notice", "info", "debug",
    ];
    let number = match fields.get("pri") {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(word)) => {
            let level = LEVELS.iter().position(|level| level == word);
            let kernel = fields
                .get("fac")
                .is_none_or(|facility| facility.as_str() == Some("kern"));
            level.map(|level| level as u64 + if kernel { 0 } else { 8 })
        }
        _ => None,
    };
    let micros = match fields.get("time") {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let caller = fields
        .get("caller")
        .and_then(Value::as_str)
        .map(|caller| format!("[{caller}]"))
        .unwrap_or_default();
    // An embedded newline would look like a line of its own.
    let text = text.split('\n').next().unwrap_or_default();
    let priority = number
        .map(|number| format!("<{number}>"))
        .unwrap_or_default();
    format!("{priority}[{:.6}]{caller} {text}", micros.unwrap_or(0.0)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(log: &str, size: usize) -> Vec<String> {
        let mut objects = Objects::default();
        let mut found = Vec::new();
        let mut take = |object: Object| {
            found.push(match object {
                Object::Entry(entry) => {
                    String::from_utf8(entry.message.unwrap_or_default()).unwrap()
                }
                Object::Line(line, _, _) => String::from_utf8(line).unwrap(),
                Object::Unparsed(start, end) => format!("{start}..{end}"),
            });
        };
        for piece in log.as_bytes().chunks(size) {
            objects.push(piece, &mut take);
        }
        objects.finish(&mut take);
        found
    }

    #[test]
    fn objects_are_read_however_they_are_cut() {
        let log = "{\"MESSAGE\":\"a } \\\" {\"}\n{\"MESSAGE\":[66,85,71]}\n{\"dmesg\":[{\"pri\":5,\"time\":    1.500000,\"msg\":\"x\"},{\"fac\":\"user\",\"pri\":\"notice\",\"time\":2.0,\"caller\":\"T7\",\"msg\":\"y\"}]}{\"MESSAGE\": 1, nonsense}{";
        let expected = ["a } \" {", "BUG", "<5>[1.500000] x", "<13>[2.000000][T7] y"];
        for size in [1, 2, 7, 1000] {
            let found = all(log, size);
            assert_eq!(found[..4], expected, "{size}");
            assert_eq!(found.len(), 6, "{found:?}");
        }
    }
}
