//! Functions of the kernel that only read through a pointer while they run.

use iced_x86::Register;

/// Registers of the first six arguments (System V ABI).
pub(super) const ARGUMENTS: [Register; 6] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
];

/// What a callee does with one of its pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Reads through it and forgets it.
    Reads,
    /// Reads through it, and keeps it in what another argument points to, unless that is null.
    KeepsUnlessNull(Argument, &'static str),
    /// It may do anything.
    Unknown,
}

/// Where an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// In a register.
    In(Register),
    /// The first on the stack.
    Stacked,
}

/// What `callee` does with its argument number `index`, from 0. Short on purpose: each line was read
/// in the kernel's source.
pub(super) fn use_of(callee: &str, index: usize) -> Use {
    match (callee, index) {
        // lib/nlattr.c: the policy is walked while attributes are checked. On an error it is also kept
        // in `extack->policy` (NL_SET_ERR_MSG_ATTR_POL) for the answer, which is made after the caller
        // has returned: a copy of ours could be gone by then.
        ("__nla_parse", 4) => Use::KeepsUnlessNull(Argument::Stacked, "extack"),
        ("__nla_validate", 3) => Use::KeepsUnlessNull(Argument::In(Register::R9), "extack"),
        // lib/string.c, arch/x86/lib/mem*_64.S: plain reads; the source of a copy is not kept.
        ("memcmp" | "strcmp" | "strncmp" | "strcasecmp" | "strncasecmp", 0 | 1)
        | ("memcpy" | "__memcpy" | "memmove" | "__memmove", 1)
        | ("strlen" | "strnlen" | "kmemdup" | "kstrdup", 0) => Use::Reads,
        _ => Use::Unknown,
    }
}
