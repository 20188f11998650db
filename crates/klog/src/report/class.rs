//! What kinds of report there are, and how bad each is.

use std::fmt;

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(
    missing_docs,
    reason = "the names are the kernel's own words for these"
)]
pub enum Class {
    NullDeref,
    BadAccess,
    Gpf,
    DoubleFault,
    StackOverflow,
    InvalidOpcode,
    Int3,
    Divide,
    Bug,
    Warn,
    Refcount,
    ListCorruption,
    BadPage,
    Usercopy,
    Fortify,
    Ubsan,
    Kfence,
    Sanitizer,
    Cfi,
    SoftLockup,
    HardLockup,
    RcuStall,
    HungTask,
    WorkqueueLockup,
    AtomicSleep,
    Locking,
    Leak,
    NetdevWatchdog,
    FtraceBug,
    LivepatchError,
    ModuleRelocation,
    RustPanic,
    Panic,
    Reboot,
    Other,
}

/// How bad a report is, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth a look; evidence of nothing.
    Notice,
    /// A livepatch was refused or built wrong.
    Livepatch,
    /// The kernel found a condition it does not expect.
    Warning,
    /// Memory or structures are damaged.
    Corruption,
    /// A task or CPU stands still.
    Hang,
    /// A task was killed inside the kernel.
    Oops,
    /// The machine is gone.
    Panic,
}

impl Class {
    /// Returns how bad a report of this class is.
    pub fn severity(self) -> Severity {
        match self {
            Self::Panic | Self::Reboot | Self::RustPanic | Self::DoubleFault => Severity::Panic,
            Self::NullDeref
            | Self::BadAccess
            | Self::Gpf
            | Self::StackOverflow
            | Self::InvalidOpcode
            | Self::Int3
            | Self::Divide
            | Self::Bug
            | Self::Cfi => Severity::Oops,
            Self::SoftLockup
            | Self::HardLockup
            | Self::RcuStall
            | Self::HungTask
            | Self::WorkqueueLockup => Severity::Hang,
            Self::ListCorruption
            | Self::BadPage
            | Self::Usercopy
            | Self::Fortify
            | Self::Refcount
            | Self::Kfence
            | Self::Sanitizer => Severity::Corruption,
            Self::Warn
            | Self::Ubsan
            | Self::AtomicSleep
            | Self::Locking
            | Self::Leak
            | Self::NetdevWatchdog
            | Self::FtraceBug => Severity::Warning,
            Self::LivepatchError | Self::ModuleRelocation => Severity::Livepatch,
            Self::Other => Severity::Notice,
        }
    }

    /// Returns the word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NullDeref => "null-deref",
            Self::BadAccess => "bad-access",
            Self::Gpf => "gpf",
            Self::DoubleFault => "double-fault",
            Self::StackOverflow => "stack-overflow",
            Self::InvalidOpcode => "invalid-opcode",
            Self::Int3 => "int3",
            Self::Divide => "divide",
            Self::Bug => "bug",
            Self::Warn => "warn",
            Self::Refcount => "refcount",
            Self::ListCorruption => "list-corruption",
            Self::BadPage => "bad-page",
            Self::Usercopy => "usercopy",
            Self::Fortify => "fortify",
            Self::Ubsan => "ubsan",
            Self::Kfence => "kfence",
            Self::Sanitizer => "sanitizer",
            Self::Cfi => "cfi",
            Self::SoftLockup => "soft-lockup",
            Self::HardLockup => "hard-lockup",
            Self::RcuStall => "rcu-stall",
            Self::HungTask => "hung-task",
            Self::WorkqueueLockup => "workqueue-lockup",
            Self::AtomicSleep => "atomic-sleep",
            Self::Locking => "locking",
            Self::Leak => "leak",
            Self::NetdevWatchdog => "netdev-watchdog",
            Self::FtraceBug => "ftrace-bug",
            Self::LivepatchError => "livepatch-error",
            Self::ModuleRelocation => "module-relocation",
            Self::RustPanic => "rust-panic",
            Self::Panic => "panic",
            Self::Reboot => "reboot",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Severity {
    /// Returns the word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Livepatch => "livepatch",
            Self::Warning => "warning",
            Self::Corruption => "corruption",
            Self::Hang => "hang",
            Self::Oops => "oops",
            Self::Panic => "panic",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
