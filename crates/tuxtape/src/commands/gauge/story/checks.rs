//! Commands by which a person checks what a step found.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tuxtape_core::applicability::Judgement;
use tuxtape_core::applicability::built;
use tuxtape_core::applicability::content::{Carried, Content, Functions};
use tuxtape_core::cve::{Cve, State};
use tuxtape_core::identity::ObjectName;
use tuxtape_core::profile::KernelProfile;
use tuxtape_core::span::Span;
use tuxtape_core::version::KernelVersion;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_store::Feed;
use tuxtape_sys::regular;

/// Most checks of one step.
const MOST: usize = 4;
/// Largest Makefile or configuration that is read, in bytes.
const LIMIT: u64 = 4 << 20;

/// Places that were found, and a command that shows the like.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Check {
    pub notes: Vec<String>,
    pub command: Option<String>,
}

impl Check {
    fn command(command: String) -> Self {
        Self {
            notes: Vec::new(),
            command: Some(command),
        }
    }
}

pub(super) fn record(cve: &Cve, feed: &Feed) -> Vec<Check> {
    vec![Check::command(in_feed(cve, feed, "json", "head -c 300"))]
}

/// Shows the lines of the record that bear on the kernel's branch, or on any where none does.
pub(super) fn span(cve: &Cve, profile: &KernelProfile, feed: &Feed) -> Vec<Check> {
    let Ok(base) = profile.base_version.parse::<KernelVersion>() else {
        return Vec::new();
    };
    let branch = |span: &&Span| {
        let landings = [span.introduced, span.fixed];
        landings
            .iter()
            .flatten()
            .any(|landing| landing.version.branch() == base.branch())
    };
    let near: Vec<&Span> = cve.spans.iter().filter(branch).collect();
    let shown = if near.is_empty() {
        cve.spans.iter().collect()
    } else {
        near
    };
    let landing = |landing: Option<tuxtape_core::span::Landing>| {
        landing.map_or_else(
            || "0:0".to_owned(),
            |landing| {
                let commit = landing.commit.to_string();
                let short = commit.get(..12).unwrap_or(&commit).to_owned();
                format!("{} ({short})", landing.version)
            },
        )
    };
    let notes = shown
        .iter()
        .take(MOST)
        .map(|span| {
            format!(
                "bug in {}, fixed in {}",
                landing(span.introduced),
                landing(span.fixed)
            )
        })
        .collect();
    vec![Check {
        notes,
        command: Some(in_feed(cve, feed, "dyad", "grep -v '^#'")),
    }]
}

/// Shows the places that decided, which the evidence names as `FILE:LINE`.
pub(super) fn carried(content: Option<&Content>, files: &KernelFiles) -> Vec<Check> {
    let seen = match content.map(|content| &content.carried) {
        Some(Carried::Yes(seen) | Carried::No(seen) | Carried::Partial(seen)) => seen,
        Some(Carried::NotLooked { .. }) | None => return Vec::new(),
    };
    let place = |text: &String| {
        let (file, line) = text.split(' ').next()?.rsplit_once(':')?;
        let line: u32 = line.parse().ok()?;
        let path = files.source.join(file);
        Some(Check::command(format!(
            "sed -n '{line},+3p' {}",
            shown(&path)
        )))
    };
    seen.places.iter().filter_map(place).take(MOST).collect()
}

pub(super) fn built(
    cve: &Cve,
    profile: &KernelProfile,
    files: &KernelFiles,
    content: Option<&Content>,
) -> Vec<Check> {
    let moved = |file: &String| {
        let found = content.and_then(|content| content.moved.get(file));
        match found {
            Some(found) if !profile.tree_files.contains(file) => found.clone(),
            Some(_) | None => file.clone(),
        }
    };
    let named: Vec<String> = cve.files.iter().map(moved).collect();
    let mut checks = Vec::new();
    for file in named.iter().take(MOST) {
        let one = built::look(std::slice::from_ref(file), profile);
        let check = match one {
            built::Built::Yes { objects, .. } => {
                compiled(file, profile, files, objects.iter().next())
            }
            built::Built::No { .. } => not_compiled(file, files),
            built::Built::Unknown { .. } => Check::command(format!(
                "ls -l {}; find {} -name {}",
                shown(&files.source.join(file)),
                shown(&files.source),
                shown(Path::new(base(file)))
            )),
        };
        // Files of one folder share their Makefile.
        if !checks.contains(&check) {
            checks.push(check);
        }
    }
    checks
}

/// A unit leaves its name in the symbols of the object; a header or an included file in the lines.
fn compiled(
    file: &str,
    profile: &KernelProfile,
    files: &KernelFiles,
    object: Option<&ObjectName>,
) -> Check {
    let Some(path) = object.and_then(|object| debug_file(files, object)) else {
        return Check::default();
    };
    let (object, name) = (shown(&path), base(file));
    Check::command(if profile.units.contains_key(file) {
        format!("nm -a {object} | grep ' a {name}$'")
    } else {
        format!("readelf --debug-dump=decodedline {object} | grep -m1 {name}")
    })
}

/// The line of the Makefile that would compile a file, with the option it waits for.
fn not_compiled(file: &str, files: &KernelFiles) -> Check {
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let object = format!("{stem}.o");
    let mut notes = Vec::new();
    let mut options = BTreeSet::new();
    let mut at = Some(folder);
    // The file's own Makefile, then those above, each asked for what lies below it.
    let mut wanted = object.clone();
    while let Some(folder) = at {
        let makefile = ["Kbuild", "Makefile"]
            .iter()
            .map(|name| files.source.join(folder).join(name))
            .find(|path| path.is_file());
        if let Some(makefile) = &makefile {
            let text = text(makefile);
            let mut open = false;
            for (number, line) in text.lines().enumerate() {
                let line = line.trim_end();
                let rule =
                    line.starts_with("obj-") || line.contains("-y") || line.contains("-objs");
                open = rule || open;
                if open && names(line, &wanted) && notes.len() < 2 * MOST {
                    let place = makefile.strip_prefix(&files.source).unwrap_or(makefile);
                    notes.push(format!(
                        "{}:{}: {}",
                        place.display(),
                        number + 1,
                        line.trim()
                    ));
                    options.extend(option(line));
                }
                open = open && line.ends_with('\\');
            }
        }
        at = folder.rsplit_once('/').map(|(above, below)| {
            wanted = format!("{below}/");
            above
        });
    }
    let config = text(&files.config);
    for option in options.iter().take(MOST) {
        let line = config.lines().find(|line| {
            line.starts_with(&format!("{option}=")) || **line == format!("# {option} is not set")
        });
        notes.push(format!(
            ".config: {}",
            line.map_or_else(|| format!("{option} does not occur"), str::to_owned)
        ));
    }
    let command = options.first().map_or_else(
        || format!("grep -rnw '{object}' {}", shown(&files.source.join(folder))),
        |_| {
            let options = options.iter().take(MOST).cloned().collect::<Vec<_>>();
            format!("grep -wE '{}' {}", options.join("|"), shown(&files.config))
        },
    );
    Check {
        notes,
        command: Some(command),
    }
}

pub(super) fn object(judgement: &Judgement, files: &KernelFiles) -> Vec<Check> {
    let modules = judgement.objects.iter().filter(|it| !it.is_vmlinux());
    modules
        .take(MOST)
        .map(|object| {
            let pattern = object.0.replace('_', "[-_]");
            Check::command(format!(
                "find {} -name '{pattern}.ko*'",
                shown(&files.modules)
            ))
        })
        .collect()
}

pub(super) fn function(
    judgement: &Judgement,
    files: &KernelFiles,
    content: Option<&Content>,
) -> Vec<Check> {
    let functions = match content.map(|content| &content.functions) {
        Some(Functions::Present { functions } | Functions::Absent { functions }) => functions,
        Some(
            Functions::NotLooked { .. } | Functions::Skipped { .. } | Functions::Unclear { .. },
        )
        | None => return Vec::new(),
    };
    let Some(path) = judgement
        .objects
        .iter()
        .find_map(|object| debug_file(files, object))
    else {
        return Vec::new();
    };
    functions
        .iter()
        .take(MOST)
        .filter_map(|function| {
            // The name comes first, then where it was found.
            let name = function
                .split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
                .next()?;
            (!name.is_empty()).then(|| {
                Check::command(format!(
                    "nm {object} | grep -wE '{name}(\\..*)?'; readelf -wi {object} | grep -c ': {name}$'",
                    object = shown(&path)
                ))
            })
        })
        .collect()
}

pub(super) fn loaded(judgement: &Judgement, files: &KernelFiles) -> Vec<Check> {
    let modules = judgement.objects.iter().filter(|it| !it.is_vmlinux());
    modules
        .take(MOST)
        .filter_map(|object| {
            let path = debug_file(files, object)?;
            Some(Check::command(format!(
                "modinfo {} | grep -E '^(alias|depends)'",
                shown(&path)
            )))
        })
        .collect()
}

/// Shows one file of the record.
fn in_feed(cve: &Cve, feed: &Feed, end: &str, then: &str) -> String {
    let folder = match cve.state {
        State::Published => "published",
        State::Rejected => "rejected",
    };
    let path = format!("cve/{folder}/{}/{}.{end}", cve.id.year(), cve.id);
    let source = Path::new(&feed.source);
    if source.is_dir() {
        format!(
            "git -C {} show {}:{path} | {then}",
            shown(source),
            feed.commit
        )
    } else {
        format!(
            "git clone -q -b master {} vulns; {then} vulns/{path}",
            shown(source)
        )
    }
}

/// Finds the file with an object's debug data.
fn debug_file(files: &KernelFiles, object: &ObjectName) -> Option<PathBuf> {
    if object.is_vmlinux() {
        return Some(files.vmlinux.clone());
    }
    let mut folders = vec![files.debug_modules.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).ok()?.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(_) => {
                    let name = entry.file_name();
                    let name = name.to_string_lossy();
                    let stem = name.split_once(".ko").map(|(stem, _)| stem);
                    if stem.is_some_and(|stem| stem.replace('-', "_") == object.0) {
                        return Some(path);
                    }
                }
                Err(_) => {}
            }
        }
    }
    None
}

/// Tells whether a line of a Makefile names `wanted` as a word of its own, also below a folder.
fn names(line: &str, wanted: &str) -> bool {
    line.split([' ', '\t', '=', ':', '+', '\\']).any(|word| {
        word == wanted
            || word
                .strip_suffix(wanted)
                .is_some_and(|rest| rest.ends_with('/'))
    })
}

/// Takes `CONFIG_X` out of `obj-$(CONFIG_X)`.
fn option(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("$(CONFIG_")?;
    let (name, _) = rest.split_once(')')?;
    let plain = name
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    plain.then(|| format!("CONFIG_{name}"))
}

fn text(path: &Path) -> String {
    // A file that cannot be read gives no places: the command that looks at it stays.
    let bytes = regular::read_linked(path, LIMIT).ok().flatten();
    let bytes = bytes.unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn base(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

/// Writes a path so that a shell takes it as one word.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+:@%".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_makefiles_line_is_found_by_whole_words() {
        for (line, found) in [
            ("obj-$(CONFIG_NET_CLS_X)\t+= cls_x.o", true),
            ("x-objs := a.o sub/cls_x.o \\", true),
            ("obj-y += scls_x.o", false),
            ("obj-y += cls_x.obj", false),
        ] {
            assert_eq!(names(line, "cls_x.o"), found, "{line}");
        }
        assert_eq!(
            option("obj-$(CONFIG_NET_CLS_X) += x.o").as_deref(),
            Some("CONFIG_NET_CLS_X")
        );
        assert_eq!(option("obj-$(CONFIG_A B) += x.o"), None);
    }

    #[test]
    fn a_path_is_one_word_of_the_shell() {
        assert_eq!(shown(Path::new("/a/b-c.ko")), "/a/b-c.ko");
        assert_eq!(shown(Path::new("/a b/it's")), "'/a b/it'\\''s'");
    }
}
