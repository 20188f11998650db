//! What a report is called.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::class::Class;
use super::families::FAMILIES;
use super::lines::{Lines, Place, Text};
use super::pattern::Pattern;
use super::shape::Shape;
use super::walk::{self, Guilty, Tools};
use super::{clean, skip, whole};

/// The name of a report and what it rests on.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// The title.
    pub(super) title: String,
    /// Other names of the same bug, sorted.
    pub(super) alt: Vec<String>,
    /// Why the rest is not to be trusted.
    pub(super) corrupted: Option<&'static str>,
    /// What it is about.
    pub(super) class: Class,
    /// The guilty function; none where the shape names none or it was not found.
    pub(super) guilty: Option<Guilty>,
    /// The function is the one a rule for hangs chose, not the top of the stack.
    pub(super) hangs: bool,
}

/// What is needed of each shape, made once.
#[derive(Debug)]
struct Ready {
    header: Pattern,
    whole: Option<Pattern>,
    tools: Option<Tools>,
}

/// The start of a family's literal that all its patterns have, and its shapes.
type ReadyFamily = (Finder<'static>, Vec<Ready>);

static READY: LazyLock<Vec<ReadyFamily>> = LazyLock::new(|| {
    let ready = |shape: &'static Shape| Ready {
        header: Pattern::new(shape.header),
        whole: shape.whole.map(Pattern::new),
        tools: shape.walk.as_ref().map(Tools::new),
    };
    FAMILIES
        .iter()
        .map(|family| {
            let start = Finder::new(family.literal.trim_end_matches('.'));
            (start, family.shapes.iter().map(ready).collect())
        })
        .collect()
});

struct Choice {
    shape: &'static Shape,
    title: Vec<u8>,
    guilty: Vec<Guilty>,
    whole: bool,
}

/// Names the report of family number `family` whose header is line 0 of those `text` tells; the title
/// and the guilty function are taken from their first `end`.
pub(super) fn name(family: usize, text: &Text, end: usize) -> Option<Name> {
    let kind = FAMILIES.get(family)?;
    let (literal, ready) = READY.get(family)?;
    let lines = text.told();
    let told = lines.first(end);
    let marked = text.marked().take_while(|line| *line < told.len());
    let spots = spots(literal, told, marked);
    let start = *spots.iter().find(|spot| {
        let rest = told.get_from(**spot);
        rest.starts_with(kind.literal.as_bytes())
    })?;
    let mut best: Option<Choice> = None;
    let mut best_at = Place {
        line: usize::MAX,
        column: 0,
    };
    let mut alt = Vec::new();
    let mut fits = false;
    for (shape, ready) in kind.shapes.iter().zip(ready) {
        let Some(header) = ready.header.find(told, start, &spots) else {
            continue;
        };
        let at = Place {
            line: header.line,
            column: header.column,
        };
        if at > best_at || (at == best_at && best.is_some()) {
            continue;
        }
        if at < best_at {
            best = None;
            best_at = at;
        }
        fits = true;
        let found = match &ready.whole {
            None => header,
            Some(whole) => match whole.find(told, start, &spots) {
                Some(found) => found,
                None => continue,
            },
        };
        let from = Place {
            line: found.line,
            column: found.column,
        };
        let walked = shape
            .walk
            .as_ref()
            .zip(ready.tools.as_ref())
            .map(|(steps, tools)| walk::walk(steps, tools, told, from));
        let (guilty, whole) =
            walked.map_or((Vec::new(), true), |found| (found.guilty, found.whole));
        let title = fill(shape.title, &found.captures, &names(&guilty));
        add_alternatives(&mut alt, shape, &title, &found.captures, &guilty);
        best = Some(Choice {
            shape,
            title,
            guilty,
            whole,
        });
    }
    let name = if let Some(choice) = best {
        let title = clean::title(&choice.title);
        let corrupted = if !choice.whole {
            Some("no function to blame was found")
        } else if choice.shape.lost {
            Some("its real header was lost")
        } else {
            whole::check(&choice.title, lines, choice.shape.bare)
        };
        Name {
            title,
            alt: alt.iter().map(|title| clean::title(title)).collect(),
            corrupted,
            class: choice.shape.class,
            guilty: choice
                .guilty
                .into_iter()
                .next()
                .filter(|function| function.line.is_some()),
            hangs: choice
                .shape
                .walk
                .is_some_and(|walk| walk.pick != super::shape::Pick::First),
        }
    } else {
        let header = told.get_from(start);
        let corrupted = if fits {
            Some("its header is known, what has to follow is not there")
        } else {
            whole::check_title(header)
        };
        Name {
            title: clean::title(header),
            alt: alt.iter().map(|title| clean::title(title)).collect(),
            corrupted,
            class: kind.class,
            guilty: None,
            hangs: false,
        }
    };
    Some(sorted(name))
}

fn sorted(mut name: Name) -> Name {
    name.alt.sort();
    name.alt.dedup();
    name
}

/// All places of the literal: every pattern of the family starts with it.
fn spots(
    literal: &Finder<'_>,
    lines: Lines<'_>,
    marked: impl Iterator<Item = usize>,
) -> Vec<Place> {
    let mut spots = Vec::new();
    for line in marked {
        let mut column = 0;
        while let Some(rest) = lines.get(line).get(column..)
            && let Some(at) = literal.find(rest)
        {
            column += at;
            spots.push(Place { line, column });
            column += 1;
        }
    }
    spots
}

fn names(guilty: &[Guilty]) -> Vec<&[u8]> {
    guilty
        .iter()
        .map(|function| function.name.as_slice())
        .collect()
}

/// Puts captures, then functions, into the places of `template`.
fn fill(template: &str, captures: &[&[u8]], functions: &[&[u8]]) -> Vec<u8> {
    let mut filled = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.extend_from_slice(before.as_bytes());
        let (number, after) = after.split_once('}').unwrap_or((after, ""));
        let place = number.parse::<usize>().unwrap_or_default().wrapping_sub(1);
        let value = captures
            .get(place)
            .copied()
            .or_else(|| functions.get(place.wrapping_sub(captures.len())).copied());
        filled.extend_from_slice(value.unwrap_or(b"corrupted"));
        rest = after;
    }
    filled.extend_from_slice(rest.as_bytes());
    filled
}

/// System calls have other names on other architectures: each stripped form is a name too.
fn add_alternatives(
    alt: &mut Vec<Vec<u8>>,
    shape: &Shape,
    title: &[u8],
    captures: &[&[u8]],
    guilty: &[Guilty],
) {
    for template in shape.alt {
        alt.push(fill(template, captures, &names(guilty)));
    }
    let raw: Vec<&[u8]> = guilty
        .iter()
        .map(|function| function.raw.as_slice())
        .collect();
    let stripped = skip::CALL_PREFIXES.iter().filter_map(|prefix| {
        let without = |name: &'_ [u8]| name.strip_prefix(prefix.as_bytes()).map(<[u8]>::len);
        raw.iter().any(|name| without(name).is_some()).then(|| {
            let list = raw.iter().map(|name| {
                let kept = without(name).unwrap_or(name.len());
                name.get(name.len() - kept..).unwrap_or(name)
            });
            list.collect::<Vec<&[u8]>>()
        })
    });
    for functions in [raw.clone()].into_iter().chain(stripped) {
        let other = fill(shape.title, captures, &functions);
        if other != title {
            alt.push(other);
        }
        for template in shape.alt {
            alt.push(fill(template, captures, &functions));
        }
    }
}

/// What follows the last ` in ` of a title.
pub(super) fn frame(title: &str) -> Option<String> {
    let is_frame = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    let mut end = title.len();
    loop {
        let at = title.get(..end)?.rfind(" in ")?;
        let rest = title.get(at + 4..)?;
        let generic = rest
            .strip_prefix('<')
            .and_then(|inside| inside.split_once('>'))
            .filter(|(inside, _)| {
                !inside.is_empty() && inside.bytes().all(|byte| is_frame(byte) || byte == b' ')
            })
            .map_or(0, |(inside, _)| inside.len() + 2);
        let length = rest
            .get(generic..)?
            .bytes()
            .take_while(|byte| is_frame(*byte))
            .count();
        if length > 0 {
            return rest.get(..generic + length).map(ToOwned::to_owned);
        }
        end = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_read_and_finds_its_own_literal() {
        for (family, (_, ready)) in FAMILIES.iter().zip(READY.iter()) {
            let start = family.literal.trim_end_matches('.');
            for (shape, _) in family.shapes.iter().zip(ready) {
                for pattern in [Some(shape.header), shape.whole].into_iter().flatten() {
                    assert!(pattern.starts_with(start), "{pattern} of {start}");
                }
            }
        }
    }

    #[test]
    fn the_frame_is_what_the_title_ends_in() {
        for (title, expected) in [
            ("WARNING in f", Some("f")),
            ("WARNING in f/usb_submit_urb", Some("f")),
            ("x in <a::b>::c", Some("<a::b>::c")),
            ("x in ", None),
            ("a in b in c", Some("c")),
            ("kernel panic: x", None),
        ] {
            assert_eq!(frame(title).as_deref(), expected, "{title}");
        }
    }
}
