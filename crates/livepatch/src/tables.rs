//! The tables of per-code-address entries that the kernel keeps beside its text.
//!
//! Each is rebuilt entry by entry for the functions that travel. Layouts: `arch/x86/include/asm/`
//! `bug.h`, `extable.h`, `alternative.h`, `jump_label.h`, `paravirt_types.h`, `static_call_types.h`,
//! and `tools/objtool/check.c` for the lists of sites, of the kernel series named in [`layout_for`].

/// One table's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Section name.
    pub section: &'static str,
    /// Bytes of an entry.
    pub entry: u64,
    /// What its entries say.
    pub role: Role,
}

/// What a table's entries say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Where the assembler put an instruction of a known form; follows from the code itself.
    Derived,
    /// A trap instruction and its file and line; bytes 8 and 9 hold the line.
    Bug,
    /// A faulting instruction and where to go on.
    Exception,
    /// A branch that a static key switches; the key is the field at byte 8.
    JumpLabel,
    /// A call that a static call retargets; the key is the field at byte 4.
    StaticCall,
    /// Instructions replaced by CPU feature; the replacement is the field at byte 4.
    Alternative {
        /// Byte that holds the replacement's length.
        length_at: u64,
    },
    /// A paravirtual call site; the last entry lacks its padding.
    Paravirt,
}

/// Tables of Linux 6.1 on x86-64.
const LINUX_6_1: [Table; 9] = [
    Table {
        section: "__bug_table",
        entry: 12,
        role: Role::Bug,
    },
    Table {
        section: "__ex_table",
        entry: 12,
        role: Role::Exception,
    },
    Table {
        section: "__jump_table",
        entry: 16,
        role: Role::JumpLabel,
    },
    Table {
        section: ".static_call_sites",
        entry: 8,
        role: Role::StaticCall,
    },
    Table {
        section: ".altinstructions",
        entry: 12,
        role: Role::Alternative { length_at: 11 },
    },
    Table {
        section: ".parainstructions",
        entry: 16,
        role: Role::Paravirt,
    },
    Table {
        section: ".smp_locks",
        entry: 4,
        role: Role::Derived,
    },
    Table {
        section: ".retpoline_sites",
        entry: 4,
        role: Role::Derived,
    },
    Table {
        section: ".return_sites",
        entry: 4,
        role: Role::Derived,
    },
];

/// Tables of Linux 6.12 on x86-64: paravirtual calls are alternatives, whose feature word is wider,
/// and direct calls are listed.
const LINUX_6_12: [Table; 9] = [
    Table {
        section: "__bug_table",
        entry: 12,
        role: Role::Bug,
    },
    Table {
        section: "__ex_table",
        entry: 12,
        role: Role::Exception,
    },
    Table {
        section: "__jump_table",
        entry: 16,
        role: Role::JumpLabel,
    },
    Table {
        section: ".static_call_sites",
        entry: 8,
        role: Role::StaticCall,
    },
    Table {
        section: ".altinstructions",
        entry: 14,
        role: Role::Alternative { length_at: 13 },
    },
    Table {
        section: ".smp_locks",
        entry: 4,
        role: Role::Derived,
    },
    Table {
        section: ".retpoline_sites",
        entry: 4,
        role: Role::Derived,
    },
    Table {
        section: ".return_sites",
        entry: 4,
        role: Role::Derived,
    },
    Table {
        section: ".call_sites",
        entry: 4,
        role: Role::Derived,
    },
];

/// Bytes of one `struct orc_entry`.
pub const ORC_ENTRY: u64 = 6;

/// Whether this engine has been proven on kernels of the series `major.minor` whose functions are
/// padded and begin with ENDBR64 (`CONFIG_X86_KERNEL_IBT`).
pub fn is_proven_with_ibt(major: u32, minor: u32) -> bool {
    (major, minor) == (6, 12)
}

/// Returns the tables of the kernel series `major.minor`, or `None` for a series whose layouts this
/// engine has not been proven on.
pub fn layout_for(major: u32, minor: u32) -> Option<&'static [Table]> {
    match (major, minor) {
        (6, 1) => Some(&LINUX_6_1),
        (6, 12) => Some(&LINUX_6_12),
        _ => None,
    }
}
