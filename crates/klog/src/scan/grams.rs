//! A search for many long texts that looks at one byte in six.
//!
//! Of any eleven bytes in a row, six in a row begin at a multiple of six. So of each text its first
//! eleven bytes give six grams of six bytes; a place of the log that has none of these grams, at the
//! one multiple of six that falls into it, has none of the texts. Text of kernels that are well
//! hardly has any, and what a gram costs does not grow with their number.

/// Bytes of a gram, and from one look to the next.
const GRAM: usize = 6;
/// Bytes a text needs to be found wherever it begins.
pub(super) const SHORTEST: usize = 2 * GRAM - 1;
/// Looks taken together.
const LOOKS: usize = 8;
/// Bytes these need: each reads eight.
const BLOCK: usize = GRAM * (LOOKS - 1) + 8;
/// 64-bit words of the table.
const WORDS: usize = 1024;

/// Texts to search for.
#[derive(Debug)]
pub(super) struct Grams {
    texts: Vec<&'static [u8]>,
    /// A bit for the hash of each gram.
    table: Box<[u64; WORDS]>,
    /// Hash of each gram, its text and its place in it, sorted.
    hashes: Vec<(u16, usize, usize)>,
    /// Where the hashes of each word of the table begin.
    shelves: Vec<usize>,
}

/// Mixes the lower six bytes to sixteen bits.
fn hash(eight: u64) -> u16 {
    const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;
    // The first shift drops the two bytes too many, the last leaves sixteen bits.
    u16::try_from((eight << 16).wrapping_mul(MIXER) >> 48).unwrap_or_default()
}

impl Grams {
    /// Takes texts of at least [`SHORTEST`] bytes.
    pub(super) fn new(texts: &[&'static str]) -> Self {
        let mut grams = Vec::new();
        let mut table = Box::new([0; WORDS]);
        for (text, bytes) in texts.iter().enumerate() {
            assert!(bytes.len() >= SHORTEST, "{bytes} may be missed");
            for (place, gram) in bytes.as_bytes().windows(GRAM).take(GRAM).enumerate() {
                let mut eight = [0; 8];
                eight[..GRAM].copy_from_slice(gram);
                let hash = hash(u64::from_le_bytes(eight));
                table[usize::from(hash / 64)] |= 1 << (hash % 64);
                grams.push((hash, text, place));
            }
        }
        grams.sort_unstable();
        let before = |word| grams.partition_point(|(hash, ..)| usize::from(hash / 64) < word);
        Self {
            shelves: (0..=WORDS).map(before).collect(),
            texts: texts.iter().map(|text| text.as_bytes()).collect(),
            table,
            hashes: grams,
        }
    }

    /// Returns where a text begins at or behind `from`. Of several on one line any may be the one;
    /// of several lines it is the first.
    pub(super) fn find(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
            let mut any = 0;
            for look in 0..LOOKS {
                let eight = block.get(look * GRAM..).and_then(|rest| rest.first_chunk());
                any |= self.bit(u64::from_le_bytes(*eight.unwrap_or(&[0; 8])));
            }
            if any & 1 != 0
                && let Some(found) =
                    (0..LOOKS).find_map(|look| self.text_around(bytes, from, at + look * GRAM))
            {
                return Some(found);
            }
            at += LOOKS * GRAM;
        }
        (at..bytes.len())
            .step_by(GRAM)
            .find_map(|at| self.text_around(bytes, from, at))
    }

    /// Whether a gram may be one of a text's, as the lowest bit.
    fn bit(&self, eight: u64) -> u64 {
        let hash = hash(eight);
        self.table
            .get(usize::from(hash / 64))
            .map_or(0, |word| word >> (hash % 64))
    }

    /// Where the text begins whose gram stands at `at`.
    fn text_around(&self, bytes: &[u8], from: usize, at: usize) -> Option<usize> {
        let mut eight = [0; 8];
        eight[..GRAM].copy_from_slice(bytes.get(at..at + GRAM)?);
        let eight = u64::from_le_bytes(eight);
        if self.bit(eight) & 1 == 0 {
            return None;
        }
        let hash = hash(eight);
        let word = usize::from(hash / 64);
        let shelf = *self.shelves.get(word)?..*self.shelves.get(word + 1)?;
        let same = self.hashes.get(shelf)?.iter();
        same.filter(|gram| gram.0 == hash)
            .find_map(|(_, text, place)| {
                let start = at.checked_sub(*place).filter(|start| *start >= from)?;
                let text = self.texts.get(*text)?;
                bytes.get(start..)?.starts_with(text).then_some(start)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_wherever_it_begins() {
        let grams = Grams::new(&["livepatch: ", "Kernel panic - not"]);
        for before in 0..130 {
            for after in [0, 1, 7, 60] {
                for (text, found) in [
                    ("livepatch: ", true),
                    ("Kernel panic - not", true),
                    ("livepatch ", false),
                    ("Kernel panic + not", false),
                ] {
                    let log = ".".repeat(before) + text + &".".repeat(after);
                    for from in [0, before.saturating_sub(5), before] {
                        assert_eq!(
                            grams.find(log.as_bytes(), from),
                            found.then_some(before),
                            "{log} from {from}"
                        );
                    }
                    assert_eq!(grams.find(log.as_bytes(), before + 1), None, "{log}");
                }
            }
        }
    }
}
