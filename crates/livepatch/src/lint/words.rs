//! Functions of the kernel that the rules know by name.
//!
//! Names are those of the symbol table, so of what the inline helpers of the headers end up calling:
//! `spin_lock` is `_raw_spin_lock`, `kfree_rcu` is `kvfree_call_rcu`. Whole names, because beginnings mislead:
//! `complete` wakes a waiter, `complete_walk` ends a path lookup. Sources: `include/linux/spinlock_api_smp.h`,
//! `mutex.h`, `rwsem.h`, `rcupdate.h`, `srcu.h`, `completion.h`, `refcount.h`, `wait.h`, `sched.h`. Some are of kernels with
//! other settings than Debian's (`preempt_count_add`, `__might_sleep`).

/// What a name may end with that says how long or in which state, and not what is done.
const MANNERS: [&str; 11] = [
    "_irqsave",
    "_irqrestore",
    "_irq",
    "_bh",
    "_nested",
    "_interruptible",
    "_killable",
    "_timeout",
    "_expedited",
    "_io",
    "_state",
];

/// The name without its manners: `down_read` for `down_read_killable`.
fn plain(name: &str) -> &str {
    let mut name = name;
    while let Some(rest) = MANNERS.iter().find_map(|end| name.strip_suffix(end)) {
        name = rest;
    }
    name
}

/// Taking, giving back or waiting for something that others share.
pub(super) fn is_lock(name: &str) -> bool {
    const PLAIN: [&str; 86] = [
        "__local_bh_enable_ip",
        "__lock_sock",
        "__lock_sock_fast",
        "__module_get",
        "__put_cred",
        "__put_task_struct",
        "__rcu_read_lock",
        "__rcu_read_unlock",
        "__release_sock",
        "__srcu_read_lock",
        "__srcu_read_unlock",
        "_raw_read_lock",
        "_raw_read_trylock",
        "_raw_read_unlock",
        "_raw_spin_lock",
        "_raw_spin_trylock",
        "_raw_spin_unlock",
        "_raw_write_lock",
        "_raw_write_trylock",
        "_raw_write_unlock",
        "call_rcu",
        "call_rcu_hurry",
        "call_rcu_tasks",
        "call_srcu",
        "complete",
        "complete_all",
        "down",
        "down_read",
        "down_read_trylock",
        "down_trylock",
        "down_write",
        "down_write_trylock",
        "downgrade_write",
        "dput",
        "dst_release",
        "fget",
        "fput",
        "fwnode_handle_get",
        "fwnode_handle_put",
        "get_device",
        "get_task_mm",
        "igrab",
        "ihold",
        "iput",
        "kobject_get",
        "kobject_put",
        "kvfree_call_rcu",
        "lock_sock",
        "mmput",
        "mntget",
        "mntput",
        "module_put",
        "mutex_lock",
        "mutex_trylock",
        "mutex_unlock",
        "of_node_get",
        "of_node_put",
        "path_get",
        "path_put",
        "pci_dev_get",
        "pci_dev_put",
        "percpu_down_write",
        "percpu_up_write",
        "preempt_count_add",
        "preempt_count_sub",
        "put_device",
        "put_pid",
        "refcount_dec_and_lock",
        "refcount_dec_and_mutex_lock",
        "refcount_dec_and_rtnl_lock",
        "refcount_dec_not_one",
        "refcount_warn_saturate",
        "release_sock",
        "rt_mutex_lock",
        "rt_mutex_unlock",
        "rtnl_lock",
        "rtnl_unlock",
        "sk_free",
        "try_module_get",
        "up",
        "up_read",
        "up_write",
        "wait_for_completion",
        "ww_mutex_lock",
        "ww_mutex_trylock",
        "ww_mutex_unlock",
    ];
    PLAIN.contains(&plain(name)) || is_grace_period(name)
}

/// Waiting for readers or for callbacks to end.
fn is_grace_period(name: &str) -> bool {
    const PLAIN: [&str; 9] = [
        "rcu_barrier",
        "rcu_barrier_tasks",
        "synchronize_irq",
        "synchronize_net",
        "synchronize_rcu",
        "synchronize_rcu_tasks",
        "synchronize_rcu_tasks_rude",
        "synchronize_shrinkers",
        "synchronize_srcu",
    ];
    PLAIN.contains(&plain(name))
}

/// Functions in which the caller may be put to sleep.
pub(super) fn may_sleep(name: &str) -> bool {
    const PLAIN: [&str; 39] = [
        "__cond_resched",
        "__flush_workqueue",
        "__lock_sock",
        "__might_fault",
        "__might_sleep",
        "__wait_on_bit",
        "__wait_on_bit_lock",
        "__wait_on_buffer",
        "_copy_from_user",
        "_copy_to_user",
        "cancel_delayed_work_sync",
        "cancel_work_sync",
        "down",
        "down_read",
        "down_write",
        "flush_delayed_work",
        "flush_work",
        "free_irq",
        "io_schedule",
        "kthread_stop",
        "lock_sock",
        "msleep",
        "mutex_lock",
        "percpu_down_write",
        "prepare_to_wait",
        "prepare_to_wait_event",
        "prepare_to_wait_exclusive",
        "request_firmware",
        "rt_mutex_lock",
        "rtnl_lock",
        "schedule",
        "schedule_hrtimeout",
        "schedule_hrtimeout_range",
        "usleep_range",
        "vmalloc",
        "vzalloc",
        "wait_for_completion",
        "wait_on_page_writeback",
        "ww_mutex_lock",
    ];
    name == "schedule_timeout_uninterruptible"
        || PLAIN.contains(&plain(name))
        || is_grace_period(name)
}

/// Giving the processor away, as a thread does in its loop.
pub(super) fn gives_way(name: &str) -> bool {
    const WHOLE: [&str; 10] = [
        "schedule",
        "schedule_timeout",
        "schedule_timeout_interruptible",
        "schedule_timeout_uninterruptible",
        "schedule_timeout_killable",
        "io_schedule",
        "io_schedule_timeout",
        "schedule_hrtimeout",
        "schedule_hrtimeout_range",
        "kthread_worker_fn",
    ];
    WHOLE.contains(&name)
}

/// Checks of who may do what.
pub(super) fn is_permission(name: &str) -> bool {
    const WHOLE: [&str; 16] = [
        "capable",
        "ns_capable",
        "ns_capable_noaudit",
        "ns_capable_setid",
        "capable_wrt_inode_uidgid",
        "file_ns_capable",
        "has_capability",
        "has_ns_capability",
        "has_capability_noaudit",
        "inode_permission",
        "generic_permission",
        "may_open",
        "ptrace_may_access",
        "sk_capable",
        "sk_ns_capable",
        "netlink_capable",
    ];
    WHOLE.contains(&name) || name.starts_with("security_") || name.starts_with("netlink_ns_capable")
}

/// Functions that livepatching itself stands on, or that every task has on its stack.
pub(super) fn is_foundation(unit: &str, name: &str) -> bool {
    const UNITS: [&str; 16] = [
        "kernel/livepatch/",
        "kernel/trace/ftrace",
        "kernel/stop_machine",
        "kernel/kallsyms",
        "kernel/module",
        "kernel/smpboot",
        "kernel/kthread",
        "kernel/stacktrace",
        "kernel/sched/idle",
        "kernel/entry/",
        "arch/x86/kernel/unwind",
        "arch/x86/kernel/stacktrace",
        "arch/x86/kernel/ftrace",
        "arch/x86/kernel/alternative",
        "arch/x86/kernel/nmi",
        "arch/x86/kernel/module",
    ];
    const NAMES: [&str; 10] = [
        "schedule",
        "__schedule",
        "schedule_idle",
        "schedule_preempt_disabled",
        "preempt_schedule",
        "do_task_dead",
        "ret_from_fork",
        "worker_thread",
        "smpboot_thread_fn",
        "rcu_gp_kthread",
    ];
    NAMES.contains(&name) || UNITS.iter().any(|start| unit.starts_with(start))
}

/// Functions that run for nearly every packet, system call, page fault or wake-up.
pub(super) fn is_hot(name: &str) -> bool {
    const WHOLE: [&str; 28] = [
        "__netif_receive_skb_core",
        "__dev_queue_xmit",
        "dev_hard_start_xmit",
        "napi_gro_receive",
        "dev_gro_receive",
        "ip_rcv",
        "ip_output",
        "ip_queue_xmit",
        "tcp_v4_rcv",
        "tcp_rcv_established",
        "tcp_ack",
        "tcp_write_xmit",
        "tcp_sendmsg_locked",
        "tcp_recvmsg",
        "handle_mm_fault",
        "do_user_addr_fault",
        "filemap_map_pages",
        "do_anonymous_page",
        "get_page_from_freelist",
        "try_to_wake_up",
        "update_curr",
        "enqueue_task_fair",
        "vfs_read",
        "vfs_write",
        "link_path_walk",
        "do_sys_openat2",
        "ksys_read",
        "__x64_sys_futex",
    ];
    WHOLE.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_as_the_kernel_means_them() {
        for name in [
            "_raw_spin_lock_irqsave",
            "down_read",
            "up",
            "downgrade_write",
            "kvfree_call_rcu",
            "lock_sock_nested",
            "wait_for_completion_killable_timeout",
        ] {
            assert!(is_lock(name), "{name}");
        }
        for name in [
            "downed_cpus",
            "complete_walk",
            "complete_signal",
            "update_rq_clock",
        ] {
            assert!(!is_lock(name), "{name}");
        }
        for name in [
            "schedule_timeout",
            "schedule_timeout_uninterruptible",
            "mutex_lock_killable",
            "synchronize_net",
            "synchronize_rcu_expedited",
            "usleep_range_state",
        ] {
            assert!(may_sleep(name), "{name}");
        }
        for name in [
            "schedule_delayed_monitor_work",
            "copy_from_user_nofault",
            "down_trylock",
            "mutex_trylock",
            "synchronize_hardirq",
        ] {
            assert!(!may_sleep(name), "{name}");
        }
        assert!(is_permission("security_file_open"));
        assert!(!is_permission("securityfs_create_dir"));
    }
}
