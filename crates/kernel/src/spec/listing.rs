//! The listing of an archive, and whether it may be unpacked.
//!
//! Pure. `tar --list --verbose --numeric-owner --quoting-style=escape` prints one member a line:
//! kind and rights, owner, size, date, time, name, and the target of a link.

/// Most members; a kernel's source has 80,000.
pub(super) const MOST: usize = 500_000;
/// Most bytes of all files together; a kernel's source has 1.4 GB, debug data of all modules 4 GB.
pub(super) const LARGEST: u64 = 16 << 30;

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its name without a leading `/` or `./` and without a `/` at the end.
    pub(super) name: String,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
}

/// Why an archive may not be unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// This member, for this reason.
    Member(String, &'static str),
    /// All together are more than this.
    TooLarge(&'static str),
}

/// Reads a listing; an error where anything in it could be written elsewhere.
pub(super) fn read(text: &str) -> Result<Vec<Member>, Refused> {
    let mut members = Vec::new();
    let mut total = 0_u64;
    for line in text.lines() {
        if members.len() >= MOST {
            return Err(Refused::TooLarge("500,000 members"));
        }
        let (size, member) = one(line)?;
        total = total.saturating_add(size);
        if total > LARGEST {
            return Err(Refused::TooLarge("16 GiB unpacked"));
        }
        if !member.name.is_empty() {
            members.push(member);
        }
    }
    Ok(members)
}

fn one(line: &str) -> Result<(u64, Member), Refused> {
    let bad = |why| Refused::Member(line.chars().take(200).collect(), why);
    let mut rest = line;
    let mut field = || {
        rest = rest.trim_start_matches(' ');
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after;
        word
    };
    let rights = field();
    let (_owner, size, _date, _time) = (field(), field(), field(), field());
    let size: u64 = size
        .parse()
        .map_err(|_| bad("is listed in an unknown form"))?;
    let (kind, name, target) = match rights.chars().next() {
        Some('-') => (Kind::File, rest, None),
        Some('d') => (Kind::Folder, rest, None),
        Some('l') => {
            let (name, target) = rest
                .split_once(" -> ")
                .ok_or_else(|| bad("is a link without target"))?;
            (Kind::Link, name, Some(target))
        }
        Some('h') => {
            let (name, target) = rest
                .split_once(" link to ")
                .ok_or_else(|| bad("is a link without target"))?;
            // Of the same archive, by its name from the top.
            inside("", target).ok_or_else(|| bad("is a hard link out of it"))?;
            (Kind::File, name, None)
        }
        _ => return Err(bad("is neither file, folder nor link")),
    };
    let name = inside("", name).ok_or_else(|| bad("leads out of it"))?;
    if let Some(target) = target {
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        if target.starts_with('/') || inside(folder, target).is_none() {
            return Err(bad("is a link out of it"));
        }
    }
    Ok((size, Member { name, kind }))
}

/// Resolves `path`, as seen from `folder`, by text; `None` where it leads out of the top.
fn inside(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    let named = folder.is_empty();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            // A member's own name has no reason to go up, even if it comes down again.
            ".." if named => return None,
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Entry for fuzzing: reads bytes as a listing; nothing that is accepted leads out of the top.
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(members) = read(text) {
        for member in members {
            assert!(
                !member.name.starts_with('/') && !member.name.split('/').any(|part| part == ".."),
                "{member:?}"
            );
        }
    }
    super::patches::order(&text.lines().map(str::to_owned).collect::<Vec<_>>()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rights: &str, name: &str) -> Result<Vec<Member>, Refused> {
        read(&format!("{rights} 0/0 12 2026-01-01 00:00 {name}\n"))
    }

    #[test]
    fn members_are_named_from_the_top() {
        for (rights, name, kind, expected) in [
            (
                "-rw-r--r--",
                "/patches/0-a.diff",
                Kind::File,
                "patches/0-a.diff",
            ),
            ("drwxr-xr-x", "./linux/", Kind::Folder, "linux"),
            ("lrwxrwxrwx", "a/b/link -> ../c", Kind::Link, "a/b/link"),
            ("hrw-r--r--", "a/b link to a/c", Kind::File, "a/b"),
            (
                "-rw-r--r--",
                "with space\\n.c",
                Kind::File,
                "with space\\n.c",
            ),
        ] {
            let members = check(rights, name).unwrap();
            assert_eq!(
                members,
                [Member {
                    name: expected.to_owned(),
                    kind
                }]
            );
        }
    }

    #[test]
    fn what_leads_out_or_is_no_file_is_refused() {
        for (rights, name) in [
            ("-rw-r--r--", "../x"),
            ("-rw-r--r--", "a/../../x"),
            ("-rw-r--r--", "a/../x"),
            ("lrwxrwxrwx", "a -> /etc/passwd"),
            ("lrwxrwxrwx", "a/b -> ../../x"),
            ("lrwxrwxrwx", "a"),
            ("hrw-r--r--", "a link to ../x"),
            ("crw-r--r--", "dev/null"),
            ("prw-r--r--", "pipe"),
        ] {
            assert!(check(rights, name).is_err(), "{rights} {name}");
        }
    }

    #[test]
    fn more_than_any_kernel_is_refused() {
        let line = format!("-rw-r--r-- 0/0 {} 2026-01-01 00:00 x\n", LARGEST / 2 + 1);
        assert!(read(&line).is_ok());
        assert_eq!(
            read(&line.repeat(2)),
            Err(Refused::TooLarge("16 GiB unpacked"))
        );
        assert!(read("garbage").is_err());
    }
}
