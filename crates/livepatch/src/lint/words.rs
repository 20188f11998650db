//! Functions of the kernel that the rules know by name.
//!
//! Names are those of the symbol table, so of what the inline helpers of the headers end up calling:
//! `spin_lock` is `_raw_spin_lock`, `kfree_rcu` is `kvfree_call_rcu`. Sources: `include/linux/spinlock_api_smp.h`,
//! `mutex.h`, `rwsem.h`, `rcupdate.h`, `srcu.h`, `completion.h`, `refcount.h`, `wait.h`, `sched.h`.

/// Taking, giving back or waiting for something that others share.
pub(super) fn is_lock(name: &str) -> bool {
    const STARTS: [&str; 36] = [
        "_raw_spin_",
        "_raw_read_",
        "_raw_write_",
        "__raw_spin_",
        "queued_spin_",
        "queued_read_",
        "queued_write_",
        "mutex_lock",
        "mutex_unlock",
        "mutex_trylock",
        "ww_mutex_",
        "rt_mutex_",
        "down",
        "up_read",
        "up_write",
        "percpu_down",
        "percpu_up",
        "__rcu_read_",
        "rcu_read_",
        "__srcu_read_",
        "synchronize_",
        "call_rcu",
        "call_srcu",
        "kvfree_call_rcu",
        "refcount_",
        "kref_",
        "complete",
        "wait_for_completion",
        "lock_sock",
        "__lock_sock",
        "release_sock",
        "__release_sock",
        "rtnl_lock",
        "rtnl_unlock",
        "__local_bh_",
        "preempt_count_",
    ];
    const WHOLE: [&str; 34] = [
        "up",
        "fput",
        "fget",
        "dput",
        "dget",
        "iput",
        "ihold",
        "igrab",
        "mntget",
        "mntput",
        "path_get",
        "path_put",
        "get_device",
        "put_device",
        "kobject_get",
        "kobject_put",
        "module_put",
        "try_module_get",
        "__module_get",
        "of_node_get",
        "of_node_put",
        "fwnode_handle_get",
        "fwnode_handle_put",
        "get_task_mm",
        "mmput",
        "put_pid",
        "__put_task_struct",
        "put_cred_rcu",
        "__put_cred",
        "dst_release",
        "sk_free",
        "netdev_put",
        "pci_dev_get",
        "pci_dev_put",
    ];
    let own = name.starts_with("downgrade_write") || !name.starts_with("downgrade");
    own && (WHOLE.contains(&name) || STARTS.iter().any(|start| name.starts_with(start)))
}

/// Functions in which the caller may be put to sleep.
pub(super) fn may_sleep(name: &str) -> bool {
    const STARTS: [&str; 17] = [
        "schedule",
        "io_schedule",
        "wait_for_completion",
        "wait_on_",
        "__wait_on_",
        "prepare_to_wait",
        "synchronize_",
        "rcu_barrier",
        "flush_work",
        "flush_delayed_work",
        "__flush_workqueue",
        "msleep",
        "usleep_range",
        "mutex_lock",
        "percpu_down_",
        "lock_sock",
        "copy_from_user",
    ];
    const WHOLE: [&str; 24] = [
        "__cond_resched",
        "__might_sleep",
        "__might_fault",
        "might_fault",
        "down",
        "down_interruptible",
        "down_killable",
        "down_timeout",
        "down_read",
        "down_read_interruptible",
        "down_read_killable",
        "down_write",
        "down_write_killable",
        "_copy_from_user",
        "_copy_to_user",
        "cancel_work_sync",
        "cancel_delayed_work_sync",
        "del_timer_sync_and_wait",
        "kthread_stop",
        "vmalloc",
        "vzalloc",
        "rtnl_lock",
        "request_firmware",
        "free_irq",
    ];
    // These only wake others, or are asked without waiting.
    const NOT: [&str; 5] = [
        "schedule_work",
        "schedule_delayed_work",
        "schedule_hrtimeout_handler",
        "synchronize_hardirq",
        "schedule_page_work_fn",
    ];
    !NOT.iter().any(|start| name.starts_with(start))
        && (WHOLE.contains(&name) || STARTS.iter().any(|start| name.starts_with(start)))
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
        ] {
            assert!(is_lock(name), "{name}");
        }
        for name in ["update_rq_clock", "downgrade_path", "upcase", "complex"] {
            assert!(!is_lock(name), "{name}");
        }
        for name in ["schedule_timeout", "mutex_lock_killable", "synchronize_net"] {
            assert!(may_sleep(name), "{name}");
        }
        for name in [
            "schedule_work",
            "schedule_delayed_work_on",
            "down_trylock",
            "mutex_trylock",
        ] {
            assert!(!may_sleep(name), "{name}");
        }
        assert!(is_permission("security_file_open"));
        assert!(!is_permission("securityfs_create_dir"));
    }
}
