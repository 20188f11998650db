//! Reader of `.dyad` files: the spans of one CVE record, one a line.
//!
//! Every line that is no comment is `vulnerable-version:vulnerable-commit:fixed-version:fixed-commit`;
//! `0:0` stands for "since before git history" on the left and for "not fixed" on the right.

use crate::git_id::{GitId, NotAGitId};
use crate::span::{Landing, Span};
use crate::version::{KernelVersion, NotAVersion};

/// Largest file that is read, in bytes. The feed's largest has a few kilobytes.
pub const LARGEST: usize = 4 << 20;
/// Most spans that are kept of one file. The feed's longest has 21.
pub const MOST_SPANS: usize = 10_000;

/// Why a dyad file was not read; nothing of it is used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DyadError {
    /// Too many bytes.
    #[error("{bytes} bytes, more than the limit of {LARGEST}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Too many lines.
    #[error("more than {MOST_SPANS} spans")]
    TooManySpans,
    /// No span at all.
    #[error("no spans")]
    Empty,
    /// One line is wrong.
    #[error("line {line}: {why}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: LineError,
    },
}

/// What is wrong with one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Not text.
    #[error("not UTF-8")]
    Encoding,
    /// Three fields, or five.
    #[error("{fields} fields instead of 4")]
    Fields {
        /// How many there are.
        fields: usize,
    },
    /// A `0` beside something else.
    #[error("a version or commit is 0 and the other is not")]
    HalfZero,
    /// A version in an unknown form.
    #[error(transparent)]
    Version(#[from] NotAVersion),
    /// A short or garbled commit.
    #[error("commit: {0}")]
    Commit(#[from] NotAGitId),
}

/// Reads the spans of one file, in its order.
pub fn parse(bytes: &[u8]) -> Result<Vec<Span>, DyadError> {
    if bytes.len() > LARGEST {
        return Err(DyadError::TooLarge { bytes: bytes.len() });
    }
    let mut spans = Vec::new();
    for (index, line) in bytes.split(|c| *c == b'\n').enumerate() {
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if spans.len() == MOST_SPANS {
            return Err(DyadError::TooManySpans);
        }
        let span = span(line).map_err(|why| DyadError::Line {
            line: index + 1,
            why,
        })?;
        spans.push(span);
    }
    if spans.is_empty() {
        return Err(DyadError::Empty);
    }
    Ok(spans)
}

fn span(line: &[u8]) -> Result<Span, LineError> {
    let line = std::str::from_utf8(line).map_err(|_| LineError::Encoding)?;
    let mut fields = line.split(':');
    let (Some(bug_version), Some(bug_commit), Some(fix_version), Some(fix_commit), None) = (
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
    ) else {
        return Err(LineError::Fields {
            fields: line.split(':').count(),
        });
    };
    Ok(Span {
        introduced: landing(bug_version, bug_commit)?,
        fixed: landing(fix_version, fix_commit)?,
    })
}

fn landing(version: &str, commit: &str) -> Result<Option<Landing>, LineError> {
    match (version, commit) {
        ("0", "0") => Ok(None),
        ("0", _) | (_, "0") => Err(LineError::HalfZero),
        (version, commit) => Ok(Some(Landing {
            version: version.parse::<KernelVersion>()?,
            commit: commit.parse::<GitId>()?,
        })),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUG: &str = "a49d25364dfb9f8a64037488a39ab1f56c5fa419";
    const FIX: &str = "51b8dc5163d2ff2bf04019f8bf7e3bd0e75bb654";

    #[test]
    fn a_line_is_a_pair_of_landings() {
        let text = format!("# dyad version: 1.2.0\n0:0:5.10.219:{FIX}\n4.12:{BUG}:0:0\n\n");
        let spans = parse(text.as_bytes()).unwrap();
        let texts: Vec<String> = spans.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["always → 5.10.219", "4.12 → never"]);
        assert_eq!(spans[1].introduced.unwrap().commit.to_string(), BUG);
        // The last newline may be missing.
        assert_eq!(parse(text.trim_end().as_bytes()), Ok(spans));
    }

    #[test]
    fn a_broken_line_is_named() {
        let check = |line: &str, words: &str| {
            let text = format!("# c\n4.12:{BUG}:4.18:{FIX}\n{line}\n");
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert_eq!(error, format!("line 3: {words}"));
        };
        check(&format!("4.12:{BUG}:4.18"), "3 fields instead of 4");
        check(&format!("4.12:{BUG}:4.18:{FIX}:"), "5 fields instead of 4");
        check(
            &format!("4.12:0:4.18:{FIX}"),
            "a version or commit is 0 and the other is not",
        );
        check(
            &format!("4.12:{BUG}:4.18:51b8dc5163d2"),
            "commit: not a full git object name (want 40 lower-case hex digits)",
        );
        check(
            &format!("next:{BUG}:4.18:{FIX}"),
            "\"next\" is no upstream kernel version (want a form such as 6.1.170, 6.11, 6.17-rc3 or 2.6.32.71)",
        );
        // Windows line ends hide in the commit.
        assert!(parse(format!("4.12:{BUG}:4.18:{FIX}\r\n").as_bytes()).is_err());
    }

    #[test]
    fn the_size_is_bounded() {
        assert_eq!(parse(b"# nothing\n"), Err(DyadError::Empty));
        let bytes = vec![b'#'; LARGEST + 1];
        assert_eq!(
            parse(&bytes),
            Err(DyadError::TooLarge { bytes: bytes.len() })
        );
        let line = format!("4.12:{BUG}:4.18:{FIX}\n");
        assert_eq!(
            parse(line.repeat(MOST_SPANS + 1).as_bytes()),
            Err(DyadError::TooManySpans)
        );
        assert_eq!(
            parse(line.repeat(MOST_SPANS).as_bytes()).map(|spans| spans.len()),
            Ok(MOST_SPANS)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_value(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            parse(&bytes).ok();
        }

        #[test]
        fn a_cut_file_never_yields_a_cut_commit(cut in 0usize..150) {
            let text = format!("4.12:{BUG}:4.18:{FIX}\n5.8:{BUG}:6.17:{FIX}\n");
            let bytes = text.as_bytes().get(..cut).unwrap_or(text.as_bytes());
            if let Ok(spans) = parse(bytes) {
                for landing in spans.iter().flat_map(|span| [span.introduced, span.fixed]).flatten() {
                    prop_assert!([BUG, FIX].contains(&landing.commit.to_string().as_str()));
                }
            }
        }
    }
}
