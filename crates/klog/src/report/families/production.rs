//! Complaints of production kernels that the public corpus has no title for.

use crate::report::class::Class;
use crate::report::shape::{Family, POINTER, Pick, Shape, Standing, TRACE};

pub(super) fn families() -> Vec<Family> {
    let before = |literal, class| Family::new(literal, class, &[]).stands(Standing::Before);
    vec![
        Family::new("detected hard LOCKUP on cpu", Class::HardLockup, HARD),
        Family::new("self-detected hard LOCKUP", Class::HardLockup, HARD_SELF),
        Family::new(
            "detected hard LOCKUP on other CPUs",
            Class::HardLockup,
            HARD_OTHERS,
        ),
        // The next lines say whose call site it was, and end in a WARNING of ftrace's.
        before("[ ftrace bug ]", Class::FtraceBug),
        before("Missing ENDBR: ", Class::Cfi),
        before("Unexpected #CP", Class::Cfi),
        before("CFI failure at ", Class::Cfi),
        Family::new("NETDEV WATCHDOG: ", Class::NetdevWatchdog, NETDEV).stands(Standing::Before),
        before("list_add corruption", Class::ListCorruption),
        before("list_del corruption", Class::ListCorruption),
        before("refcount_t: ", Class::Refcount),
        before("detected buffer overflow", Class::Fortify),
        before("usercopy: Kernel memory ", Class::Usercopy),
        before("usercopy: kernel memory ", Class::Usercopy),
        before(
            "kernel tried to execute NX-protected page",
            Class::BadAccess,
        ),
        before("unable to execute userspace code (SMEP?)", Class::BadAccess),
        Family::new(
            "Fixing recursive fault but reboot is needed!",
            Class::Panic,
            RECURSIVE,
        )
        .stands(Standing::Inside),
        Family::new("exited with irqs disabled", Class::Bug, &[]).stands(Standing::Inside),
        Family::new("exited with preempt_count ", Class::Bug, &[]).stands(Standing::Inside),
        Family::new(": nobody cared (try booting with", Class::Warn, NOBODY),
        Family::new(
            "sysfs: cannot create duplicate filename",
            Class::Warn,
            SYSFS,
        ),
        Family::new("rcu_tasks detected stalls on tasks", Class::RcuStall, &[]),
        Family::new("Oops: ", Class::Bug, OOPS).stands(Standing::Inside),
        before("------------[ cut here ]------------", Class::Warn),
    ]
}

const HARD: &[Shape] = &[Shape::new(
    Class::HardLockup,
    "detected hard LOCKUP on cpu",
    "hard lockup in {1}",
)
.alt(&["stall in {1}"])
.walk(POINTER.pick(Pick::Stall))];

const HARD_SELF: &[Shape] = &[Shape::new(
    Class::HardLockup,
    "self-detected hard LOCKUP",
    "hard lockup in {1}",
)
.alt(&["stall in {1}"])
.walk(POINTER.pick(Pick::Stall))];

/// The stack is another CPU's and comes by NMI.
const HARD_OTHERS: &[Shape] = &[Shape::new(
    Class::HardLockup,
    "detected hard LOCKUP on other CPUs",
    "hard lockup in {1}",
)
.alt(&["stall in {1}"])
.walk(POINTER.pick(Pick::Stall))];

/// Since 6.5 one line without a stack; the port and the driver are chance.
const NETDEV: &[Shape] = &[Shape::new(
    Class::NetdevWatchdog,
    "NETDEV WATCHDOG: ",
    "NETDEV WATCHDOG: transmit queue timed out",
)
.bare()];

const RECURSIVE: &[Shape] = &[Shape::new(
    Class::Panic,
    "Fixing recursive fault but reboot is needed!",
    "Fixing recursive fault but reboot is needed!",
)
.bare()];

const NOBODY: &[Shape] = &[Shape::new(
    Class::Warn,
    ": nobody cared (try booting with",
    "irq: nobody cared",
)
.bare()];

const SYSFS: &[Shape] = &[Shape::new(
    Class::Warn,
    "sysfs: cannot create duplicate filename",
    "sysfs: cannot create duplicate filename in {1}",
)
.walk(TRACE.skip(&["sysfs_"]))];

/// The line behind a `BUG:` that was lost.
const OOPS: &[Shape] = &[Shape::new(Class::Bug, "Oops: ", "Oops in {1}")
    .walk(POINTER)
    .lost()];
