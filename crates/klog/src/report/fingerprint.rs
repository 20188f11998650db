//! A name of a bug that stays the same over boots, versions, machines and livepatches.

use std::fmt::Write as _;

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
        let print = hash(class, &[title.to_owned()]);
        return Prints {
            coarse: print.clone(),
            fine: print,
        };
    };
    let first = plain(&String::from_utf8_lossy(guilty));
    let coarse = hash(class, std::slice::from_ref(&first));
    if hangs {
        return Prints {
            fine: coarse.clone(),
            coarse,
        };
    }
    let mut names = vec![first.clone()];
    let below = frames
        .iter()
        .filter(|frame| frame.reliable)
        .filter_map(|frame| frame.function.as_deref())
        .filter(|name| !skip::ALWAYS.has(name.as_bytes()))
        .map(plain)
        .skip_while(|name| *name != first)
        .skip(1);
    names.extend(below.take(DEPTH - 1));
    Prints {
        fine: hash(class, &names),
        coarse,
    }
}

/// The fingerprint of a report that is one line.
pub(crate) fn of_title(class: Class, title: &str) -> String {
    hash(class, &[title.to_owned()])
}

/// Takes off what a compiler, a linker or an architecture adds to a function's name.
pub(crate) fn plain(name: &str) -> String {
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
    let end = SUFFIXES
        .iter()
        .filter_map(|suffix| name.find(suffix))
        .min()
        .unwrap_or(name.len());
    let name = name.get(..end).unwrap_or(name);
    let stripped = walk::without_call_prefix(name.as_bytes());
    String::from_utf8_lossy(stripped).into_owned()
}

fn hash(class: Class, names: &[String]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(class.as_str());
    for name in names {
        hasher.update("\n");
        hasher.update(name);
    }
    let digest = hasher.finalize();
    digest
        .iter()
        .take(16)
        .fold("v1:".to_owned(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a String takes all that is written");
            text
        })
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
