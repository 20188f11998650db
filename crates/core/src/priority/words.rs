//! Finds the strongest of many phrases in a text, on word boundaries.

use std::fmt;

/// Longest phrase, in words.
const MOST_WORDS: usize = 8;
/// Most bytes between two words of one phrase: a line end with its indentation.
const WIDEST_GAP: usize = 8;
/// Most characters of a matched phrase that are shown.
const SHOWN: usize = 60;
/// Most characters of a path that are shown.
const LONGEST_PATH: usize = 120;

/// Some words that follow one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Phrase(Vec<String>);

/// Why a text is no phrase.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAPhrase {
    #[error("{0:?} has no word")]
    Empty(String),
    #[error("{0:?} has more than {MOST_WORDS} words")]
    Long(String),
    #[error("{0:?}: words are letters, digits and underscores, with spaces or hyphens between")]
    Character(String),
}

/// Phrases, each with a rank; rank 0 is the strongest.
#[derive(Clone, Debug)]
pub(super) struct Lexicon {
    phrases: Vec<Entry>,
    /// Phrases by the first byte of their first word, in small letters, and its length.
    by_byte: Vec<Vec<(usize, usize)>>,
    /// Lengths of the first words that start with a byte, as bits: most words of a text end here.
    lengths: [u64; 256],
    negations: Vec<Phrase>,
    articles: Vec<Phrase>,
}

#[derive(Clone, Debug)]
struct Entry {
    rank: usize,
    phrase: Phrase,
    /// A stronger phrase may start within it and is not meant there: "data race" names no "race".
    masks: bool,
}

/// Where a text's bytes stop being part of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boundary {
    /// `foo_probe` is one word.
    Identifiers,
    /// `foo_probe` is two.
    Underscores,
}

/// A phrase in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// Rank of the phrase.
    pub(super) rank: usize,
    /// Bytes of the text.
    pub(super) start: usize,
    /// One past the last byte.
    pub(super) end: usize,
}

impl Phrase {
    pub(super) fn parse(text: &str) -> Result<Self, NotAPhrase> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ' ' | '-');
        if !text.chars().all(allowed) {
            return Err(NotAPhrase::Character(shorten(text)));
        }
        let words: Vec<String> = text
            .split([' ', '-'])
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
        if words.is_empty() {
            return Err(NotAPhrase::Empty(shorten(text)));
        }
        if words.len() > MOST_WORDS {
            return Err(NotAPhrase::Long(shorten(text)));
        }
        Ok(Self(words))
    }
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

impl Lexicon {
    pub(super) fn new(
        phrases: &[(usize, Phrase)],
        negations: Vec<Phrase>,
        articles: Vec<Phrase>,
    ) -> Self {
        let mut by_byte = vec![Vec::new(); 256];
        let mut lengths = [0_u64; 256];
        let masks = |rank: usize, phrase: &Phrase| {
            phrase.0.iter().skip(1).any(|word| {
                let mut stronger = phrases.iter().filter(|(other, _)| *other < rank);
                stronger.any(|(_, other)| other.0.first() == Some(word))
            })
        };
        let phrases: Vec<Entry> = phrases
            .iter()
            .map(|(rank, phrase)| Entry {
                rank: *rank,
                phrase: phrase.clone(),
                masks: masks(*rank, phrase),
            })
            .collect();
        for (index, entry) in phrases.iter().enumerate() {
            let Some(first) = entry.phrase.0.first() else {
                continue;
            };
            let byte = first.bytes().next().map_or(0, usize::from);
            if let (Some(here), Some(bits)) = (by_byte.get_mut(byte), lengths.get_mut(byte)) {
                here.push((first.len(), index));
                *bits |= length_bit(first.len());
            }
        }
        Self {
            phrases,
            by_byte,
            lengths,
            negations,
            articles,
        }
    }

    /// Returns the strongest phrase of `text`, of equals the first; only ranks below `limit` count.
    ///
    /// A phrase that a negation directly precedes does not count.
    pub(super) fn strongest(&self, text: &str, boundary: Boundary, limit: usize) -> Option<Match> {
        let bytes = text.as_bytes();
        let mut best: Option<Match> = None;
        let mut limit = limit;
        let mut masked = 0;
        for (start, first, length) in Words::new(bytes, boundary) {
            if limit == 0 {
                break;
            }
            let first = usize::from(first.to_ascii_lowercase());
            let bits = self.lengths.get(first).copied().unwrap_or(0);
            if bits & length_bit(length) == 0 || start < masked {
                continue;
            }
            let candidates = self.by_byte.get(first).map_or(&[][..], Vec::as_slice);
            let entries = candidates
                .iter()
                .filter(|(words, _)| *words == length)
                .filter_map(|(_, index)| self.phrases.get(*index))
                .filter(|entry| entry.masks || entry.rank < limit);
            let mut found: Option<Match> = None;
            for entry in entries {
                let Some(end) = phrase_at(bytes, start, &entry.phrase, boundary) else {
                    continue;
                };
                if entry.masks {
                    masked = masked.max(end);
                }
                if found.is_none_or(|found| entry.rank < found.rank) {
                    found = Some(Match {
                        rank: entry.rank,
                        start,
                        end,
                    });
                }
            }
            if let Some(found) = found
                && found.rank < limit
                && !self.is_negated(bytes, start)
            {
                limit = found.rank;
                best = Some(found);
            }
        }
        best
    }

    fn is_negated(&self, bytes: &[u8], start: usize) -> bool {
        let one_of = |phrases: &[Phrase], word: &[u8]| {
            phrases.iter().any(|phrase| {
                matches!(phrase.0.as_slice(), [only] if word.eq_ignore_ascii_case(only.as_bytes()))
            })
        };
        let Some((at, mut word)) = word_before(bytes, start) else {
            return false;
        };
        if one_of(&self.articles, word) {
            match word_before(bytes, at) {
                Some((_, before)) => word = before,
                None => return false,
            }
        }
        one_of(&self.negations, word)
    }
}

/// Returns `found` as it stands in `text`, on one line.
pub(super) fn excerpt(text: &str, found: Match) -> String {
    let words = text.get(found.start..found.end).unwrap_or_default();
    let line: Vec<&str> = words.split_whitespace().collect();
    shorten(&line.join(" "))
}

/// Returns the line of `text` that the byte `at` is on, from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    1 + text.get(..at).unwrap_or_default().matches('\n').count()
}

/// Returns a path for people, without control characters; its end where it is very long.
pub(super) fn shorten_path(path: &str) -> String {
    let shown: Vec<char> = path.chars().filter(|c| !c.is_control()).collect();
    let skipped = shown.len().saturating_sub(LONGEST_PATH);
    shown.into_iter().skip(skipped).collect()
}

pub(super) fn shorten(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(SHOWN)
        .collect()
}

fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// Bytes of letters beyond ASCII belong to words, so that none ends inside a character.
fn is_word(byte: u8, boundary: Boundary) -> bool {
    let table = match boundary {
        Boundary::Identifiers => &IDENTIFIERS,
        Boundary::Underscores => &UNDERSCORES,
    };
    table.get(usize::from(byte)).copied().unwrap_or(false)
}

static IDENTIFIERS: [bool; 256] = word_bytes(true);
static UNDERSCORES: [bool; 256] = word_bytes(false);

const fn word_bytes(underscore: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] =
            byte.is_ascii_alphanumeric() || byte >= 0x80 || (underscore && byte == b'_');
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}

/// Start, first byte and length of each word.
struct Words<'a> {
    bytes: std::iter::Enumerate<std::slice::Iter<'a, u8>>,
    length: usize,
    boundary: Boundary,
}

impl<'a> Words<'a> {
    fn new(bytes: &'a [u8], boundary: Boundary) -> Self {
        Self {
            bytes: bytes.iter().enumerate(),
            length: bytes.len(),
            boundary,
        }
    }
}

impl Iterator for Words<'_> {
    type Item = (usize, u8, usize);

    fn next(&mut self) -> Option<(usize, u8, usize)> {
        let boundary = self.boundary;
        let (start, first) = self.bytes.find(|(_, byte)| is_word(**byte, boundary))?;
        let end = self
            .bytes
            .find(|(_, byte)| !is_word(**byte, boundary))
            .map_or(self.length, |(end, _)| end);
        Some((start, *first, end - start))
    }
}

/// Returns the word that ends before `at`, where only blanks and hyphens lie between.
fn word_before(bytes: &[u8], at: usize) -> Option<(usize, &[u8])> {
    let before = bytes.get(..at)?;
    let end = before.iter().rposition(|byte| !is_gap(*byte))? + 1;
    let start = before
        .get(..end)?
        .iter()
        .rposition(|byte| !is_word(*byte, Boundary::Identifiers))
        .map_or(0, |it| it + 1);
    let word = before.get(start..end)?;
    (!word.is_empty()).then_some((start, word))
}

const fn is_gap(byte: u8) -> bool {
    byte == b'-' || byte.is_ascii_whitespace()
}

/// Returns where `phrase` ends, if it starts at the word at `start`.
fn phrase_at(bytes: &[u8], start: usize, phrase: &Phrase, boundary: Boundary) -> Option<usize> {
    let mut at = start;
    for (index, word) in phrase.0.iter().enumerate() {
        if index > 0 {
            let gap = bytes
                .get(at..)?
                .iter()
                .take(WIDEST_GAP + 1)
                .take_while(|byte| is_gap(**byte))
                .count();
            if gap == 0 || gap > WIDEST_GAP {
                return None;
            }
            at += gap;
        }
        let end = at.checked_add(word.len())?;
        if !bytes.get(at..end)?.eq_ignore_ascii_case(word.as_bytes()) {
            return None;
        }
        if bytes.get(end).is_some_and(|byte| is_word(*byte, boundary)) {
            return None;
        }
        at = end;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lexicon() -> Lexicon {
        let phrase = |text: &str| Phrase::parse(text).unwrap();
        let words = |texts: &[&str]| texts.iter().copied().map(phrase).collect::<Vec<_>>();
        Lexicon::new(
            &[
                (0, phrase("use-after-free")),
                (0, phrase("UAF")),
                (1, phrase("out of bounds write")),
                (2, phrase("out of bounds")),
                (3, phrase("race")),
                (4, phrase("memory leak")),
                (5, phrase("data race")),
            ],
            words(&["not", "no"]),
            words(&["a", "any"]),
        )
    }

    fn check(text: &str, expected: Option<&str>) {
        let found = lexicon().strongest(text, Boundary::Identifiers, usize::MAX);
        assert_eq!(
            found.map(|it| excerpt(text, it)).as_deref(),
            expected,
            "{text:?}"
        );
    }

    #[test]
    fn spaces_hyphens_and_line_ends_between_words_are_the_same() {
        check("fix a use-after-free", Some("use-after-free"));
        check("Use After Free in x", Some("Use After Free"));
        check("a use after\n    free", Some("use after free"));
        check("KASAN: slab-use-after-free in x", Some("use-after-free"));
        check("fix UAF", Some("UAF"));
    }

    #[test]
    fn words_match_whole() {
        check("trace braces embrace", None);
        check("race_lock()", None);
        check("a race.", Some("race"));
        check("use, after, free", None);
        check("use after freedom", None);
        check("éuaf uafé", None);
        check("", None);
    }

    #[test]
    fn the_strongest_counts_wherever_it_stands() {
        check(
            "fix memory leak\n\nThis avoids a race and a use after free.",
            Some("use after free"),
        );
        check("out of bounds", Some("out of bounds"));
        check("an out-of-bounds write", Some("out-of-bounds write"));
    }

    #[test]
    fn a_longer_phrase_hides_what_starts_within_it() {
        check("KCSAN: data-race in x", Some("data-race"));
        check("a data race, then a race", Some("race"));
        check("use after free by a data race", Some("use after free"));
    }

    #[test]
    fn a_negated_phrase_does_not_count() {
        check("this is not a use-after-free but a race", Some("race"));
        check("there is no memory leak", None);
        check("avoid any use-after-free", Some("use-after-free"));
        check("not so: use after free", Some("use after free"));
        check("use after free? no", Some("use after free"));
    }

    #[test]
    fn underscores_part_words_only_where_asked() {
        let lexicon = Lexicon::new(
            &[(0, Phrase::parse("probe").unwrap())],
            Vec::new(),
            Vec::new(),
        );
        let found = |boundary| lexicon.strongest("fix foo_probe()", boundary, 1);
        assert_eq!(found(Boundary::Identifiers), None);
        assert!(found(Boundary::Underscores).is_some());
    }

    #[test]
    fn a_phrase_is_words_only() {
        assert!(Phrase::parse("").is_err());
        assert!(Phrase::parse(" - ").is_err());
        assert!(Phrase::parse("a b c d e f g h i").is_err());
        assert!(Phrase::parse("isn't").is_err());
        assert_eq!(
            Phrase::parse("Use-After  free").unwrap().to_string(),
            "use after free"
        );
    }
}
