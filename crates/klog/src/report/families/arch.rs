//! What the processor's traps print, panics, undefined behaviour, and programs beside the kernel.

use crate::report::class::Class;
use crate::report::shape::{Family, POINTER, POINTER_ONLY, Pick, Shape, Standing, TRACE};

pub(super) fn families() -> Vec<Family> {
    let mut all = vec![
        Family::new("Unable to handle kernel", Class::BadAccess, FAULT),
        // With an error number and a file it is a user's program, not the kernel.
        Family::new("general protection fault", Class::Gpf, PROTECTION)
            .unless(&["general protection fault {*} error:{num} in "]),
        Family::new("stack segment: ", Class::Gpf, SEGMENT),
        Family::new("Kernel panic", Class::Panic, PANIC).stands(Standing::Inside),
        Family::new("PANIC: double fault", Class::DoubleFault, DOUBLE).stands(Standing::Inside),
        Family::new("rust_kernel: panicked", Class::RustPanic, RUST),
        Family::new("kernel BUG", Class::Bug, KERNEL_BUG),
        Family::new("Kernel BUG", Class::Bug, OTHER_BUG),
        Family::new("BUG kmalloc-", Class::BadPage, SLAB),
    ];
    all.extend([
        Family::new("divide error:", Class::Divide, DIVIDE),
        // 5.8 to 5.9 had an underscore.
        Family::new("divide_error:", Class::Divide, DIVIDE_OLD),
        Family::new("invalid opcode:", Class::InvalidOpcode, OPCODE).stands(Standing::Inside),
        Family::new("int3:", Class::Int3, INT3),
        Family::new("UBSAN:", Class::Ubsan, UBSAN),
        Family::new("Booting the kernel.", Class::Reboot, REBOOT).unless(&[
            "Parsing ELF",
            "Decompressing Linux",
            "Unknown parameter '",
        ]),
        Family::new("unregister_netdevice: waiting for", Class::Other, DEVICE)
            .stands(Standing::Inside),
        Family::new("VFS: Close: file count is 0", Class::BadPage, CLOSE),
        Family::new("VFS: Busy inodes after unmount", Class::BadPage, INODES),
        Family::new("Internal error:", Class::BadAccess, INTERNAL).stands(Standing::Inside),
        Family::new("Unhandled fault:", Class::BadAccess, UNHANDLED),
        Family::new("Alignment trap:", Class::BadAccess, ALIGNMENT),
        Family::new("trusty: panic", Class::Panic, TRUSTY),
        Family::new("fatal error:", Class::Other, GO)
            .unless(&["ALSA", "fatal error: cannot create timer"]),
        Family::new("SYZFAIL:", Class::Other, FAIL),
        Family::new("SYZFATAL:", Class::Other, FATAL),
        Family::new("panic:", Class::Panic, PROGRAM).unless(&[
            "_panic:",
            "xlog_status:",
            "ddb.onpanic:",
            "evtlog_status:",
        ]),
    ]);
    all
}

const FAULT: &[Shape] = &[
    Shape::new(
        Class::NullDeref,
        "Unable to handle kernel {NULL pointer dereference}",
        "BUG: unable to handle kernel {1} in {2}",
    )
    .alt(&["bad-access in {2}"])
    .walk(POINTER),
    Shape::new(
        Class::BadAccess,
        "Unable to handle kernel {paging request|access to user memory}",
        "BUG: unable to handle kernel {1} in {2}",
    )
    .alt(&["bad-access in {2}"])
    .walk(POINTER),
];

const PROTECTION: &[Shape] = &[Shape::new(
    Class::Gpf,
    "general protection fault{*}:",
    "general protection fault in {1}",
)
.alt(&["bad-access in {1}"])
.walk(POINTER)];

const SEGMENT: &[Shape] =
    &[Shape::new(Class::Gpf, "stack segment: ", "stack segment fault in {1}").walk(POINTER)];

/// With the stack gone, the kernel may not even know the function's name.
const PANIC: &[Shape] = &[
    Shape::new(
        Class::StackOverflow,
        "Kernel panic - not syncing: stack-protector:",
        "kernel panic: stack is corrupted in {1}",
    )
    .whole("Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: {func}")
    .bare(),
    Shape::new(
        Class::StackOverflow,
        "Kernel panic - not syncing: stack-protector:",
        "kernel panic: stack is corrupted in {1}",
    )
    .whole("Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: {hex}")
    .walk(TRACE.skip(&["stack_chk"])),
    Shape::new(
        Class::StackOverflow,
        "Kernel panic - not syncing: corrupted stack end",
        "kernel panic: corrupted stack end in {1}",
    )
    .whole("Kernel panic - not syncing: corrupted stack end detected inside scheduler")
    .alt(&["stack-overflow in {1}"])
    .walk(TRACE.skip(&["schedule", "retint_kernel"]).pick(Pick::Stall)),
    Shape::new(
        Class::StackOverflow,
        "Kernel panic - not syncing: kernel stack overflow",
        "kernel stack overflow in {1}",
    )
    .alt(&["stack-overflow in {1}"])
    .walk(TRACE.skip(&["bad_stack"]).pick(Pick::Stall)),
    Shape::new(
        Class::Panic,
        "Kernel panic - not syncing: Attempted to kill init!",
        "kernel panic: Attempted to kill init!",
    ),
    Shape::new(
        Class::Panic,
        "Kernel panic - not syncing: Couldn't open N_TTY ldisc for {*} --- error -{num}",
        "kernel panic: Couldn't open N_TTY ldisc",
    ),
    // These end another report; alone, they mean that its header is missing.
    Shape::new(
        Class::Panic,
        "Kernel panic - not syncing: Fatal exception",
        "kernel panic: Fatal exception",
    )
    .lost(),
    Shape::new(
        Class::Panic,
        "Kernel panic - not syncing: panic_on_warn set",
        "kernel panic: panic_on_warn set",
    )
    .lost(),
    Shape::new(
        Class::Panic,
        "Kernel panic - not syncing: hung_task: blocked tasks",
        "kernel panic: hung_task: blocked tasks",
    )
    .lost(),
    Shape::new(
        Class::Panic,
        "Kernel panic - not syncing: {rest}",
        "kernel panic: {1}",
    ),
];

const DOUBLE: &[Shape] = &[Shape::new(
    Class::DoubleFault,
    "PANIC: double fault",
    "PANIC: double fault in {1}",
)
.walk(POINTER_ONLY)];

const RUST: &[Shape] = &[
    Shape::new(Class::RustPanic, "rust_kernel: panicked", "{1} in {2}")
        .whole("rust_kernel: panicked at {line}{some}")
        .walk(TRACE.skip(&["__rustc::rust_begin_unwind"])),
];

const KERNEL_BUG: &[Shape] = &[
    Shape::new(
        Class::Usercopy,
        "kernel BUG at mm/usercopy.c",
        "BUG: bad usercopy in {1}",
    )
    .walk(TRACE.skip(&["usercopy", "__check"])),
    Shape::new(
        Class::ListCorruption,
        "kernel BUG at lib/list_debug.c",
        "BUG: corrupted list in {1}",
    )
    .alt(&["bad-access in {1}"])
    .walk(TRACE),
    Shape::new(Class::Bug, "kernel BUG at {rest}", "kernel BUG in {2}")
        // The caller handed a bad buffer over.
        .walk(POINTER.skip(&["^skb_"])),
];

const OTHER_BUG: &[Shape] = &[Shape::new(
    Class::Bug,
    "Kernel BUG {rest}",
    "kernel BUG {1}",
)];

const SLAB: &[Shape] = &[Shape::new(
    Class::BadPage,
    "BUG kmalloc-{*}: Object already free",
    "BUG: Object already free",
)];

const DIVIDE: &[Shape] =
    &[Shape::new(Class::Divide, "divide error: ", "divide error in {1}").walk(POINTER_ONLY)];

const DIVIDE_OLD: &[Shape] =
    &[Shape::new(Class::Divide, "divide_error: ", "divide error in {1}").walk(POINTER_ONLY)];

const OPCODE: &[Shape] = &[Shape::new(
    Class::InvalidOpcode,
    "invalid opcode: ",
    "invalid opcode in {1}",
)
.walk(POINTER_ONLY)];

const INT3: &[Shape] = &[Shape::new(Class::Int3, "int3: ", "int3 in {1}").walk(POINTER)];

const UBSAN: &[Shape] = &[
    Shape::new(Class::Ubsan, "UBSAN:", "UBSAN: undefined-behaviour in {1}")
        .whole("UBSAN: Undefined behaviour in")
        .walk(TRACE.skip(&["ubsan", "overflow"])),
    Shape::new(
        Class::Ubsan,
        "UBSAN: array-index-out-of-bounds in",
        "UBSAN: array-index-out-of-bounds in {1}",
    )
    .alt(&["bad-access in {1}"])
    .walk(TRACE.skip(&["ubsan", "overflow"])),
    Shape::new(Class::Ubsan, "UBSAN:", "UBSAN: {1} in {2}")
        .whole("UBSAN: {until} in")
        .walk(TRACE.skip(&["ubsan", "overflow"])),
];

const REBOOT: &[Shape] = &[Shape::new(
    Class::Reboot,
    "Booting the kernel",
    "unexpected kernel reboot",
)
.bare()];

const DEVICE: &[Shape] = &[Shape::new(
    Class::Other,
    "unregister_netdevice: waiting for {*} to become free",
    "unregister_netdevice: waiting for DEV to become free",
)
.bare()];

const CLOSE: &[Shape] = &[Shape::new(
    Class::BadPage,
    "VFS: Close: file count is 0",
    "VFS: Close: file count is zero (use-after-free)",
)
.bare()];

const INODES: &[Shape] = &[Shape::new(
    Class::BadPage,
    "VFS: Busy inodes after unmount",
    "VFS: Busy inodes after unmount (use-after-free)",
)
.bare()];

/// arm64's and arm's word for what x86 calls a bad access.
const INTERNAL: &[Shape] =
    &[
        Shape::new(Class::BadAccess, "Internal error:", "Internal error in {1}")
            .alt(&["bad-access in {1}"])
            .walk(POINTER),
    ];

const UNHANDLED: &[Shape] = &[Shape::new(
    Class::BadAccess,
    "Unhandled fault:",
    "Unhandled fault in {1}",
)
.alt(&["bad-access in {1}"])
.walk(POINTER)];

const ALIGNMENT: &[Shape] =
    &[Shape::new(Class::BadAccess, "Alignment trap:", "Alignment trap in {1}").walk(POINTER)];

const TRUSTY: &[Shape] = &[
    Shape::new(
        Class::Panic,
        "trusty: panic{*} ASSERT FAILED",
        "trusty: ASSERT FAILED: {1}",
    )
    .whole("trusty: panic ({*}):{? DEBUG|} ASSERT FAILED at ({*}): {some}")
    .bare(),
    Shape::new(
        Class::Panic,
        "trusty: panic{*} ASSERT FAILED{*}: {rest}",
        "trusty: ASSERT FAILED: {1}",
    )
    .lost(),
    Shape::new(Class::Panic, "trusty: panic", "trusty: panic: {1}")
        .whole("trusty: panic ({*}): {some}")
        .bare(),
];

const GO: &[Shape] = &[Shape::new(Class::Other, "fatal error:", "go runtime error").bare()];

const FAIL: &[Shape] = &[Shape::new(Class::Other, "SYZFAIL:{rest}", "SYZFAIL:{1}").bare()];

const FATAL: &[Shape] = &[Shape::new(Class::Other, "SYZFATAL:{rest}", "SYZFATAL:{1}")
    .alt(&["SYZFATAL"])
    .bare()];

const PROGRAM: &[Shape] = &[
    Shape::new(
        Class::Panic,
        "panic: Sentry detected {*} stuck task",
        "panic: Sentry detected stuck tasks",
    )
    .bare(),
    Shape::new(Class::Panic, "panic:{rest}", "panic:{1}").bare(),
];
