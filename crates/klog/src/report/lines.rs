//! The text of one report, line by line.

/// Lines of a report without the transport's prefixes, as bytes: a console need not be UTF-8.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    bytes: Vec<u8>,
    all: Vec<Span>,
    told: Vec<Span>,
    /// Those of `told` that are marked.
    marked: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
    facts: Facts,
}

/// What is known of a line before it is read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    /// Which of the words of [`super::marks`] it has.
    pub(crate) words: u16,
    /// It has one of the scanner's texts: a line without them has no literal of a family.
    pub(crate) marked: bool,
}

/// A part of a [`Text`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

/// A place in the text of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Index of the line.
    pub(crate) line: usize,
    /// Byte within the line.
    pub(crate) column: usize,
}

impl Text {
    /// Adds one line without its newline. A line that is not `told` is no part of what the report is
    /// named by: guesses of the unwinder, and what a panic repeats.
    #[inline]
    pub(crate) fn push(&mut self, line: &[u8], facts: Facts, told: bool) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(line);
        // The caller bounds a report far below 4 GiB.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let span = Span {
            start: place(start),
            end: place(self.bytes.len()),
            facts,
        };
        self.all.push(span);
        if told {
            if facts.marked {
                self.marked.push(place(self.told.len()));
            }
            self.told.push(span);
        }
    }

    /// Forgets the lines and keeps their room.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.all.clear();
        self.told.clear();
        self.marked.clear();
    }

    /// Returns how many bytes the lines hold.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns all lines.
    pub(crate) fn all(&self) -> Lines<'_> {
        Lines {
            bytes: &self.bytes,
            spans: &self.all,
        }
    }

    /// Returns which lines of [`Text::told`] have one of the scanner's texts, in order.
    pub(crate) fn marked(&self) -> impl Iterator<Item = usize> {
        self.marked.iter().map(|line| *line as usize)
    }

    /// Returns the lines a report is named by.
    pub(crate) fn told(&self) -> Lines<'_> {
        Lines {
            bytes: &self.bytes,
            spans: &self.told,
        }
    }
}

impl<'a> Lines<'a> {
    /// Returns how many lines there are.
    pub(crate) fn len(self) -> usize {
        self.spans.len()
    }

    /// Returns line `index`, or nothing beyond the end.
    #[inline]
    pub(crate) fn get(self, index: usize) -> &'a [u8] {
        let Some(span) = self.spans.get(index) else {
            return &[];
        };
        self.bytes
            .get(span.start as usize..span.end as usize)
            .unwrap_or_default()
    }

    /// Returns which words line `index` has.
    #[inline]
    pub(crate) fn words(self, index: usize) -> u16 {
        self.spans.get(index).map_or(0, |span| span.facts.words)
    }

    /// Returns a line from a place in it on.
    pub(crate) fn get_from(self, place: Place) -> &'a [u8] {
        self.get(place.line).get(place.column..).unwrap_or_default()
    }

    /// Returns the first `count` lines.
    pub(crate) fn first(self, count: usize) -> Self {
        Self {
            spans: self.spans.get(..count).unwrap_or(self.spans),
            ..self
        }
    }

    /// Iterates over the lines.
    pub(crate) fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.len()).map(move |index| self.get(index))
    }
}

#[cfg(test)]
impl<'a> FromIterator<&'a [u8]> for Text {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(lines: I) -> Self {
        let mut all = Self::default();
        for line in lines {
            let facts = Facts {
                words: super::marks::words(line, super::Signs::of(line)),
                marked: true,
            };
            all.push(line, facts, true);
        }
        all
    }
}
