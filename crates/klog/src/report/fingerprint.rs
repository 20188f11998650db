//! A name of a bug that stays the same over boots, versions, machines and livepatches.

use sha2::{Digest, Sha256};

use super::class::Class;
use super::frame::Frame;
use super::{skip, walk};

/// Functions that go into a fingerprint.
const DEPTH: usize = 5;

/// Fingerprints of one report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prints {
    /// Of the class and the stack.
    pub(super) fine: String,
    /// Of the class and the guilty function.
    pub(super) coarse: String,
}

/// Makes the fingerprints. `hangs`: below the function a rule for hangs chose, the stack is chance.
pub(super) fn make(
    class: Class,
    title: &str,
    guilty: Option<&[u8]>,
    hangs: bool,
    frames: &[Frame],
) -> Prints {
    let Some(guilty) = guilty else {
        let print = hash(class, &[title]);
        return Prints {
            coarse: print.clone(),
            fine: print,
        };
    };
    let guilty = String::from_utf8_lossy(guilty);
    let first = plain(&guilty);
    let coarse = hash(class, &[first]);
    if hangs {
        return Prints {
            fine: coarse.clone(),
            coarse,
        };
    }
    let functions = || {
        let reliable = frames.iter().filter(|frame| frame.reliable);
        reliable.filter_map(|frame| frame.function.as_deref())
    };
    let counts = |name: &&str| !skip::ALWAYS.has(name.as_bytes());
    let at = functions().position(|name| plain(name) == first && counts(&name));
    let below = functions().skip(at.map_or(usize::MAX, |at| at + 1));
    let mut names = vec![first];
    names.extend(below.filter(counts).map(plain).take(DEPTH - 1));
    Prints {
        fine: hash(class, &names),
        coarse,
    }
}

/// The fingerprint of a report that is one line.
pub(crate) fn of_title(class: Class, title: &str) -> String {
    hash(class, &[title])
}

/// Takes off what a compiler, a linker or an architecture adds to a function's name.
pub(crate) fn plain(name: &str) -> &str {
    const SUFFIXES: [&str; 7] = [
        ".isra.",
        ".constprop.",
        ".part.",
        ".cold",
        ".llvm.",
        ".lto_priv.",
        ".localalias",
    ];
    let name = name.strip_prefix("__pfx_").unwrap_or(name);
    let end = name
        .bytes()
        .enumerate()
        .filter(|(_, byte)| *byte == b'.')
        .map(|(at, _)| at)
        .find(|at| {
            let rest = name.get(*at..).unwrap_or_default();
            SUFFIXES.iter().any(|suffix| rest.starts_with(suffix))
        })
        .unwrap_or(name.len());
    let name = name.get(..end).unwrap_or(name);
    let kept = walk::without_call_prefix(name.as_bytes()).len();
    name.get(name.len() - kept..).unwrap_or(name)
}

fn hash(class: Class, names: &[&str]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(class.as_str());
    for name in names {
        hasher.update("\n");
        hasher.update(name);
    }
    let digest = hasher.finalize();
    let mut text = String::with_capacity(3 + 32);
    text.push_str("v1:");
    for half in digest
        .iter()
        .take(16)
        .flat_map(|byte| [byte >> 4, byte & 15])
    {
        text.push(char::from_digit(u32::from(half), 16).unwrap_or_default());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(name: &str) -> Frame {
        Frame {
            function: Some(name.to_owned()),
            offset: Some(1),
            size: Some(2),
            reliable: true,
            ..Frame::default()
        }
    }

    #[test]
    fn compilers_addresses_and_modules_change_nothing() {
        let one = make(
            Class::Gpf,
            "t",
            Some(b"f.isra.0"),
            false,
            &[
                frame("f.isra.0"),
                frame("__x64_sys_read"),
                frame("memcpy"),
                frame("g"),
            ],
        );
        let mut patched = [frame("f"), frame("__arm64_sys_read"), frame("g.cold")];
        patched[0].module = Some("tt_1".to_owned());
        let other = make(Class::Gpf, "u", Some(b"f"), false, &patched);
        assert_eq!(one, other);
        assert!(one.fine.starts_with("v1:") && one.fine.len() == 35);
    }

    #[test]
    fn another_class_or_caller_is_another_bug() {
        let stack = [frame("f"), frame("g")];
        let one = make(Class::Gpf, "t", Some(b"f"), false, &stack);
        assert_ne!(one, make(Class::Bug, "t", Some(b"f"), false, &stack));
        let moved = make(
            Class::Gpf,
            "t",
            Some(b"f"),
            false,
            &[frame("f"), frame("h")],
        );
        assert_ne!(one.fine, moved.fine);
        assert_eq!(one.coarse, moved.coarse);
    }
}
