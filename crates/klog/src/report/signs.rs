//! Which telling bytes a line has, found in one pass.

/// Bytes a line has. Lines are short: to search them for each byte takes longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signs(u8);

impl Signs {
    /// `+`, in front of an offset.
    pub(crate) const PLUS: Self = Self(1);
    /// `:`.
    pub(crate) const COLON: Self = Self(1 << 1);
    /// `?`, in front of a guess.
    pub(crate) const QUESTION: Self = Self(1 << 2);
    /// A letter that lines of x86's registers lack, and nearly all words of [`super::marks`] have.
    pub(crate) const LETTER: Self = Self(1 << 3);
    /// `I`.
    pub(crate) const I: Self = Self(1 << 4);
    /// `P`.
    pub(crate) const P: Self = Self(1 << 5);

    const TABLE: [u8; 256] = {
        let mut table = [0; 256];
        table[b'+' as usize] = Self::PLUS.0;
        table[b':' as usize] = Self::COLON.0;
        table[b'?' as usize] = Self::QUESTION.0;
        table[b'I' as usize] = Self::I.0;
        table[b'P' as usize] = Self::P.0;
        let letters = b"tlrpWU";
        let mut index = 0;
        while index < letters.len() {
            table[letters[index] as usize] = Self::LETTER.0;
            index += 1;
        }
        table
    };

    /// Looks at all bytes of a line.
    #[inline]
    pub(crate) fn of(line: &[u8]) -> Self {
        let bits = line.iter().map(|byte| Self::TABLE[usize::from(*byte)]);
        Self(bits.fold(0, |all, bit| all | bit))
    }

    /// Tells whether the line has one of these.
    #[inline]
    pub(crate) fn any(self, wanted: Self) -> bool {
        self.0 & wanted.0 != 0
    }

    /// Tells whether the line can have a word of [`super::marks`].
    #[inline]
    pub(crate) fn may_have_word(self) -> bool {
        self.any(Self::LETTER) || (self.any(Self::I) && self.any(Self::P))
    }
}
