//! What a node's settings shut.

use std::collections::BTreeMap;

/// A way in that a setting of a node can shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// User namespaces of unprivileged accounts.
    UserNamespaces,
    /// `io_uring` system calls.
    IoUring,
    /// `bpf` system calls of unprivileged accounts.
    UnprivilegedBpf,
}

impl Door {
    /// Every door.
    pub const ALL: [Self; 3] = [Self::UserNamespaces, Self::IoUring, Self::UnprivilegedBpf];

    /// Names it in one slug.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserNamespaces => "user-namespaces",
            Self::IoUring => "io-uring",
            Self::UnprivilegedBpf => "unprivileged-bpf",
        }
    }
}

/// The doors that are shut on one node or one kernel; by default none.
///
/// They lower the points of that kernel's ranking, never a record's own band.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doors {
    shut: BTreeMap<Door, String>,
    absent: BTreeMap<String, String>,
}

impl Doors {
    /// Shuts a door; `cause` names the setting, such as `kernel.io_uring_disabled=2`.
    pub fn shut(&mut self, door: Door, cause: impl Into<String>) {
        self.shut.entry(door).or_insert_with(|| cause.into());
    }

    /// Marks the source file `path` as absent; `cause` says why, such as `module nf_tables is blocked`.
    pub fn mark_absent(&mut self, path: impl Into<String>, cause: impl Into<String>) {
        self.absent
            .entry(path.into())
            .or_insert_with(|| cause.into());
    }

    /// Says whether none is shut.
    pub fn is_empty(&self) -> bool {
        self.shut.is_empty() && self.absent.is_empty()
    }

    pub(super) fn shut_by(&self, door: Door) -> Option<&str> {
        self.shut.get(&door).map(String::as_str)
    }

    pub(super) fn absent(&self, path: &str) -> Option<&str> {
        self.absent.get(path).map(String::as_str)
    }
}
