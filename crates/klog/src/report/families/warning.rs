//! `WARNING:`: what `WARN_ON` and its kin print, and lockdep.

use crate::report::class::Class;
use crate::report::shape::{Family, Shape, Step, TRACE, WARNING as TRAP, Walk};

/// Advice, and what other programs and drivers call a warning.
const ADVICE: &[&str] = &[
    "he mand mount option",
    "workqueue cpumask: online intersect > possible intersect",
    "Unprivileged eBPF is enabled with eIBRS",
    "kernel not compiled with CPU_SRSO",
    "for mitigation options.",
    "missed to adjust virtual screen size",
    "EXT4-{?fs|FS|Fs|fS}{?:| (}",
    "XFS ({*}): WARNING",
    "uses deprecated v2 capabilities",
    "uses wireless extensions",
    // Some log daemons write in capitals.
    "USES DEPRECATED V2 CAPABILITIES",
    "USES WIRELESS EXTENSIONS",
    "moduli does not exist",
    "DT_FLAGS_1",
];

/// A lock is named by where it was taken.
const AT: Step = Step::Line("at: {pc?}{func}");

pub(super) const WARNING: Family = Family::new(
    "WARNING:",
    Class::Other,
    &[
        Shape::new(
            Class::Warn,
            "WARNING: {*}lib/debugobjects.c{*} {?debug_print|debug_check|at}",
            "WARNING: ODEBUG bug in {1}",
        )
        .walk(TRAP.skip(&[
            "debug_",
            "rcu",
            "hrtimer_",
            "timer_",
            "work_",
            "percpu_",
            "vunmap",
            "vfree",
            "__free_",
            "kobject_",
        ])),
        Shape::new(
            Class::Usercopy,
            "WARNING: {*}mm/usercopy.c{*} {?usercopy_warn|at}",
            "WARNING: bad usercopy in {1}",
        )
        .walk(TRAP.skip(&["usercopy", "__check"])),
        Shape::new(
            Class::Warn,
            "WARNING: {*}lib/kobject.c{*} {?kobject_|at}",
            "WARNING: kobject bug in {1}",
        )
        .walk(TRAP.skip(&["kobject_"])),
        Shape::new(
            Class::Warn,
            "WARNING: {*}fs/proc/generic.c{*} {?proc_register|at}",
            "WARNING: proc registration bug in {1}",
        )
        .walk(TRAP.skip(&["proc_"])),
        Shape::new(
            Class::Refcount,
            "WARNING: {*}lib/refcount.c{*} {?refcount_|at}",
            "WARNING: refcount bug in {1}",
        )
        .walk(TRAP.skip(&["refcount", "kobject_"])),
        Shape::new(
            Class::Locking,
            "WARNING: {*}kernel/locking/lockdep.c{*}lock_",
            "WARNING: locking bug in {1}",
        )
        .walk(TRAP.skip(&["lock_sock", "release_sock"])),
        Shape::new(
            Class::Locking,
            "WARNING: {*}still has locks held!",
            "WARNING: still has locks held in {1}",
        )
        .whole("WARNING: {*}still has locks held!{line}at: {func}"),
        Shape::new(
            Class::Locking,
            "WARNING: Nested lock was not taken",
            "WARNING: nested lock was not taken in {1}",
        )
        .walk(TRAP),
        Shape::new(
            Class::Locking,
            "WARNING: lock held when returning to user space",
            "WARNING: lock held when returning to user space in {1}",
        )
        .whole(
            "WARNING: lock held when returning to user space{line}leaving the kernel with locks still held{line}at: {pc?}{func}",
        )
        .bare(),
        Shape::new(
            Class::Warn,
            "WARNING: {*}mm/{*}.c{*} {?kmalloc|kvmalloc|kzmalloc|kcmalloc|k_malloc|malloc|vmalloc|zmalloc|_malloc}",
            "WARNING: kmalloc bug in {1}",
        )
        .walk(TRAP.skip(&["kmalloc", "krealloc", "slab", "kmem"])),
        Shape::new(
            Class::Warn,
            "WARNING: {*}mm/vmalloc.c{*}__vmalloc_node",
            "WARNING: zero-size vmalloc in {1}",
        )
        .walk(TRAP),
        // The driver passed what usb_submit_urb complains of.
        Shape::new(
            Class::Warn,
            "WARNING: {*} usb_submit_urb",
            "WARNING in {1}/usb_submit_urb",
        )
        .walk(TRAP.skip(&[
            "usb_{submit_urb,start_wait_urb,bulk_msg,interrupt_msg,control_msg}",
        ])),
        Shape::new(
            Class::Warn,
            "WARNING: {src} at 0x{num}, CPU#{num}",
            "WARNING in {2}",
        )
        .walk(TRAP),
        Shape::new(
            Class::Warn,
            "WARNING: {*} at {src} {func}",
            "WARNING in {3}",
        )
        .walk(TRAP),
        // Since 6.19 the place comes first.
        Shape::new(Class::Warn, "WARNING: {src} at {func}", "WARNING in {3}").walk(TRAP),
        Shape::new(
            Class::Warn,
            "WARNING: [{*}] {src} at {func}",
            "WARNING in {3}",
        )
        .walk(TRAP),
        Shape::new(
            Class::Locking,
            "WARNING: possible circular locking dependency detected",
            "possible deadlock in {1}",
        )
        .whole(
            "WARNING: possible circular locking dependency detected{line}is trying to acquire lock",
        )
        // A work item's locks are taken by the workqueue for its owner.
        .walk(Walk::new(&[AT, AT, Step::Frames]).skip(&[
            "process_one_work",
            "{flush,drain,destroy}_workqueue",
        ])),
        Shape::new(
            Class::Locking,
            "WARNING: possible irq lock inversion dependency detected",
            "possible deadlock in {1}",
        )
        .whole(
            "WARNING: possible irq lock inversion dependency detected{line}just changed the state of lock{line}at: {pc?}{func}",
        ),
        Shape::new(
            Class::Locking,
            "WARNING: {*}-safe -> {*}-unsafe lock order detected",
            "possible deadlock in {1}",
        )
        .walk(Walk::new(&[
            Step::Line("which became {*} at:"),
            Step::Frames,
        ])),
        Shape::new(
            Class::Locking,
            "WARNING: possible recursive locking detected",
            "possible deadlock in {1}",
        )
        .whole(
            "WARNING: possible recursive locking detected{line}is trying to acquire lock{line}at: {pc?}{func}",
        ),
        Shape::new(
            Class::Locking,
            "WARNING: inconsistent lock state",
            "inconsistent lock state in {2}",
        )
        .whole("WARNING: inconsistent lock state{line}takes{line}at: {pc?}{func}")
        .walk(TRACE),
        Shape::new(
            Class::Locking,
            "WARNING: suspicious RCU usage",
            "WARNING: suspicious RCU usage in {2}",
        )
        .whole("WARNING: suspicious RCU usage{line}{src}")
        .walk(TRACE.skip(&["rcu", "kmem", "slab"])),
        Shape::new(
            Class::Warn,
            "WARNING: kernel stack regs at {hex} in {*} has bad '{until}' value",
            "WARNING: kernel stack regs has bad '{1}' value",
        )
        .bare(),
        Shape::new(
            Class::Warn,
            "WARNING: kernel stack frame pointer at {hex} in {*} has bad value",
            "WARNING: kernel stack frame pointer has bad value",
        )
        .bare(),
        Shape::new(
            Class::Locking,
            "WARNING: bad unlock balance detected!",
            "WARNING: bad unlock balance in {1}",
        )
        .walk(Walk::new(&[
            Step::Line("{pc}{func}"),
            Step::Trace,
            Step::Frames,
        ])),
        Shape::new(
            Class::Locking,
            "WARNING: held lock freed!",
            "WARNING: held lock freed in {1}",
        )
        .whole("WARNING: held lock freed!{line}at: {pc?}{func}"),
        Shape::new(
            Class::Warn,
            "WARNING: kernel stack regs {*} has bad 'bp' value",
            "WARNING: kernel stack regs has bad value",
        )
        .bare(),
        Shape::new(
            Class::Warn,
            "WARNING: kernel stack frame pointer {*} has bad value",
            "WARNING: kernel stack regs has bad value",
        )
        .bare(),
        Shape::new(Class::Other, "WARNING:{blank}", "WARNING: corrupted").lost(),
    ],
)
.unless(ADVICE);
