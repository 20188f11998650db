//! `BUG:`.

use crate::report::class::Class;
use crate::report::shape::{Family, POINTER, Pick, Shape, Step, TRACE, Walk};

const WRITTEN_BY_HAND: &[&str] = &[
    "ODEBUG:",
    "DEBUG:",
    "xlog_status:",
    "BUG: no syscalls can create resource",
];

/// What tag-based KASAN has between the fault and the access.
const TAG_CHECK: &[&str] = &["kernel_fault", "tag_check", "mem_abort", "^el1_", "^el1h_"];

/// Where memory KMSAN complains about came from.
const ORIGIN: Step = Step::Line("{Local variable |Uninit was created at:}");

const SKIP_USB: &[&str] = &[
    "alloc_skb",
    "usb_{submit_urb,start_wait_urb,bulk_msg,interrupt_msg,control_msg}",
];

/// Encryption is where uninitialised data shows, not where it comes from.
const SKIP_MESSAGES: &[&str] = &[
    "alloc_skb",
    "netlink_{ack,rcv_skb}",
    "_encrypt$",
    "^{crypto,cipher,drbg,rng}_",
];

pub(super) const BUG: Family = Family::new(
    "BUG:",
    Class::Other,
    &[
        Shape::new(Class::Sanitizer, "BUG: KASAN:", "KASAN: {1} {3} in {4}")
            .whole("BUG: KASAN: {kebab} in {func}{line}{Read|Write} {?of size|at addr} {hex}")
            .alt(&["bad-access in {4}"])
            .walk(
                Walk::new(&[
                    Step::Line("BUG: KASAN: {~kebab} in {func}"),
                    Step::Trace,
                    Step::Frames,
                ])
                .skip(TAG_CHECK),
            ),
        Shape::new(Class::Sanitizer, "BUG: KASAN:", "KASAN: invalid-free in {2}")
            .whole("BUG: KASAN: {?double-free or invalid-free|double-free|invalid-free} in {func}")
            .alt(&["invalid-free in {2}"])
            .walk(
                Walk::new(&[
                    Step::Line(
                        "BUG: KASAN: {?double-free or invalid-free|double-free|invalid-free} in {func}",
                    ),
                    Step::Trace,
                    Step::Frames,
                ])
                .skip(&["slab_", "kfree", "vunmap", "vfree"]),
            ),
        Shape::new(
            Class::Sanitizer,
            "BUG: KASAN: {kebab} on address{line}{Read|Write} of size {num}",
            "KASAN: {1} {2}",
        ),
        Shape::new(Class::Sanitizer, "BUG: KASAN: {rest}", "KASAN: {1}").lost(),
        Shape::new(
            Class::Sanitizer,
            "BUG: KMSAN: kernel-usb-infoleak",
            "KMSAN: kernel-usb-infoleak in {2}",
        )
        .whole("BUG: KMSAN: kernel-usb-infoleak in {func}")
        .alt(&["KMSAN origin in {3}"])
        .walk(Walk::new(&[Step::Frames, ORIGIN, Step::Frames]).skip(SKIP_USB))
        .bare(),
        Shape::new(Class::Sanitizer, "BUG: KMSAN:", "KMSAN: {1} in {3}")
            .whole("BUG: KMSAN: {kebab} in {func}")
            .alt(&["bad-access in {3}"])
            .walk(Walk::new(&[Step::Frames, ORIGIN, Step::Frames]).skip(SKIP_MESSAGES))
            .bare(),
        Shape::new(Class::Sanitizer, "BUG: KCSAN:", "KCSAN: {1}")
            .whole("BUG: KCSAN: {rest}")
            .bare(),
        Shape::new(
            Class::Kfence,
            "BUG: KFENCE: {use-after-free|out-of-bounds} {read|write} in {func}",
            "KFENCE: {1} {2} in {4}",
        )
        .alt(&["bad-access in {4}"])
        .walk(KFENCE),
        Shape::new(
            Class::Kfence,
            "BUG: KFENCE: invalid free in {func}",
            "KFENCE: invalid free in {2}",
        )
        .alt(&["invalid-free in {2}"])
        .walk(KFENCE)
        .bare(),
        Shape::new(
            Class::Kfence,
            "BUG: KFENCE: invalid {read|write} in {func}",
            "KFENCE: invalid {1} in {3}",
        )
        .alt(&["bad-access in {3}"])
        .walk(KFENCE),
        Shape::new(
            Class::Kfence,
            "BUG: KFENCE: memory corruption in {func}",
            "KFENCE: memory corruption in {2}",
        )
        .walk(KFENCE)
        .bare(),
        Shape::new(
            Class::BadAccess,
            "BUG: {?unable to handle kernel paging request|unable to handle page fault for address|Unable to handle kernel data access}",
            "BUG: unable to handle kernel paging request in {1}",
        )
        .alt(&["bad-access in {1}"])
        .walk(POINTER),
        Shape::new(
            Class::NullDeref,
            "BUG: {?unable to handle kernel NULL pointer dereference|kernel NULL pointer dereference|Kernel NULL pointer dereference}",
            "BUG: unable to handle kernel NULL pointer dereference in {1}",
        )
        .alt(&["bad-access in {1}"])
        .walk(POINTER),
        // Older kernels print this line in two goes; the second got lost.
        Shape::new(
            Class::BadAccess,
            "BUG: {?unable to handle kernel|Unable to handle kernel}",
            "BUG: unable to handle kernel",
        )
        .lost(),
        Shape::new(
            Class::Locking,
            "BUG: {spinlock|rwlock} {lockup suspected|already unlocked|recursion|cpu recursion|bad magic|wrong owner|wrong CPU|trylock failure on UP}",
            "BUG: {1} {2} in {3}",
        )
        .walk(TRACE.skip(&["spin_", "_lock", "_unlock"])),
        Shape::new(Class::SoftLockup, "BUG: soft lockup", "BUG: soft lockup in {1}")
            .alt(&["stall in {1}"])
            .walk(POINTER.pick(Pick::Stall)),
        Shape::new(
            Class::Locking,
            "BUG: {*}still has locks held!",
            "BUG: still has locks held in {1}",
        )
        .whole("BUG: {*}still has locks held!{line}{pc}{func}"),
        Shape::new(
            Class::AtomicSleep,
            "BUG: scheduling while atomic",
            "BUG: scheduling while atomic in {1}",
        )
        .walk(TRACE.skip(&["schedule"])),
        Shape::new(
            Class::Locking,
            "BUG: lock held when returning to user space",
            "BUG: lock held when returning to user space in {1}",
        )
        .whole(
            "BUG: lock held when returning to user space{line}leaving the kernel with locks still held{line}at: {pc?}{func}",
        )
        .bare(),
        Shape::new(
            Class::Locking,
            "BUG: bad unlock balance detected!",
            "BUG: bad unlock balance in {1}",
        )
        .walk(Walk::new(&[
            Step::Line("{pc}{func}"),
            Step::Trace,
            Step::Frames,
        ])),
        Shape::new(
            Class::Locking,
            "BUG: held lock freed!",
            "BUG: held lock freed in {1}",
        )
        .whole("BUG: held lock freed!{line}{pc}{func}"),
        Shape::new(
            Class::BadPage,
            "BUG: Bad rss-counter state",
            "BUG: Bad rss-counter state",
        )
        .bare(),
        Shape::new(
            Class::BadPage,
            "BUG: non-zero nr_ptes on freeing mm",
            "BUG: non-zero nr_ptes on freeing mm",
        )
        .bare(),
        Shape::new(
            Class::BadPage,
            "BUG: non-zero nr_pmds on freeing mm",
            "BUG: non-zero nr_pmds on freeing mm",
        )
        .bare(),
        // The device and the file system are chance.
        Shape::new(
            Class::BadPage,
            "BUG: Dentry {*} still in use",
            "BUG: Dentry still in use in {1}",
        )
        .whole("BUG: Dentry {*} still in use ({num}) [{unmount} of {until}]")
        .alt(&["BUG: Dentry still in use [{1} of {2}]"]),
        Shape::new(
            Class::BadPage,
            "BUG: Bad page {state|cache}",
            "BUG: Bad page {1} in {2}",
        )
        // Who let the page go wrong is not on the stack that noticed; who owned it may be.
        .walk(
            Walk::new(&[Step::Line("page last allocated"), Step::Frames]).skip(&[
                "{free,put,get,update,release}_page",
                "free_unref",
                "^{,_,__}folio",
                "truncate_inode_pages",
                "page_frag_free",
                "alloc",
                "vmap",
                "page_owner",
            ]),
        ),
        Shape::new(Class::BadPage, "BUG: Bad page map", "BUG: Bad page map"),
        Shape::new(
            Class::WorkqueueLockup,
            "BUG: workqueue lockup",
            "BUG: workqueue lockup",
        )
        .bare(),
        Shape::new(
            Class::AtomicSleep,
            "BUG: sleeping function called from invalid context at {rest}",
            "BUG: sleeping function called from invalid context in {2}",
        )
        .walk(TRACE),
        Shape::new(
            Class::Locking,
            "BUG: using {word}() in preemptible",
            "BUG: using {1}() in preemptible code in {2}",
        )
        .walk(TRACE.skip(&[
            "dump_stack",
            "preempt",
            "debug_",
            "processor_id",
            "this_cpu",
        ])),
        Shape::new(
            Class::Locking,
            "BUG: workqueue leaked lock or atomic",
            "BUG: workqueue leaked lock or atomic in {1}",
        )
        .whole("BUG: workqueue leaked lock or atomic{line}last function: {name}{blank}")
        .bare(),
        Shape::new(Class::Leak, "BUG: memory leak", "memory leak in {1}").walk(
            Walk::new(&[Step::Line("backtrace{? (crc |:}"), Step::Frames]).skip(&[
                "kmemleak",
                "mmap",
                "kmem",
                "slab",
                "alloc",
                "create_object",
                "idr_get",
                "list_lru_init",
                "{kas,kvas}printf",
                "pcpu_create",
                "{str,strn,mem}dup",
            ]),
        ),
        Shape::new(
            Class::StackOverflow,
            "BUG: {*}stack guard page was hit at",
            "BUG: stack guard page was hit in {1}",
        )
        .alt(&["stack-overflow in {1}"])
        .walk(POINTER.pick(Pick::Stall)),
        // arm's words for what x86 says as a WARNING.
        Shape::new(
            Class::Locking,
            "BUG: Invalid wait context",
            "WARNING: locking bug in {1}",
        )
        .walk(TRACE.skip(&["lock_sock", "release_sock"])),
        Shape::new(Class::Other, "BUG:{blank}", "BUG: corrupted").lost(),
    ],
)
.unless(WRITTEN_BY_HAND);

const KFENCE: Walk = Walk::new(&[Step::Line("BUG: KFENCE: {*} in {func}"), Step::Frames]);
