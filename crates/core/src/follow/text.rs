//! What titles and descriptions say about earlier commits.

use super::Turn;

/// Fewest digits that name a commit: the kernel's developers write twelve.
const FEWEST_DIGITS: usize = 12;
/// Digits of a whole name.
const MOST_DIGITS: usize = 40;
/// Longest sentence that is read around a name, in bytes to each side.
const LONGEST_SENTENCE: usize = 400;
/// Longest words that are shown, in characters.
const LONGEST_WORDS: usize = 300;

/// Words right before a name that take the commit back.
const REVERTS: [&str; 7] = [
    "revert commit",
    "reverts commit",
    "reverting commit",
    "revert the commit",
    "reverts the commit",
    "this reverts",
    "revert",
];
/// Words in the sentence of a name that say its commit did not do the whole work. Each was seen to
/// mean that in the feed; looser ones ("introduced", "caused", "similar") were not.
const FALLS_SHORT: [&str; 18] = [
    "attempted to fix",
    "attempts to fix",
    "attempt to fix",
    "tried to fix",
    "tries to fix",
    "trying to fix",
    "is not complete",
    "is incomplete",
    "was incomplete",
    "not sufficient",
    "only fixed",
    "partially",
    "not addressed by",
    "can be bypassed",
    "missed",
    "forgets to",
    "forgot to",
    "still",
];

/// A commit named in a description.
#[derive(Debug)]
pub(super) struct Mention<'a> {
    /// 12 to 40 lower-case hex digits.
    pub(super) digits: &'a str,
    text: &'a str,
    start: usize,
}

/// Returns the title that a title of the form `Revert "TITLE"` takes back, with or without a prefix
/// such as `scsi: `.
pub(super) fn reverted_title(title: &str) -> Option<&str> {
    let (prefix, rest) = title.split_once("Revert \"")?;
    let inner = rest.strip_suffix('"')?;
    // A quotation mark before it means that the revert is itself what somebody took back.
    (!prefix.contains('"') && !inner.is_empty()).then_some(inner)
}

/// Lists the commits named in `text`, in its order.
pub(super) fn mentions(text: &str) -> impl Iterator<Item = Mention<'_>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let (start, end) = next_run(bytes, at)?;
            at = end;
            let digits = text.get(start..end)?;
            // Register dumps are full of sixteen digits; those with a prefix or suffix are no names.
            let stands_alone = !is_word(bytes, start.checked_sub(1)) && !is_word(bytes, Some(end));
            if stands_alone && digits.len() <= MOST_DIGITS {
                return Some(Mention {
                    digits,
                    text,
                    start,
                });
            }
        }
    })
}

/// Finds the next run of at least [`FEWEST_DIGITS`] digits, as its start and end.
fn next_run(bytes: &[u8], mut at: usize) -> Option<(usize, usize)> {
    loop {
        // A run that long that starts at or after `at` covers the last byte of this stretch, or
        // starts behind it.
        let probe = at.checked_add(FEWEST_DIGITS - 1)?;
        if !is_digit(*bytes.get(probe)?) {
            at = probe + 1;
            continue;
        }
        let reach = bytes.get(at..probe).unwrap_or_default();
        let back = reach.iter().rev().take_while(|c| is_digit(**c)).count();
        let start = probe - back;
        let ahead = bytes.get(probe..).unwrap_or_default();
        let end = probe + ahead.iter().take_while(|c| is_digit(**c)).count();
        if end - start >= FEWEST_DIGITS {
            return Some((start, end));
        }
        at = end;
    }
}

fn is_digit(c: u8) -> bool {
    matches!(c, b'0'..=b'9' | b'a'..=b'f')
}

fn is_word(bytes: &[u8], at: Option<usize>) -> bool {
    at.and_then(|at| bytes.get(at))
        .is_some_and(|c| c.is_ascii_alphanumeric() || *c == b'_')
}

fn sentence_before(text: &str, end: usize) -> &str {
    let mut from = end.saturating_sub(LONGEST_SENTENCE);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let near = text.get(from..end).unwrap_or_default();
    let cut = [". ", ".\n", "\n\n"]
        .into_iter()
        .filter_map(|stop| near.rfind(stop).map(|at| at + stop.len()))
        .max();
    near.get(cut.unwrap_or(0)..).unwrap_or_default()
}

fn sentence_after(text: &str, start: usize) -> &str {
    let mut to = start.saturating_add(LONGEST_SENTENCE).min(text.len());
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    let near = text.get(start..to).unwrap_or_default();
    // A full stop inside the quoted title ends no sentence.
    let title = near.find("\")").unwrap_or(0);
    let rest = near.get(title..).unwrap_or_default();
    let cut = [". ", ".\n", "\n\n"]
        .into_iter()
        .filter_map(|stop| rest.find(stop).map(|at| at + title))
        .min();
    near.get(..cut.unwrap_or(near.len())).unwrap_or_default()
}

impl Mention<'_> {
    // Cut out only when asked for: most names are registers, and no commit of a fix.
    fn before(&self) -> &str {
        sentence_before(self.text, self.start)
    }

    fn after(&self) -> &str {
        sentence_after(self.text, self.start + self.digits.len())
    }

    /// Reads what the sentence says of the commit; `None` for a mere mention.
    pub(super) fn turn(&self) -> Option<Turn> {
        let before = folded(self.before());
        let head = before
            .trim_end()
            .trim_end_matches(['(', '"', '[', ':', '<'])
            .trim_end();
        let of = |words: &&str| {
            // "the revert commit X" and "a revert of commit X" speak of a revert, and do none.
            let rest = head.strip_suffix(*words)?.trim_end();
            let speaks = ["the", "a", "by", "to", "should"]
                .iter()
                .any(|word| rest.ends_with(word) && !rest.ends_with("also"));
            let starts = rest.is_empty() || head.len() > words.len() + rest.len();
            (!speaks && starts).then_some(())
        };
        if REVERTS.iter().find_map(of).is_some() {
            return Some(Turn::Reverted);
        }
        let sentence = format!("{before} {}", without_title(&folded(self.after())));
        FALLS_SHORT
            .iter()
            .any(|words| has_words(&sentence, words))
            .then_some(Turn::Corrected)
    }

    /// Returns the sentence on one line.
    pub(super) fn words(&self) -> String {
        let whole = format!("{}{}{}", self.before(), self.digits, self.after());
        let line = whole.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.chars().count() <= LONGEST_WORDS {
            return line;
        }
        let short: String = line.chars().take(LONGEST_WORDS).collect();
        format!("{short}…")
    }
}

/// Lower case, with each run of white space as one space.
fn folded(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").to_ascii_lowercase()
}

/// Drops a title that follows the name as `("…")`: its words are not the sentence's.
fn without_title(after: &str) -> &str {
    let title = after.trim_start().strip_prefix("(\"");
    title
        .and_then(|title| title.split_once("\")"))
        .map_or(after, |(_, rest)| rest)
}

fn has_words(sentence: &str, words: &str) -> bool {
    sentence.match_indices(words).any(|(at, _)| {
        let bytes = sentence.as_bytes();
        !is_word(bytes, at.checked_sub(1)) && !is_word(bytes, Some(at + words.len()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turns(text: &str) -> Vec<(String, Option<Turn>)> {
        mentions(text)
            .map(|it| (it.digits.to_owned(), it.turn()))
            .collect()
    }

    fn check(text: &str, turn: Option<Turn>) {
        assert_eq!(turns(text), [("abcdef123456".to_owned(), turn)], "{text:?}");
    }

    #[test]
    fn a_title_reverts_what_it_quotes() {
        let check = |title: &str, inner: Option<&str>| assert_eq!(reverted_title(title), inner);
        check("Revert \"net: foo: fix it\"", Some("net: foo: fix it"));
        check("scsi: Revert \"scsi: x\"", Some("scsi: x"));
        check("Revert \"Revert \"bfq: x\"\"", Some("Revert \"bfq: x\""));
        check("Reapply \"Revert \"x\"\"", None);
        check("Revert \"", None);
        check("Revert x", None);
        check("", None);
    }

    #[test]
    fn words_that_take_a_commit_back_revert_it() {
        for text in [
            "This reverts commit abcdef123456.",
            "Foo is broken. Revert commit abcdef123456 (\"x: y\") to fix it",
            "After that, this patch also revert commit abcdef123456 (\"x\")",
            "This reverts\ncommit abcdef123456 (\"x\")",
            "Revert abcdef123456 (\"x\")",
        ] {
            check(text, Some(Turn::Reverted));
        }
        for text in [
            "It is needed after the revert of commit abcdef123456 (\"x\")",
            "The revert commit abcdef123456 broke it",
            "It reverted the change by commit abcdef123456 (\"x\")",
            "a sign to revert commit abcdef123456",
            "do not trust irrevert commit_abcdef abcdef123456",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn words_that_find_a_commit_wanting_correct_it() {
        for text in [
            "Commit abcdef123456 (\"f2fs: fix x. Now\") attempted to fix this, but it fails",
            "Even after applying commit abcdef123456 (\"x\"), a packet can still panic",
            "This was not addressed by commit abcdef123456 (\"x\"), which only fixed leaks",
            "Commit abcdef123456 (\"x\") is\nnot complete.",
        ] {
            check(text, Some(Turn::Corrected));
        }
    }

    #[test]
    fn a_mere_mention_is_nothing() {
        for text in [
            "This is similar to commit abcdef123456 (\"x: fix y\").",
            "It is still open. As in commit abcdef123456 (\"x\") we check. Still more",
            "commit abcdef123456 (\"x: add still missed bound\") fixed the same",
            "caused by commit abcdef123456 (\"x\")",
            "distillery abcdef123456",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn only_whole_runs_of_digits_are_names() {
        let found = |text: &str| mentions(text).map(|it| it.digits.len()).collect::<Vec<_>>();
        assert_eq!(found("abcdef12345 abcdef1234567 0xabcdef123456"), [13]);
        assert_eq!(found("abcdef123456g gabcdef123456 _abcdef123456"), [0; 0]);
        assert_eq!(found(&"a".repeat(41)), [0; 0]);
        assert_eq!(found(&format!("x/?id={}#n1", "a".repeat(40))), [40]);
        assert_eq!(found("ABCDEF123456"), [0; 0]);
        for before in 0..30 {
            for digits in 10..15 {
                let text = format!("{}{}", " ".repeat(before), "a".repeat(digits));
                let want: &[usize] = if digits < 12 { &[] } else { &[digits] };
                assert_eq!(found(&text), want, "{before} {digits}");
            }
        }
    }

    #[test]
    fn shown_words_are_one_short_line() {
        let text = format!(
            "Since {} commit abcdef123456\n (\"x\") is incomplete",
            "word ".repeat(90)
        );
        let words = mentions(&text).next().unwrap().words();
        assert!(words.chars().count() <= LONGEST_WORDS + 1, "{words}");
        assert!(!words.contains('\n'));
    }

    proptest! {
        #[test]
        fn any_text_ends_in_values(text in "[ -~äß\u{20ac}\n]{0,600}") {
            for mention in mentions(&text) {
                mention.turn();
                mention.words();
            }
            reverted_title(&text);
        }

        #[test]
        fn the_quick_search_finds_what_a_plain_one_finds(text in "[af0 g_.]{0,200}") {
            let plain: Vec<&str> = text
                .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .filter(|word| (12..=40).contains(&word.len()))
                .filter(|word| word.bytes().all(is_digit))
                .collect();
            let quick: Vec<&str> = mentions(&text).map(|it| it.digits).collect();
            prop_assert_eq!(quick, plain);
        }
    }
}
