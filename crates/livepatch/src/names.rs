//! What a compiler-made symbol name says: the source name, the clone, the parent of a cold part.

/// Statics that the compiler or a macro makes per use site. They carry no state that a patched
/// function must share with the original, so they always travel anew and are compared by content.
///
/// Sources: `include/linux/once_lite.h`, `printk.h`, `ratelimit.h`, `lockdep.h`, gcc's own names.
const SPECIAL_STATICS: [&str; 13] = [
    "CSWTCH",
    "__FUNCTION__",
    "__PRETTY_FUNCTION__",
    "__already_done",
    "__func__",
    "__key",
    "__print_once",
    "__warned",
    "_entry",
    "_entry_ptr",
    "_rs",
    "___done",
    "__UNIQUE_ID_ddebug",
];

/// Returns `name` without the numbers a compiler adds: `count.12` and `count.7` are both `count`,
/// `f.isra.0.cold` is `f.isra.cold`.
pub fn base(name: &str) -> String {
    // `__UNIQUE_ID` and `BTF_ID` of the kernel end in a counter that every macro of a unit shares.
    let unique = name.starts_with("__UNIQUE_ID_") || name.starts_with("__BTF_ID__");
    let mut parts = name.split('.');
    let first = parts.next().unwrap_or_default();
    let mut text = if unique {
        first
            .trim_end_matches(|c: char| c.is_ascii_digit())
            .to_owned()
    } else {
        first.to_owned()
    };
    for part in parts {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            text.push('.');
            text.push_str(part);
        }
    }
    text
}

/// Tells whether the compiler numbered `name`, so that the number may differ between two compiles.
pub fn is_numbered(name: &str) -> bool {
    base(name) != name
}

/// Tells whether the symbol with this base name is a per-use-site static.
pub fn is_special_static(base: &str) -> bool {
    SPECIAL_STATICS.contains(&base)
}

/// Returns the function whose unlikely part `name` is: `f.isra.0` for `f.isra.0.cold`.
pub fn cold_parent(name: &str) -> Option<&str> {
    let (parent, rest) = name.rsplit_once(".cold")?;
    let numbered = rest
        .strip_prefix('.')
        .is_some_and(|n| n.bytes().all(|byte| byte.is_ascii_digit()));
    (rest.is_empty() || numbered).then_some(parent)
}

/// Returns the function in the source that `name` was made from: `f` for `f.part.0.cold`.
pub fn source_function(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_compiler_are_dropped_and_words_are_kept() {
        for (name, expected) in [
            ("f", "f"),
            ("count.12", "count"),
            ("f.isra.0", "f.isra"),
            ("f.constprop.0.isra.3.cold", "f.constprop.isra.cold"),
            ("__UNIQUE_ID_ddebug481.2", "__UNIQUE_ID_ddebug"),
            (
                "__BTF_ID__struct__sock__6381025",
                "__BTF_ID__struct__sock__",
            ),
            ("x86_64", "x86_64"),
        ] {
            assert_eq!(base(name), expected);
        }
    }

    #[test]
    fn a_cold_part_names_its_parent() {
        for (name, expected) in [
            ("f.cold", Some("f")),
            ("f.isra.0.cold", Some("f.isra.0")),
            ("f.cold.3", Some("f")),
            ("f.coldest", None),
            ("f", None),
        ] {
            assert_eq!(cold_parent(name), expected);
        }
    }
}
