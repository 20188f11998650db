//! Logs that were kept over a crash, in parts.

use super::form;

/// Puts the parts of crashes in order: part 1 is the newest, so the highest comes first. What has no
/// part header stays where it is. A part begins and ends in the middle of a line.
pub fn join(log: &[u8]) -> Vec<u8> {
    struct Part<'a> {
        crash: (Vec<u8>, u64),
        number: u64,
        text: &'a [u8],
    }
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut before: &[u8] = &[];
    let mut at = 0;
    let mut open: Option<(usize, (Vec<u8>, u64), u64)> = None;
    while at < log.len() {
        let rest = log.get(at..).unwrap_or_default();
        let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let line = rest.get(..length).unwrap_or_default();
        if let Some((reason, count, number)) = form::part(line.trim_ascii_end()) {
            match open.take() {
                Some((start, crash, number)) => parts.push(Part {
                    crash,
                    number,
                    text: log.get(start..at).unwrap_or_default(),
                }),
                None => before = log.get(..at).unwrap_or_default(),
            }
            open = Some((at + length, (reason.to_vec(), count), number));
        }
        at += length;
    }
    let Some((start, crash, number)) = open else {
        return log.to_vec();
    };
    parts.push(Part {
        crash,
        number,
        text: log.get(start..).unwrap_or_default(),
    });
    let mut crashes: Vec<(Vec<u8>, u64)> = Vec::new();
    for part in &parts {
        if !crashes.contains(&part.crash) {
            crashes.push(part.crash.clone());
        }
    }
    let place = |part: &Part<'_>| crashes.iter().position(|crash| *crash == part.crash);
    parts.sort_by_key(|part| (place(part), std::cmp::Reverse(part.number)));
    let mut joined = before.to_vec();
    let mut last: Option<&Part<'_>> = None;
    for part in &parts {
        let follows =
            last.is_some_and(|last| last.crash == part.crash && last.number == part.number + 1);
        // A part that is missing, or another crash: no line goes on.
        if !follows && !joined.is_empty() && !joined.ends_with(b"\n") {
            joined.push(b'\n');
        }
        joined.extend_from_slice(part.text);
        last = Some(part);
    }
    joined
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
}
