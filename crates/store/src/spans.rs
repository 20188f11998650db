//! The spans of one record as one value.
//!
//! A byte for the form, then two landings a span: length of the version's text, the text, 20 bytes of
//! commit; a length of 0 stands for "since before history" on the left and "never" on the right.

use tuxtape_core::git_id::GitId;
use tuxtape_core::span::{Landing, Span};

const FORM: u8 = 1;
const COMMIT: usize = 20;

pub(crate) fn write(spans: &[Span]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + spans.len() * 60);
    bytes.push(FORM);
    for span in spans {
        for landing in [span.introduced, span.fixed] {
            let Some(landing) = landing else {
                bytes.push(0);
                continue;
            };
            let version = landing.version.to_string();
            let length = u8::try_from(version.len()).expect("four numbers of 16 bits");
            bytes.push(length);
            bytes.extend_from_slice(version.as_bytes());
            bytes.extend_from_slice(landing.commit.as_bytes());
        }
    }
    bytes
}

/// A value that [`write`] does not write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads what [`write`] wrote.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Span>, Malformed> {
    let Some((&FORM, mut rest)) = bytes.split_first() else {
        return Err(Malformed);
    };
    let mut spans = Vec::with_capacity(rest.len() / 50);
    while !rest.is_empty() {
        let introduced = landing(&mut rest)?;
        let fixed = landing(&mut rest)?;
        spans.push(Span { introduced, fixed });
    }
    Ok(spans)
}

fn landing(rest: &mut &[u8]) -> Result<Option<Landing>, Malformed> {
    let (length, after) = rest.split_first().ok_or(Malformed)?;
    if *length == 0 {
        *rest = after;
        return Ok(None);
    }
    let version = after.split_at_checked(usize::from(*length));
    let (version, after) = version.ok_or(Malformed)?;
    let (commit, after) = after.split_first_chunk::<COMMIT>().ok_or(Malformed)?;
    *rest = after;
    let version = std::str::from_utf8(version).map_err(|_| Malformed)?;
    Ok(Some(Landing {
        version: version.parse().map_err(|_| Malformed)?,
        commit: GitId::from_bytes(*commit),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Span> {
        let landing = |version: &str, byte| {
            Some(Landing {
                version: version.parse().unwrap(),
                commit: GitId::from_bytes([byte; 20]),
            })
        };
        let (old, new) = (landing("2.6.32.71", 1), landing("6.17-rc3", 2));
        [(None, old), (old, new), (new, None), (None, None)]
            .map(|(introduced, fixed)| Span { introduced, fixed })
            .to_vec()
    }

    #[test]
    fn spans_survive_the_round_trip() {
        for spans in [sample(), vec![]] {
            assert_eq!(read(&write(&spans)), Ok(spans));
        }
    }

    #[test]
    fn a_damaged_value_is_no_spans() {
        let bytes = write(&sample());
        for end in 0..bytes.len() {
            // Cut between two spans it is a shorter list; a store is not cut, but checked all the same.
            let cut = read(&bytes[..end]);
            assert!(
                cut.is_ok_and(|spans| spans == sample()[..spans.len()])
                    || read(&bytes[..end]).is_err(),
                "{end}"
            );
        }
        assert_eq!(read(&[2]), Err(Malformed));
        assert_eq!(read(&[1, 3, b'x']), Err(Malformed));
    }
}
