//! Livepatches that do harm, each in its own way, as fixes of the kernel's own files.
//!
//! What they put in is ours; what they lead from is read from the kernel's source as the test runs.

use std::fs;
use std::path::PathBuf;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

use super::setup::Lab;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Misbehaviour {
    /// Name of its module.
    pub(crate) name: &'static str,
    /// The file it changes, below the kernel's source.
    file: &'static str,
    /// What stands there, once, and what is put in its place.
    places: &'static [(&'static str, &'static str)],
    /// The function it patches.
    pub(crate) function: &'static str,
    /// What makes it do harm in a guest.
    pub(crate) trigger: &'static str,
}

/// Changes what a file says and does no harm.
pub(crate) const INNOCENT: Misbehaviour = Misbehaviour {
    name: "lab_innocent",
    file: "fs/proc/cmdline.c",
    places: &[(
        "\tseq_puts(m, saved_command_line);",
        "\tseq_puts(m, \"tuxtape lab was here\");",
    )],
    function: "cmdline_proc_show",
    trigger: "cat /proc/cmdline",
};

/// Warns in the patched function.
pub(crate) const WARNS: Misbehaviour = Misbehaviour {
    name: "lab_warns",
    file: "fs/proc/version.c",
    places: &[(
        "\tseq_printf(m, linux_proc_banner,",
        "\tWARN_ON(!m->private);\n\tseq_printf(m, linux_proc_banner,",
    )],
    function: "version_proc_show",
    trigger: "cat /proc/version",
};

/// Warns in a new function that the patched one calls.
pub(crate) const WARNS_BELOW: Misbehaviour = Misbehaviour {
    name: "lab_warns_below",
    file: "drivers/char/mem.c",
    places: &[
        (
            "static ssize_t write_full(",
            "static noinline void lab_check(struct file *file)\n{\n\
             \tWARN_ON(!file->private_data);\n}\n\nstatic ssize_t write_full(",
        ),
        ("\treturn -ENOSPC;", "\tlab_check(file);\n\treturn -ENOSPC;"),
    ],
    function: "write_full",
    trigger: "echo >/dev/full",
};

/// Sleeps where it must not.
pub(crate) const SLEEPS: Misbehaviour = Misbehaviour {
    name: "lab_sleeps",
    file: "fs/proc/softirqs.c",
    places: &[
        (
            "#include <linux/seq_file.h>",
            "#include <linux/sched.h>\n#include <linux/seq_file.h>",
        ),
        (
            "\tseq_puts(p, \"                    \");",
            "\tpreempt_disable();\n\tschedule_timeout_uninterruptible(1);\n\
             \tseq_puts(p, \"                    \");",
        ),
    ],
    function: "show_softirqs",
    trigger: "cat /proc/softirqs",
};

/// Leaves preemption off behind it: the complaint comes later, from somewhere else.
pub(crate) const LEAKS: Misbehaviour = Misbehaviour {
    name: "lab_leaks",
    file: "fs/filesystems.c",
    places: &[(
        "static int filesystems_proc_show(struct seq_file *m, void *v)\n{\n\
         \tstruct file_system_type * tmp;\n",
        "static int filesystems_proc_show(struct seq_file *m, void *v)\n{\n\
         \tstruct file_system_type * tmp;\n\n\tpreempt_disable();\n",
    )],
    function: "filesystems_proc_show",
    trigger: "cat /proc/filesystems",
};

/// Waits for what never comes.
pub(crate) const HANGS: Misbehaviour = Misbehaviour {
    name: "lab_hangs",
    file: "fs/proc/meminfo.c",
    places: &[
        (
            "#include <linux/seq_file.h>",
            "#include <linux/completion.h>\n#include <linux/seq_file.h>",
        ),
        (
            "\tsi_meminfo(&i);",
            "\t{\n\t\tDECLARE_COMPLETION_ONSTACK(never);\n\n\t\twait_for_completion(&never);\n\t}\n\
             \tsi_meminfo(&i);",
        ),
    ],
    function: "meminfo_proc_show",
    trigger: "cat /proc/meminfo",
};

/// Takes a spinlock it holds.
pub(crate) const DEADLOCKS: Misbehaviour = Misbehaviour {
    name: "lab_deadlocks",
    file: "fs/proc/devices.c",
    places: &[
        (
            "static int devinfo_show(",
            "static DEFINE_SPINLOCK(lab_lock);\n\nstatic int devinfo_show(",
        ),
        (
            "\tint i = *(loff_t *) v;\n",
            "\tint i = *(loff_t *) v;\n\n\tspin_lock(&lab_lock);\n\tspin_lock(&lab_lock);\n",
        ),
    ],
    function: "devinfo_show",
    trigger: "cat /proc/devices",
};

/// Writes through a null pointer.
pub(crate) const OOPSES: Misbehaviour = Misbehaviour {
    name: "lab_oopses",
    file: "fs/proc/version.c",
    places: &[(
        "\tseq_printf(m, linux_proc_banner,",
        "\tWRITE_ONCE(*(int *)m->private, 1);\n\tseq_printf(m, linux_proc_banner,",
    )],
    function: "version_proc_show",
    trigger: "cat /proc/version",
};

/// Has a null pointer printed: the fault is in what reads the text.
pub(crate) const OOPSES_IN_TEXT: Misbehaviour = Misbehaviour {
    name: "lab_oopses_in_text",
    file: "fs/proc/version.c",
    places: &[(
        "\tseq_printf(m, linux_proc_banner,",
        "\tseq_puts(m, m->private);\n\tseq_printf(m, linux_proc_banner,",
    )],
    function: "version_proc_show",
    trigger: "cat /proc/version",
};

/// Gives a null pointer to a function of the kernel's core.
pub(crate) const OOPSES_BELOW: Misbehaviour = Misbehaviour {
    name: "lab_oopses_below",
    file: "fs/proc/softirqs.c",
    places: &[
        (
            "#include <linux/seq_file.h>",
            "#include <linux/file.h>\n#include <linux/seq_file.h>",
        ),
        (
            "\tseq_puts(p, \"                    \");",
            "\tfput(p->private);\n\tseq_puts(p, \"                    \");",
        ),
    ],
    function: "show_softirqs",
    trigger: "cat /proc/softirqs",
};

impl Misbehaviour {
    /// Builds its module; returns the file.
    pub(crate) fn build(&self, lab: &Lab) -> PathBuf {
        let fix = lab.fix_places(self.name, self.file, self.places);
        lab.built(&[&fix], self.name).0
    }

    /// Builds its module as one that leaves other livepatches in force.
    ///
    /// Ours take the place of all others; several at once are what other makers' come to.
    pub(crate) fn build_beside(&self, lab: &Lab) -> PathBuf {
        let module = self.build(lab);
        let mut bytes = fs::read(&module).unwrap();
        let at = {
            let file = object::File::parse(bytes.as_slice()).unwrap();
            let patch = file
                .symbols()
                .find(|symbol| symbol.name() == Ok("tuxtape_patch"))
                .unwrap();
            let section = file
                .section_by_index(patch.section_index().unwrap())
                .unwrap();
            let (start, _) = section.file_range().unwrap();
            // `struct klp_patch`: module, objects, states, then `bool replace`.
            usize::try_from(start + patch.address()).unwrap() + 24
        };
        assert_eq!(bytes[at], 1, "{}: .replace is not there", self.name);
        bytes[at] = 0;
        fs::write(&module, bytes).unwrap();
        module
    }
}
