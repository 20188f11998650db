//! What a node says of the modules it has and the modules it keeps out.

use std::collections::{BTreeMap, BTreeSet};

use crate::identity::ObjectName;

/// Most lines that are read of one text.
const LINES: usize = 100_000;

/// A node's modules and the settings that keep modules out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    loaded: Option<BTreeSet<ObjectName>>,
    blacklist: BTreeMap<ObjectName, String>,
    install: BTreeMap<ObjectName, String>,
    off: BTreeSet<String>,
    modules_disabled: bool,
}

impl Node {
    /// Takes the text of `/proc/modules`. An empty one is as good as none: copies of it are often
    /// empty by mistake, and to believe one would make the rest look less urgent than it is.
    pub fn note_modules(&mut self, text: &str) {
        let names: BTreeSet<ObjectName> = text
            .lines()
            .take(LINES)
            .filter_map(|line| line.split_whitespace().next())
            .map(object)
            .collect();
        if !names.is_empty() {
            self.loaded = Some(names);
        }
    }

    /// Takes the text of `/proc/sys/kernel/modules_disabled`.
    pub fn note_modules_disabled(&mut self, text: &str) {
        self.modules_disabled = text.trim() == "1";
    }

    /// Takes the text of `/proc/cmdline`, where `modprobe.blacklist=` may stand.
    pub fn note_command_line(&mut self, text: &str) {
        let values = text
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("modprobe.blacklist="));
        for name in values.flat_map(|names| names.split(',')) {
            if !name.is_empty() {
                let place = format!("modprobe.blacklist={name} of the command line");
                self.blacklist.entry(object(name)).or_insert(place);
            }
        }
    }

    /// Takes the text of one file of `modprobe.d`; `file` is its name, for people.
    ///
    /// An `install` line counts only where its command does nothing: any other may load the module.
    pub fn note_modprobe(&mut self, file: &str, text: &str) {
        for (number, line) in joined(text) {
            let mut words = line.split_whitespace();
            let place = || format!("{file}:{number}: {line}");
            match (words.next(), words.next()) {
                (Some("blacklist"), Some(name)) => {
                    self.blacklist.entry(object(name)).or_insert_with(place);
                }
                (Some("install"), Some(name)) => {
                    let does_nothing = matches!(
                        words.next(),
                        Some(
                            "/bin/false"
                                | "/usr/bin/false"
                                | "/bin/true"
                                | "/usr/bin/true"
                                | "false"
                                | "true"
                                | ":"
                        )
                    ) && words.next().is_none();
                    if does_nothing {
                        self.install.entry(object(name)).or_insert_with(place);
                    }
                }
                (Some("alias"), Some(alias)) if words.next() == Some("off") => {
                    self.off.insert(alias.to_owned());
                }
                _ => {}
            }
        }
    }

    /// Tells whether it is known what is loaded.
    pub fn knows_loaded(&self) -> bool {
        self.loaded.is_some()
    }

    pub(super) fn is_loaded(&self, object: &ObjectName) -> bool {
        self.loaded
            .as_ref()
            .is_some_and(|loaded| loaded.contains(object))
    }

    pub(super) fn modules_disabled(&self) -> bool {
        self.modules_disabled
    }

    pub(super) fn blacklisted(&self, object: &ObjectName) -> Option<&str> {
        self.blacklist.get(object).map(String::as_str)
    }

    pub(super) fn install_blocks(&self, object: &ObjectName) -> Option<&str> {
        self.install.get(object).map(String::as_str)
    }

    pub(super) fn is_off(&self, alias: &str) -> bool {
        self.off.contains(alias)
    }
}

/// Joins lines that end with a backslash and leaves out comments; each with the number it starts at.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate().take(LINES) {
        let (number, mut start) = open.take().unwrap_or((index + 1, String::new()));
        if let Some(part) = line.strip_suffix('\\') {
            start.push_str(part);
            open = Some((number, start));
            continue;
        }
        start.push_str(line);
        let whole = start.trim();
        if !whole.is_empty() && !whole.starts_with('#') {
            found.push((number, whole.to_owned()));
        }
    }
    found.extend(
        open.map(|(number, line)| (number, line.trim().to_owned()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#')),
    );
    found
}

fn object(name: &str) -> ObjectName {
    ObjectName(name.replace('-', "_"))
}

/// Entry for fuzzing: reads bytes as every text a node gives.
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut node = Node::default();
    node.note_modules(&text);
    node.note_command_line(&text);
    node.note_modules_disabled(&text);
    node.note_modprobe("x.conf", &text);
}
