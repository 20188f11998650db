//! A search for many long texts that looks at one place in eight.
//!
//! Of any thirteen bytes in a row, six in a row begin at a multiple of eight. So of each text its
//! first thirteen bytes give eight grams of six bytes; a place of the log that has none of these
//! grams, at the one multiple of eight that falls into it, has none of the texts. Text of kernels
//! that are well hardly has any, and what a gram costs does not grow with their number.

/// Bytes of a gram.
const GRAM: usize = 6;
/// Bytes from one look to the next.
const STEP: usize = 8;
/// Bytes a text needs to be found wherever it begins.
pub(super) const SHORTEST: usize = GRAM + STEP - 1;
/// Looks taken together.
const LOOKS: usize = 8;
/// Bytes these need.
const BLOCK: usize = STEP * LOOKS;
/// Bytes of the table: as many as stay in a processor's first cache.
const TABLE: usize = 1 << 15;
/// Parts the hashes are sorted into.
const SHELVES: usize = 1024;

/// Texts to search for.
#[derive(Debug)]
pub(super) struct Grams {
    texts: Vec<&'static [u8]>,
    /// One for the hash of each gram without its lowest bit, else zero. A bit each would take a
    /// quarter of the room and twice the time.
    table: Box<[u8; TABLE]>,
    /// Hash of each gram, its text and its place in it, sorted.
    hashes: Vec<(u16, usize, usize)>,
    /// Where the hashes of each shelf begin.
    shelves: Vec<usize>,
}

/// Mixes the lower six bytes to sixteen bits.
fn hash(eight: u64) -> u16 {
    const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;
    // The shift drops the two bytes too many.
    let [high, low, ..] = (eight << 16).wrapping_mul(MIXER).to_be_bytes();
    u16::from_be_bytes([high, low])
}

impl Grams {
    /// Takes texts of at least [`SHORTEST`] bytes.
    pub(super) fn new(texts: &[&'static str]) -> Self {
        let mut grams = Vec::new();
        let table: Result<Box<[u8; TABLE]>, _> = vec![0; TABLE].try_into();
        let mut table = table.expect("it has as many bytes as asked for");
        for (text, bytes) in texts.iter().enumerate() {
            assert!(bytes.len() >= SHORTEST, "{bytes} may be missed");
            for (place, gram) in bytes.as_bytes().windows(GRAM).take(STEP).enumerate() {
                let mut eight = [0; 8];
                eight[..GRAM].copy_from_slice(gram);
                let hash = hash(u64::from_le_bytes(eight));
                table[usize::from(hash / 2)] = 1;
                grams.push((hash, text, place));
            }
        }
        grams.sort_unstable();
        let before = |shelf| grams.partition_point(|(hash, ..)| usize::from(hash / 64) < shelf);
        Self {
            shelves: (0..=SHELVES).map(before).collect(),
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
            for look in block.as_chunks().0 {
                any |= self.table[usize::from(hash(u64::from_le_bytes(*look)) / 2)];
            }
            if any != 0
                && let Some(found) = self.text_in(bytes, from, at, block)
            {
                return Some(found);
            }
            at += BLOCK;
        }
        let last = (at..bytes.len()).step_by(STEP);
        last.filter_map(|at| Some((at, bytes.get(at..at + GRAM)?)))
            .find_map(|(at, gram)| {
                let mut eight = [0; 8];
                eight[..GRAM].copy_from_slice(gram);
                self.text_around(bytes, from, at, hash(u64::from_le_bytes(eight)))
            })
    }

    /// Returns where a text begins of which a gram stands in `block`, which is at `at`.
    // Out of line: the loop that calls it needs all registers.
    #[inline(never)]
    fn text_in(&self, bytes: &[u8], from: usize, at: usize, block: &[u8; BLOCK]) -> Option<usize> {
        let looks = block.as_chunks().0.iter().enumerate();
        looks
            .map(|(look, eight)| (at + look * STEP, hash(u64::from_le_bytes(*eight))))
            .filter(|(_, hash)| self.table[usize::from(hash / 2)] != 0)
            .find_map(|(at, hash)| self.text_around(bytes, from, at, hash))
    }

    /// Where the text begins whose gram, of this hash, stands at `at`.
    fn text_around(&self, bytes: &[u8], from: usize, at: usize, hash: u16) -> Option<usize> {
        let shelf = usize::from(hash / 64);
        let shelf = *self.shelves.get(shelf)?..*self.shelves.get(shelf + 1)?;
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
        let grams = Grams::new(&["livepatch: of", "Kernel panic - not"]);
        for before in 0..130 {
            for after in [0, 1, 7, 60] {
                for (text, found) in [
                    ("livepatch: of", true),
                    ("Kernel panic - not", true),
                    ("livepatch of:", false),
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
