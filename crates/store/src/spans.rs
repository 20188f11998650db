//! The spans of one record as one value.
//!
//! A byte for the form, then two landings a span: a byte that says whether there is one, and if so the
//! version's numbers, two bytes each, and 20 bytes of commit; none stands for "since before history" on the left and
//! "never" on the right.

use tuxtape_core::git_id::GitId;
use tuxtape_core::span::{Landing, Span};
use tuxtape_core::version::KernelVersion;

const FORM: u8 = 1;
const NONE: u8 = 0;
const SOME: u8 = 1;
const VERSION: usize = 10;
const COMMIT: usize = 20;

pub(crate) fn write(spans: &[Span]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + spans.len() * 60);
    bytes.push(FORM);
    for span in spans {
        for landing in [span.introduced, span.fixed] {
            let Some(landing) = landing else {
                bytes.push(NONE);
                continue;
            };
            bytes.push(SOME);
            let numbers = landing.version.pack();
            bytes.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
            bytes.extend_from_slice(landing.commit.as_bytes());
        }
    }
    bytes
}

/// A value that [`write()`] does not write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads what [`write()`] wrote.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Span>, Malformed> {
    let mut spans = Vec::with_capacity(bytes.len() / 32);
    read_into(bytes, &mut spans)?;
    Ok(spans)
}

/// Like [`read`], in place of what `spans` held.
pub(crate) fn read_into(bytes: &[u8], spans: &mut Vec<Span>) -> Result<(), Malformed> {
    spans.clear();
    let Some((&FORM, mut rest)) = bytes.split_first() else {
        return Err(Malformed);
    };
    while !rest.is_empty() {
        let introduced = landing(&mut rest)?;
        let fixed = landing(&mut rest)?;
        spans.push(Span { introduced, fixed });
    }
    Ok(())
}

fn landing(rest: &mut &[u8]) -> Result<Option<Landing>, Malformed> {
    let (kind, after) = rest.split_first().ok_or(Malformed)?;
    match *kind {
        NONE => {
            *rest = after;
            Ok(None)
        }
        SOME => {
            let (version, after) = after.split_first_chunk::<VERSION>().ok_or(Malformed)?;
            let (commit, after) = after.split_first_chunk::<COMMIT>().ok_or(Malformed)?;
            *rest = after;
            Ok(Some(Landing {
                version: version_of(version).ok_or(Malformed)?,
                commit: GitId::from_bytes(*commit),
            }))
        }
        _ => Err(Malformed),
    }
}

fn version_of(bytes: &[u8; VERSION]) -> Option<KernelVersion> {
    let mut numbers = [0; VERSION / 2];
    for (number, pair) in numbers.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *number = u16::from_be_bytes(*pair);
    }
    KernelVersion::unpack(numbers)
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
