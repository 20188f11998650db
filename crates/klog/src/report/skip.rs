//! Functions that are where a bug shows and not where it is, by family.
//!
//! A name of a common helper would throw unlike bugs together and tear one bug apart. Which names
//! are passed over decides what a report is called; the choice is that of the public corpus of
//! kernel reports, so that two tools name a bug alike.

use std::sync::LazyLock;

use super::names::Names;

/// What every walk passes over.
pub(super) static ALWAYS: LazyLock<Names> = LazyLock::new(|| {
    Names::new(&[
        DETECTORS, TRAPS, ALLOCATORS, PAGE_CACHE, LOCKS, COUNTERS, MEMORY, LISTS, TEXT, DEFERRED,
        DEVICES,
    ])
});

/// Sanitizers, debug checks, and what prints a report.
const DETECTORS: &[&str] = &[
    "__sanitizer",
    "__{asan,msan}",
    "{kasan,hwasan,kmsan}",
    "kcsan_setup_watchpoint",
    "check_{memory_region,heap_object,object}",
    "read_word_at_a_time",
    "{read,write}_once_*nocheck",
    "print_{address_description,report,usage_bug,unlock,tainted}",
    "panic",
    "report_bug",
    "{show,dump,walk}_stack",
    "dump_backtrace",
    "warn_{slowpath,alloc,bogus}",
    "__warn",
    "debug_object",
    "{timer,work}_is_static_object",
    "imbalance_bug",
    "stack_trace_{consume_entry,save}",
    "arch_stack_walk",
    "assertfail",
    "__fortify_report",
    "^get_taint$",
    "perf_trace",
    "hex_dump_to_buffer",
    "print_hex_dump",
];

/// From the fault to its report.
const TRAPS: &[&str] = &[
    "invalid_op",
    "fixup_bug",
    "do_{error,trap,mem_abort,kernel_fault,translation_fault}",
    "_trap$",
    "_indirect_thunk_",
    "program_check_{exception,common}",
    "el1_abort",
    "el1h_64_sync",
    "__phys_addr",
];

const ALLOCATORS: &[&str] = &[
    "alloc_page",
    "{m,z,c}alloc",
    "krealloc",
    "kmem_cache",
    "allocate_slab",
    "__alloc_frozen_pages_noprof",
    "folio_alloc",
    "slab_",
    "ida_free",
    "^{k,kv}free$",
    "kfree_skb",
];

const PAGE_CACHE: &[&str] = &[
    "folio_unlock",
    "filemap_alloc_folio",
    "__filemap_get_folio",
    "find_or_create_page",
    "do_read_cache_folio",
    "read_cache_page",
    "pagecache_get_page",
    "grab_cache_page_write_begin",
    "^{,un}lock_page",
    "xas_{start,load,find}",
    "find_lock_entries",
    "truncate_inode_pages_range",
    "mark_buffer_dirty",
];

const LOCKS: &[&str] = &[
    "lockdep",
    "lock_{acquire,release,class,timer_base}",
    "mark_lock",
    "{reacquire,mark}_held_locks",
    "bh_{enable,disable}",
    "raw_spin_rq",
    "{spin,read,write}_{lock,trylock,unlock}",
    "^down$",
    "{down,up}_{read,write}",
    "down_trylock",
    "^{,__,rt_}mutex_",
    "owner_on_cpu",
    "osq_{lock,unlock}",
    "__wake_up",
    "finish_wait",
    "might_{fault,sleep}",
    "__might_resched",
    "seqprop_assert",
    "trace_{hard,soft}irq",
    "^complete$",
    "wait_for_completion",
    "cleanup_srcu_struct",
];

const COUNTERS: &[&str] = &[
    "atomic{,64}_{dec,inc,read,set,or,xor,and,add,sub,fetch,xchg,cmpxchg,try}",
    "{set,clear,change,test}_bit",
    "^{refcount,kref}_",
    "ref_tracker",
    "drop_nlink",
    "^{iput,iput_final,ihold}$",
    "dput",
    "^put_device$",
];

/// Copying, filling and comparing, in the kernel and across its border.
const MEMORY: &[&str] = &[
    "mem{cpy,cmp,set,chr,move,dup}",
    "str{cmp,ncmp,cpy,lcpy,ncpy,scpy,len,str,nstr,nlen,chr,dup,ndup}",
    "copy_{to,from}_{user,iter}",
    "copy_page_{to,from}_iter",
    "copy_folio_to_iter",
    "^copy{in,out}$",
    "{put,get}_user",
    "extract_{user,iter}_to_sg",
    "^crc#",
    "crc_itu_t",
    "{read,write}{b,w,l,q}$",
    "logic_{in,out}",
];

const LISTS: &[&str] = &[
    "list_{add,del,replace,move,splice}",
    "^{,__}rb_",
    "^klist_",
    "rhashtable_lookup",
];

/// Formatting and printing.
const TEXT: &[&str] = &[
    "string",
    "pointer",
    "{sn,scn}printf",
    "{kas,kvas}printf",
    "printk",
    "va_format",
    "dev_{info,notice,warn,err,alert,crit,emerg}",
];

/// What writes text for files of `/proc` and `/sys`. No part of [`ALWAYS`]: a report is called after
/// it, but what it chokes on was handed to it.
const FILE_TEXT: &[&str] = &[
    "^{,__}seq_{puts,printf,vprintf,write,putc,escape,escape_mem,pad,path}$",
    "^seq_put_{decimal,hex}",
    "^sysfs_emit",
];

static HANDED: LazyLock<Names> = LazyLock::new(|| Names::new(&[MEMORY, TEXT, FILE_TEXT]));

/// Tells whether a function does nothing but copy, compare, format or print what it is handed.
pub(crate) fn is_handed_all(function: &str) -> bool {
    HANDED.has(function.as_bytes())
}

static WAITS: LazyLock<Names> = LazyLock::new(|| Names::new(&[LOCKS]));

/// Tells whether a function takes, keeps or leaves a lock.
pub(crate) fn is_lock(function: &str) -> bool {
    WAITS.has(function.as_bytes())
}

/// Timers and work items.
const DEFERRED: &[&str] = &[
    "del_timer",
    "__{timer_delete_sync,mod_timer,cancel_work_timer}",
    "sk_stop_timer_sync",
    "flush_{work,workqueue}",
    "{drain,destroy}_workqueue",
    "cancel_work_sync",
    "try_to_grab_pending",
    "queue_{work,delayed_work_on}",
    "__queue_delayed_work",
    "insert_work",
    "kthread_stop",
];

/// What every driver goes through as its device comes and goes.
const DEVICES: &[&str] = &[
    "kobject_",
    "add_uevent_var",
    "get_device_parent",
    "device_{add,del,unregister,destroy,release,for_each_child,remove_file}",
    "devres_release_all",
    "hwrng_unregister",
    "i2c_del_adapter",
    "__unregister_client",
    "rollback_registered",
    "unregister_netdev",
    "sysfs_remove",
    "tty_unregister_device",
    "dummy_urb_enqueue",
    "usb_kill_{urb,anchored_urbs}",
    "usb_control_msg",
    "usb_{hcd_,}submit_urb",
];

/// What the stall rule stops at: the function above one of these is what loops.
pub(super) static ANCHORS: LazyLock<Names> = LazyLock::new(|| {
    Names::new(&[&[
        // What runs work, interrupts and threads.
        "process_one_work",
        "netif_receive_skb",
        "do_softirq",
        "call_timer_fn",
        "_run_timers",
        "run_{timer_softirq,ksoftirqd}",
        "hrtimer_run",
        "tasklet_{action,hi_action}",
        "smpboot_thread_fn",
        "^kthread$",
        "start_secondary",
        "cpu_startup_entry",
        "ret_from_fork",
        "smp_call_function",
        "task_work_run",
        "exit_to_usermode",
        // System call entry.
        "do_{syscall_,fast_syscall_}",
        "sysenter_dispatch",
        "tracesys_phase2",
        "el0_svc_handler",
        "invoke_syscall",
        "ret_fast_syscall",
        // Calls that do unlike things behind one name: the function above says which.
        "vfs_{write,read,iter_read,iter_write,ioctl,open}",
        "do_iter_{read,write}",
        "call_{read,write}_iter",
        "new_sync_{read,write}",
        "{ksys,compat,compat_sys,blkdev,blkdev_driver}_ioctl",
        "^call_mmap",
        "mmap_region",
        "do_{mmap,dentry_open}",
        "__fput",
        "^sock_{sendmsg,recvmsg,release,mmap,do_ioctl,ioctl}",
        "^__sock_release",
        "^compat_sock_ioctl",
        "^{setsockopt,listen,accept}$",
        "kernel_{setsockopt,listen,accept}",
        "sock_common_setsockopt",
        "sk_common_release",
        "^{nfnetlink,rtnetlink}_rcv_msg",
        "^netlink_dump",
        "^{,sys_}{socketpair,connect,ioctl}",
        // Page faults.
        "__do_fault",
        "do_page_fault",
        "^page_fault$",
    ]])
});

/// Where hung tasks wait and nothing is known of why.
pub(super) static WAITING: LazyLock<Names> = LazyLock::new(|| {
    Names::new(&[&[
        "sched",
        "_lock",
        "_slowlock",
        "down",
        "rwsem",
        "completion",
        "kthread",
        "wait",
        "synchronize",
        "context_switch",
        "__switch_to",
        "cancel_delayed_work",
        "rcu_barrier",
    ]])
});

/// What a system call's name can start with, by architecture and age.
pub(super) const CALL_PREFIXES: &[&str] = &[
    "SYSC_",
    "SyS_",
    "sys_",
    "__x64_",
    "__ia32_",
    "__arm64_",
    "____sys_",
    "___sys_",
    "__sys_",
    "__se_",
    "__se_sys_",
    "__do_sys_",
    "compat_SYSC_",
    "compat_SyS_",
    "ksys_",
];
