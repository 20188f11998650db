//! Logs that were kept over a crash, in parts.

use super::form;

/// One part of a crash's log.
struct Part<'a> {
    reason: &'a [u8],
    count: u64,
    number: u64,
    text: &'a [u8],
}

/// Puts the parts of crashes in order: part 1 is the newest, so the highest comes first. What has no
/// part header stays where it is. A part begins and ends in the middle of a line.
pub fn join(log: &[u8]) -> Vec<u8> {
    let mut joined = Vec::new();
    for crash in crashes(&[log]) {
        joined.extend_from_slice(&crash);
    }
    joined
}

/// Like [`join`], of files that lie beside each other, each crash apart: what one was cut off in does
/// not go on in the next. What has no part header comes first.
pub fn crashes(files: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut before = Vec::new();
    let mut parts = Vec::new();
    for file in files {
        end_line(&mut before);
        before.extend_from_slice(split(file, &mut parts));
    }
    let mut found = vec![before];
    let places = places(&parts);
    let mut order: Vec<(usize, &Part<'_>)> = places.into_iter().zip(&parts).collect();
    order.sort_by_key(|(crash, part)| (*crash, std::cmp::Reverse(part.number)));
    let mut last: Option<(usize, u64)> = None;
    for (crash, part) in order {
        if last.is_none_or(|(last, _)| last != crash) {
            found.push(Vec::new());
        }
        if let Some(text) = found.last_mut() {
            // A part that is missing: no line goes on.
            if last != Some((crash, part.number.saturating_add(1))) {
                end_line(text);
            }
            text.extend_from_slice(part.text);
        }
        last = Some((crash, part.number));
    }
    found.retain(|text| !text.is_empty());
    let between = found.len().saturating_sub(1);
    found.iter_mut().take(between).for_each(end_line);
    found
}

fn end_line(text: &mut Vec<u8>) {
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
}

/// Takes a file apart; returns what stands before its first part.
fn split<'a>(log: &'a [u8], parts: &mut Vec<Part<'a>>) -> &'a [u8] {
    let mut before = log;
    // The part whose text is not at its end yet, and where that text starts.
    let mut open: Option<(Part<'a>, usize)> = None;
    let mut at = 0;
    while at < log.len() {
        let rest = log.get(at..).unwrap_or_default();
        let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let line = rest.get(..length).unwrap_or_default();
        if let Some((reason, count, number)) = form::part(line.trim_ascii_end()) {
            let part = Part {
                reason,
                count,
                number,
                text: b"",
            };
            match open.replace((part, at + length)) {
                Some((part, start)) => parts.push(part.with(log, start, at)),
                None => before = log.get(..at).unwrap_or_default(),
            }
        }
        at += length;
    }
    if let Some((part, start)) = open {
        parts.push(part.with(log, start, log.len()));
    }
    before
}

impl<'a> Part<'a> {
    fn with(self, log: &'a [u8], start: usize, end: usize) -> Self {
        Self {
            text: log.get(start..end).unwrap_or_default(),
            ..self
        }
    }
}

/// Returns which crash each part is of, numbered as they come. The kernel counts from 1 in every boot,
/// so a part that a crash already has is another boot's.
fn places(parts: &[Part<'_>]) -> Vec<usize> {
    let mut known: Vec<(&[u8], u64, Vec<u64>)> = Vec::new();
    let mut places = Vec::new();
    for part in parts {
        let same = known.iter().rposition(|(reason, count, numbers)| {
            *reason == part.reason && *count == part.count && !numbers.contains(&part.number)
        });
        let newest = known
            .iter()
            .rposition(|(reason, count, _)| *reason == part.reason && *count == part.count);
        let place = same.filter(|_| same == newest).unwrap_or_else(|| {
            known.push((part.reason, part.count, Vec::new()));
            known.len() - 1
        });
        if let Some((_, _, numbers)) = known.get_mut(place) {
            numbers.push(part.number);
        }
        places.push(place);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_from_the_highest_down() {
        let log =
            b"Panic#2 Part1\n:0010:f+0x1/0x2\nend\nPanic#2 Part2\n<1>[ 1.0] BUG: x\n<1>[ 1.0] RIP";
        assert_eq!(
            String::from_utf8(join(log)).unwrap(),
            "<1>[ 1.0] BUG: x\n<1>[ 1.0] RIP:0010:f+0x1/0x2\nend\n"
        );
    }

    #[test]
    fn two_crashes_and_a_hole_stay_apart() {
        let log = b"Oops#1 Part1\na\nPanic#2 Part3\nb\nPanic#2 Part1\nc\n";
        assert_eq!(join(log), b"a\nb\nc\n");
        assert_eq!(join(b"no parts\n"), b"no parts\n");
    }

    #[test]
    fn equal_numbers_of_two_boots_are_two_crashes() {
        let files: [&[u8]; 4] = [
            b"Panic#1 Part1\nb\n",
            b"Panic#1 Part2\na",
            b"Panic#1 Part1\nd\n",
            b"Panic#1 Part2\nc\n",
        ];
        assert_eq!(crashes(&files), [b"ab\n".to_vec(), b"c\nd\n".to_vec()]);
        assert_eq!(join(b"Panic#1 Part2\na\nPanic#1 Part1\nb\n"), b"a\nb\n");
    }
}
