//! `INFO:`: stalls, hung tasks, and the older words of lockdep.

use crate::report::class::Class;
use crate::report::shape::{Family, Pick, Shape, Step, TRACE, Walk};

const CHATTER: &[&str] = &[
    "INFO: lockdep is turned off",
    "INFO: Stall ended before state dump start",
    "INFO: NMI handler",
    "INFO: recovery required on readonly filesystem",
    "{?handler|interrupt}{*}took too long",
    "is not present in /proc/kallsyms",
    "INFO: no syscalls can create resource",
    "rmt_storage:INFO:",
    "_INFO:",
];

/// The stall is found by the timer interrupt: the stack above it is the detector's.
const STALL: Walk = Walk::new(&[
    Step::Line("apic_timer_interrupt"),
    Step::Pointer,
    Step::Frames,
])
.or(&[INTERRUPTED])
.skip(&["apic_timer_interrupt", "rcu"])
.pick(Pick::Stall);

const INTERRUPTED: &[Step] = &[
    Step::Line("{?apic_timer_interrupt|Exception stack|el1h_64_irq}"),
    Step::Frames,
];

/// From 6.1 on, a CPU that finds itself standing prints what was interrupted and leaves the interrupt
/// out.
const OWN_STALL: Walk = Walk {
    or: &[INTERRUPTED, &[Step::Pointer, Step::Trace, Step::Frames]],
    ..STALL
};

pub(super) const INFO: Family = Family::new(
    "INFO:",
    Class::Other,
    &[
        Shape::new(
            Class::Locking,
            "INFO: possible circular locking dependency detected",
            "possible deadlock in {1}",
        )
        .whole(
            "INFO: possible circular locking dependency detected ]{line}is trying to acquire lock{line}at: {pc}{func}",
        ),
        Shape::new(
            Class::Locking,
            "INFO: possible irq lock inversion dependency detected",
            "possible deadlock in {1}",
        )
        .whole(
            "INFO: possible irq lock inversion dependency detected ]{line}just changed the state of lock{line}at: {pc}{func}",
        ),
        Shape::new(
            Class::Locking,
            "INFO: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected",
            "possible deadlock in {1}",
        )
        .whole(
            "INFO: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected ]{line}is trying to acquire{line}at: {pc}{func}",
        ),
        Shape::new(
            Class::Locking,
            "INFO: possible recursive locking detected",
            "possible deadlock in {1}",
        )
        .whole(
            "INFO: possible recursive locking detected ]{line}is trying to acquire lock{line}at: {pc}{func}",
        ),
        Shape::new(
            Class::Locking,
            "INFO: inconsistent lock state",
            "inconsistent lock state in {1}",
        )
        .whole("INFO: inconsistent lock state ]{line}takes{line}at: {pc}{func}"),
        Shape::new(
            Class::RcuStall,
            "INFO: rcu_{?preempt|sched|bh|tasks} self-detected {?expedited stall|stall}",
            "INFO: rcu detected stall in {1}",
        )
        .alt(&["stall in {1}"])
        .walk(OWN_STALL),
        Shape::new(
            Class::RcuStall,
            "INFO: rcu_{?preempt|sched|bh|tasks} detected {?expedited stall|stall}",
            "INFO: rcu detected stall in {1}",
        )
        .alt(&["stall in {1}"])
        .walk(STALL),
        Shape::new(
            Class::Locking,
            "INFO: trying to register non-static key",
            "INFO: trying to register non-static key in {1}",
        )
        .walk(TRACE.skip(&["stack", "lock", "IRQ"])),
        Shape::new(
            Class::Locking,
            "INFO: suspicious RCU usage",
            "INFO: suspicious RCU usage in {2}",
        )
        .whole("INFO: suspicious RCU usage{line}{src}")
        .walk(TRACE.skip(&["rcu", "kmem", "slab"])),
        Shape::new(
            Class::HungTask,
            "INFO: task {*} blocked {?in I/O wait |}for more than {num} seconds",
            "INFO: task hung in {1}",
        )
        .alt(&["hang in {1}"])
        .walk(TRACE.pick(Pick::Hang)),
        Shape::new(
            Class::HungTask,
            "INFO: task {*} can't die for more than {*} seconds",
            "INFO: task can't die in {1}",
        )
        .alt(&["hang in {1}"])
        .walk(TRACE.skip(&["schedule"])),
        Shape::new(
            Class::Other,
            "INFO: {Freed|Allocated} in {rest}",
            "INFO: {1} in {2}",
        )
        .lost(),
        Shape::new(Class::Other, "INFO:{blank}", "INFO: corrupted").lost(),
    ],
)
.unless(CHATTER);
