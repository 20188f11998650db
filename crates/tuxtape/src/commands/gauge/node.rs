//! What a node says of its modules, read from a folder laid out like its root.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tuxtape_core::applicability::loaded::node::Node;
use tuxtape_core::identity::KernelRelease;
use tuxtape_sys::regular;

use crate::output::{self, Hint};

/// Largest file that is read, in bytes.
const LIMIT: u64 = 4 << 20;
/// Folders of modprobe's settings, the one that wins first, as in `modprobe.d(5)`.
const SETTINGS: [&str; 4] = [
    "etc/modprobe.d",
    "run/modprobe.d",
    "usr/local/lib/modprobe.d",
    "lib/modprobe.d",
];

/// Reads the node whose root, or a copy of the few files needed, is at `top`. It must run `kernel`
/// where it says what it runs.
pub(super) fn read(top: &Path, kernel: &KernelRelease) -> anyhow::Result<Node> {
    let mut node = Node::default();
    if let Some(release) = text(&top.join("proc/sys/kernel/osrelease"))? {
        let release = release.trim();
        if release != kernel.as_str() {
            bail!("the node at {} runs {release}, not {kernel}", top.display());
        }
    }
    let mut any = false;
    if let Some(modules) = text(&top.join("proc/modules"))? {
        node.note_modules(&modules);
        any = true;
    }
    if !node.knows_loaded() {
        output::talk(&format!(
            "warning: {} names no module: what is loaded on the node is not known",
            top.join("proc/modules").display()
        ));
    }
    if let Some(disabled) = text(&top.join("proc/sys/kernel/modules_disabled"))? {
        node.note_modules_disabled(&disabled);
        any = true;
    }
    if let Some(line) = text(&top.join("proc/cmdline"))? {
        node.note_command_line(&line);
    }
    for path in settings(top)? {
        any = true;
        // A link to /dev/null masks the file of the same name.
        if let Some(lines) = text(&path)? {
            let shown = path.strip_prefix(top).unwrap_or(&path);
            node.note_modprobe(&format!("/{}", shown.display()), &lines);
        }
    }
    if !any {
        return Err(anyhow::anyhow!("{} has nothing of a node", top.display())).context(Hint::new(
            "give /, or a folder with copies of proc/modules and etc/modprobe.d",
        ));
    }
    Ok(node)
}

/// Lists the files of settings that count: of two with one name the one of the first folder.
fn settings(top: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    // Where /lib is no link to it.
    for folder in SETTINGS.iter().copied().chain(["usr/lib/modprobe.d"]) {
        let folder = top.join(folder);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("could not read {}", folder.display()));
            }
        };
        for entry in entries {
            let path = entry
                .with_context(|| format!("could not read {}", folder.display()))?
                .path();
            if path.extension().is_some_and(|end| end == "conf")
                && let Some(name) = path.file_name()
            {
                files.entry(name.to_owned()).or_insert(path);
            }
        }
    }
    Ok(files.into_values().collect())
}

fn text(path: &Path) -> anyhow::Result<Option<String>> {
    let bytes = match regular::read_linked(path, LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // What is masked says nothing.
        Err(_) if fs::canonicalize(path).is_ok_and(|it| it == Path::new("/dev/null")) => {
            return Ok(Some(String::new()));
        }
        Err(error) => {
            return Err(error).with_context(|| format!("could not read {}", path.display()));
        }
    };
    let bytes =
        bytes.with_context(|| format!("{} has more than {} MiB", path.display(), LIMIT >> 20))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tuxtape_core::applicability::loaded::{Loading, ModuleFacts, Modules};
    use tuxtape_core::identity::ObjectName;

    fn node(files: &[(&str, &str)]) -> anyhow::Result<Node> {
        let top = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = top.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        read(top.path(), &"6.1.0-1-test".parse().unwrap())
    }

    fn stands(node: &Node, name: &str) -> String {
        let facts = ModuleFacts {
            aliases: ["fs-x".to_owned()].into(),
            ..ModuleFacts::default()
        };
        let name = ObjectName(name.to_owned());
        let modules = Modules::from([(name.clone(), facts)]);
        let standing = Loading::new(&modules, Some(node)).of(&name);
        standing.unwrap().to_string()
    }

    #[test]
    fn a_fifo_or_a_device_is_no_file_of_a_node_and_not_waited_for() {
        let kernel: KernelRelease = "6.1.0-1-test".parse().unwrap();
        let top = tempfile::tempdir().unwrap();
        let modules = top.path().join("proc/modules");
        fs::create_dir_all(top.path().join("proc")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&modules).status();
        assert!(made.unwrap().success());
        let refused = || format!("{:#}", read(top.path(), &kernel).unwrap_err());
        assert!(refused().ends_with("proc/modules: not a regular file"));
        fs::remove_file(&modules).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &modules).unwrap();
        assert!(refused().ends_with("proc/modules: not a regular file"));
        // This mask is how a distribution's settings are switched off.
        fs::remove_file(&modules).unwrap();
        fs::create_dir_all(top.path().join("etc/modprobe.d")).unwrap();
        let mask = top.path().join("etc/modprobe.d/a.conf");
        std::os::unix::fs::symlink("/dev/null", mask).unwrap();
        read(top.path(), &kernel).unwrap();
    }

    #[test]
    fn the_administrators_file_replaces_the_distributions_of_the_same_name() {
        let distribution = ("usr/lib/modprobe.d/a.conf", "install x /bin/false\n");
        let blocked = node(&[distribution]).unwrap();
        assert_eq!(
            stands(&blocked, "x"),
            "blocked: /usr/lib/modprobe.d/a.conf:1: install x /bin/false"
        );
        let open = node(&[distribution, ("etc/modprobe.d/a.conf", "\n")]).unwrap();
        assert_eq!(
            stands(&open, "x"),
            "autoload: by any user's request for fs-x"
        );
        // modprobe reads no other names.
        let other = node(&[
            ("etc/modprobe.d/a.conf~", "install x /bin/false\n"),
            ("proc/modules", "y 1"),
        ]);
        assert!(stands(&other.unwrap(), "x").starts_with("autoload"));
    }

    #[test]
    fn a_node_with_another_kernel_is_refused() {
        let error = node(&[
            ("proc/sys/kernel/osrelease", "6.1.0-2-test\n"),
            ("proc/modules", "x 1"),
        ])
        .unwrap_err();
        assert!(error.to_string().contains("runs 6.1.0-2-test"), "{error}");
    }

    #[test]
    fn a_folder_without_anything_of_a_node_is_refused() {
        assert!(node(&[]).is_err());
    }
}
