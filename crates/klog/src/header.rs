//! Which lines open a report, and what kind of report it is.

mod class;

pub use class::{Class, Severity};

/// A line that opens a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the report is about.
    pub class: Class,
    /// Where in the text the header begins, in bytes.
    pub at: usize,
    /// Belongs to an open report instead of opening one of its own.
    pub continues: bool,
}

/// One text that opens reports.
struct Literal {
    text: &'static str,
    class: Class,
    /// Not a header when the line also says one of these.
    unless: &'static [&'static str],
    /// Opens nothing inside an open report.
    continues: bool,
}

const fn literal(text: &'static str, class: Class, unless: &'static [&'static str]) -> Literal {
    Literal {
        text,
        class,
        unless,
        continues: false,
    }
}

const fn inner(text: &'static str, class: Class) -> Literal {
    Literal {
        text,
        class,
        unless: &[],
        continues: true,
    }
}

/// In order of precedence when one line has several.
const LITERALS: &[Literal] = &[
    literal("BUG:", Class::Other, &["ODEBUG:", "DEBUG:", "xlog_status:"]),
    literal(
        "WARNING:",
        Class::Other,
        &[
            "mand mount option",
            "workqueue cpumask: online intersect > possible intersect",
            "Unprivileged eBPF is enabled with eIBRS",
            "kernel not compiled with CPU_SRSO",
            "for mitigation options.",
            "missed to adjust virtual screen size",
            "EXT4-fs (",
            "XFS (",
            "uses deprecated v2 capabilities",
            "uses wireless extensions",
            "moduli does not exist",
            "DT_FLAGS_1",
        ],
    ),
    literal(
        "INFO:",
        Class::Other,
        &[
            "lockdep is turned off",
            "Stall ended before state dump start",
            "NMI handler",
            "recovery required on readonly filesystem",
            "took too long",
            "_INFO:",
        ],
    ),
    literal("Unable to handle kernel", Class::BadAccess, &[]),
    literal("general protection fault", Class::Gpf, &[]),
    literal("stack segment: ", Class::Gpf, &[]),
    inner("Kernel panic", Class::Panic),
    inner("PANIC: double fault", Class::DoubleFault),
    literal("rust_kernel: panicked", Class::RustPanic, &[]),
    literal("kernel BUG", Class::Bug, &[]),
    literal("Kernel BUG", Class::Bug, &[]),
    literal("BUG kmalloc-", Class::BadPage, &[]),
    literal("divide error:", Class::Divide, &[]),
    literal("divide_error:", Class::Divide, &[]),
    inner("invalid opcode:", Class::InvalidOpcode),
    literal("int3:", Class::Int3, &[]),
    literal("UBSAN:", Class::Ubsan, &[]),
    literal(
        "Booting the kernel.",
        Class::Reboot,
        &["Parsing ELF", "Decompressing Linux", "Unknown parameter '"],
    ),
    inner("unregister_netdevice: waiting for", Class::Other),
    literal("VFS: Close: file count is 0", Class::BadPage, &[]),
    literal("VFS: Busy inodes after unmount", Class::BadPage, &[]),
    inner("Internal error:", Class::BadAccess),
    literal("Unhandled fault:", Class::BadAccess, &[]),
    literal("Alignment trap:", Class::BadAccess, &[]),
    literal("trusty: panic", Class::Panic, &[]),
    literal(
        "fatal error:",
        Class::Other,
        &["ALSA", "cannot create timer"],
    ),
    literal("SYZFAIL:", Class::Other, &[]),
    literal("SYZFATAL:", Class::Other, &[]),
    literal("panic:", Class::Panic, &["_panic:", "xlog_status:"]),
    // What production kernels print beyond that public set.
    literal(
        "Watchdog detected hard LOCKUP on cpu",
        Class::HardLockup,
        &[],
    ),
    literal("self-detected hard LOCKUP", Class::HardLockup, &[]),
    literal("detected hard LOCKUP on other CPUs", Class::HardLockup, &[]),
    literal("[ ftrace bug ]", Class::FtraceBug, &[]),
    literal("Missing ENDBR:", Class::Cfi, &[]),
    literal("Unexpected #CP", Class::Cfi, &[]),
    literal("CFI failure at ", Class::Cfi, &[]),
    literal("NETDEV WATCHDOG:", Class::NetdevWatchdog, &[]),
    literal("list_add corruption", Class::ListCorruption, &[]),
    literal("list_del corruption", Class::ListCorruption, &[]),
    literal("refcount_t: ", Class::Refcount, &[]),
    literal("detected buffer overflow", Class::Fortify, &[]),
    literal("usercopy: Kernel memory ", Class::Usercopy, &[]),
    literal("usercopy: kernel memory ", Class::Usercopy, &[]),
    literal(
        "kernel tried to execute NX-protected page",
        Class::BadAccess,
        &[],
    ),
    literal(
        "unable to execute userspace code (SMEP?)",
        Class::BadAccess,
        &[],
    ),
    literal("corrupted stack end", Class::StackOverflow, &[]),
    literal("stack-protector:", Class::StackOverflow, &[]),
    literal(
        "Fixing recursive fault but reboot is needed!",
        Class::Panic,
        &[],
    ),
    literal("exited with irqs disabled", Class::Bug, &[]),
    literal("exited with preempt_count", Class::Bug, &[]),
    literal(": nobody cared (try booting with", Class::Warn, &[]),
    literal("sysfs: cannot create duplicate filename", Class::Warn, &[]),
    inner("Oops: ", Class::Bug),
    inner("------------[ cut here ]------------", Class::Warn),
];

/// What may stand before a header in a record of the kernel's.
const PREFIXES: &[&str] = &[
    "NMI watchdog: ",
    "watchdog: ",
    "rcu: ",
    "traps: ",
    "Oops: ",
    "usercopy: ",
    "livepatch: ",
    "workqueue: ",
    "[ ",
    "------------",
];

/// Looks for a header in the text of one record.
///
/// `strict` (records whose border is the kernel's own): only at the start, after a known prefix, and
/// never behind an embedded newline. Otherwise the literal may stand anywhere in the line.
pub fn find(text: &str, strict: bool) -> Option<Header> {
    let text = text.lines().next()?;
    LITERALS.iter().find_map(|literal| {
        let at = text.find(literal.text)?;
        let excluded = literal
            .unless
            .iter()
            .any(|other| contains_any_case(text, other))
            || is_user_fault(literal, text);
        if excluded || (strict && !stands_first(text, at)) {
            return None;
        }
        let rest = text.get(at + literal.text.len()..).unwrap_or_default();
        Some(Header {
            class: refine(literal, rest),
            at,
            continues: literal.continues,
        })
    })
}

/// Some of these lines exist in capitals too.
fn contains_any_case(text: &str, words: &str) -> bool {
    text.as_bytes()
        .windows(words.len())
        .any(|window| window.eq_ignore_ascii_case(words.as_bytes()))
}

/// `comm[12] general protection fault ip:… error:0 in libc.so` is a user's program, not the kernel.
fn is_user_fault(literal: &Literal, text: &str) -> bool {
    if literal.class != Class::Gpf {
        return false;
    }
    text.split_once(" error:").is_some_and(|(_, rest)| {
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        rest.starts_with(" in ")
    })
}

/// Tells whether only known prefixes stand before byte `at`.
fn stands_first(text: &str, at: usize) -> bool {
    let mut rest = text.get(..at).unwrap_or_default();
    // Each round takes a non-empty prefix off.
    while let Some(shorter) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = shorter;
    }
    // Process names and file names stand first in some records, but none of them ends like a
    // driver's prefix: `name bus-id: `, `irq 9`, `detected buffer overflow in f` behind `f: `.
    rest.is_empty() || is_device_prefix(rest)
}

fn is_device_prefix(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | ' ');
    text.len() <= 96
        && text.chars().all(plain)
        && (text.ends_with(": ") || text.starts_with("irq ") || text.starts_with("note: "))
}

/// Tells the families that share a literal apart by what follows it.
fn refine(literal: &Literal, rest: &str) -> Class {
    let has = |words: &[&str]| words.iter().any(|word| rest.contains(word));
    match literal.text {
        "BUG:" => {
            if has(&["NULL pointer dereference"]) {
                Class::NullDeref
            } else if has(&["KASAN", "KMSAN", "KCSAN"]) {
                Class::Sanitizer
            } else if has(&["KFENCE"]) {
                Class::Kfence
            } else if has(&["unable to handle"]) {
                Class::BadAccess
            } else if has(&["soft lockup"]) {
                Class::SoftLockup
            } else if has(&["workqueue lockup"]) {
                Class::WorkqueueLockup
            } else if has(&["Bad page", "Bad rss-counter", "non-zero"]) {
                Class::BadPage
            } else if has(&["scheduling while atomic", "sleeping function called"]) {
                Class::AtomicSleep
            } else if has(&["stack guard page was hit"]) {
                Class::StackOverflow
            } else if has(&["memory leak"]) {
                Class::Leak
            } else if has(&[
                "spinlock",
                "rwlock",
                "unlock balance",
                "held lock",
                "locks held",
                "using ",
                "workqueue leaked",
                "MAX_LOCK",
            ]) {
                Class::Locking
            } else {
                // A shape of its own is still the kernel saying BUG: never milder than a warning.
                Class::Warn
            }
        }
        "WARNING:" => {
            if has(&[
                "circular locking",
                "lock held",
                "suspicious RCU",
                "bad unlock",
                "locking bug",
                "nested lock",
                "inconsistent lock",
                "recursive locking",
            ]) {
                Class::Locking
            } else {
                Class::Warn
            }
        }
        "INFO:" => {
            if has(&[
                "detected stall",
                "self-detected stall",
                "detected expedited stall",
                "rcu_tasks",
            ]) {
                Class::RcuStall
            } else if has(&["blocked for more than", "blocked in I/O wait", "can't die"]) {
                Class::HungTask
            } else if has(&[
                "deadlock",
                "inconsistent lock",
                "suspicious RCU",
                "non-static key",
                "lock order",
            ]) {
                Class::Locking
            } else {
                Class::Other
            }
        }
        "Unable to handle kernel" if has(&["NULL pointer"]) => Class::NullDeref,
        "Kernel panic"
            if has(&[
                "stack overflow",
                "stack is corrupted",
                "corrupted stack end",
            ]) =>
        {
            Class::StackOverflow
        }
        _ => literal.class,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, class: Option<Class>) {
        for strict in [false, true] {
            assert_eq!(
                find(text, strict).map(|header| header.class),
                class,
                "{text} {strict}"
            );
        }
    }

    #[test]
    fn complaints_of_stock_kernels_are_classed() {
        check(
            "BUG: kernel NULL pointer dereference, address: 0000000000000000",
            Some(Class::NullDeref),
        );
        check(
            "BUG: unable to handle page fault for address: ffffc90000000000",
            Some(Class::BadAccess),
        );
        check(
            "general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP",
            Some(Class::Gpf),
        );
        check(
            "Oops: general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP",
            Some(Class::Gpf),
        );
        check(
            "WARNING: CPU: 0 PID: 1 at kernel/livepatch/core.c:10 f+0x1/0x2",
            Some(Class::Warn),
        );
        check(
            "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [insmod:88]",
            Some(Class::SoftLockup),
        );
        check(
            "NMI watchdog: Watchdog detected hard LOCKUP on cpu 3",
            Some(Class::HardLockup),
        );
        check(
            "rcu: INFO: rcu_preempt self-detected stall on CPU",
            Some(Class::RcuStall),
        );
        check(
            "INFO: task insmod:88 blocked for more than 120 seconds.",
            Some(Class::HungTask),
        );
        check(
            "list_add corruption. prev->next should be next (x), but was y. (prev=z).",
            Some(Class::ListCorruption),
        );
        check(
            "refcount_t: underflow; use-after-free.",
            Some(Class::Refcount),
        );
        check(
            "usercopy: Kernel memory exposure attempt detected from SLUB object 'x'",
            Some(Class::Usercopy),
        );
        check("detected buffer overflow in strcpy", Some(Class::Fortify));
        check(
            "strcpy: detected buffer overflow: 9 byte write of buffer size 8",
            Some(Class::Fortify),
        );
        check("kernel BUG at mm/slub.c:4!", Some(Class::Bug));
        check(
            "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009",
            Some(Class::Panic),
        );
        check("traps: Missing ENDBR: f+0x0/0x10 [m]", Some(Class::Cfi));
        check(
            "------------[ ftrace bug ]------------",
            Some(Class::FtraceBug),
        );
        check(
            "irq 9: nobody cared (try booting with the \"irqpoll\" option)",
            Some(Class::Warn),
        );
        check(
            "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!",
            Some(Class::WorkqueueLockup),
        );
    }

    #[test]
    fn look_alikes_are_no_headers() {
        for text in [
            "tt: loading out-of-tree module taints kernel.",
            "tt: module verification failed: signature and/or required key missing - tainting kernel",
            "ODEBUG: BUG: x",
            "Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible via Spectre v2 BHB attacks!",
            "INFO: NMI handler (perf_event_nmi_handler) took too long to run: 1.5 msecs",
            "INFO: lockdep is turned off.",
            "traps: curl[88] general protection fault ip:7f0 sp:7ff error:0 in libc.so.6[7f0+1]",
            "Run /init as init process",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn user_text_inside_a_record_opens_nothing() {
        for text in [
            "mount option 'BUG: x' is bad",
            "x (BUG: a[1): y",
            "usb 1-1: Product: \"WARNING: x\"",
            "name\nBUG: kernel NULL pointer dereference",
        ] {
            assert_eq!(find(text, true), None, "{text}");
        }
    }
}
