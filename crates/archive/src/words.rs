//! Texts for people: a digest as eight words that can be compared by voice, and texts of others.

/// Returns the first 16 bytes of a SHA-256 digest as eight words of five letters, consonants and
/// vowels in turn, 16 bits each.
pub fn spoken(digest: &[u8; 32]) -> String {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aiou";
    let mut words = Vec::new();
    for pair in digest[..16].chunks_exact(2) {
        let bits = u16::from_be_bytes([pair[0], pair[1]]);
        let letter = |set: &[u8], shift: u32| {
            let mask = set.len() - 1;
            char::from(set[usize::from(bits >> shift) & mask])
        };
        let word: String = [
            letter(CONSONANTS, 12),
            letter(VOWELS, 10),
            letter(CONSONANTS, 6),
            letter(VOWELS, 4),
            letter(CONSONANTS, 0),
        ]
        .iter()
        .collect();
        words.push(word);
    }
    words.join(" ")
}

/// Returns a text that somebody else wrote so that it can be printed: whatever could move the cursor,
/// end the line or turn its direction is escaped, as Rust writes it.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        // Direction marks and the like (Unicode category Cf) are not control characters by name, but
        // Debug escapes them; quotes and backslashes it escapes, too, which nobody needs here.
        if matches!(letter, '"' | '\'' | '\\') {
            line.push(letter);
        } else {
            line.extend(letter.escape_debug());
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_one_of_the_first_128_bits_changes_a_word() {
        let digest = [0x5a; 32];
        let words = spoken(&digest);
        assert_eq!(words.split(' ').count(), 8);
        for bit in 0..128 {
            let mut other = digest;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(spoken(&other), words, "bit {bit}");
        }
    }

    #[test]
    fn what_could_deceive_a_terminal_is_escaped_and_all_else_stays() {
        let plain = "h\u{e4}ngt in \"madvise\", it's C:\\x";
        assert_eq!(one_line(plain), plain);
        let hostile = "x\u{1b}[2J\nlevel 9 \u{202e}ok\r\u{9b}\u{2028}";
        let line = one_line(hostile);
        assert_eq!(line, "x\\u{1b}[2J\\nlevel 9 \\u{202e}ok\\r\\u{9b}\\u{2028}");
    }
}
