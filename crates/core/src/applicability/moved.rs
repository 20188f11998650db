//! Folders that mainline renamed whole, with their files' names kept.
//!
//! A record names files as mainline has them now; a stable branch keeps the older place, and a
//! distribution may have moved either way. Only renames of whole folders are here: where a file was
//! split or merged on its way, its name says nothing.

use std::collections::BTreeSet;

/// Older and newer place, with the mainline change that moved it.
const FOLDERS: [(&str, &str); 4] = [
    // 38c8a9a52082 "smb: move client and server files to common directory fs/smb", in 6.4.
    ("fs/cifs/", "fs/smb/client/"),
    ("fs/ksmbd/", "fs/smb/server/"),
    ("fs/smbfs_common/", "fs/smb/common/"),
    // e65e175b07be "habanalabs: move driver to accel subsystem", in 6.3.
    ("drivers/misc/habanalabs/", "drivers/accel/habanalabs/"),
];

/// Returns the path under which the tree with `files` has the file that a record calls `file`; `None`
/// where it has none, or one whose place is not known.
pub fn in_tree<'a>(file: &str, files: &'a BTreeSet<String>) -> Option<&'a str> {
    if let Some(same) = files.get(file) {
        return Some(same);
    }
    FOLDERS
        .iter()
        .flat_map(|&(old, new)| [(old, new), (new, old)])
        .filter_map(|(from, to)| Some(format!("{to}{}", file.strip_prefix(from)?)))
        .find_map(|path| files.get(&path))
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_at_its_older_and_at_its_newer_place() {
        let files: BTreeSet<String> = ["fs/cifs/inode.c", "fs/smb/server/vfs.c", "fs/inode.c"]
            .map(str::to_owned)
            .into();
        for (file, place) in [
            ("fs/inode.c", Some("fs/inode.c")),
            ("fs/smb/client/inode.c", Some("fs/cifs/inode.c")),
            ("fs/ksmbd/vfs.c", Some("fs/smb/server/vfs.c")),
            // One name in another folder is another file.
            ("fs/smb/server/inode.c", None),
            ("fs/ext4/inode.c", None),
        ] {
            assert_eq!(in_tree(file, &files), place, "{file}");
        }
    }
}
