// SPDX-License-Identifier: GPL-2.0-only
#include <linux/kernel.h>
#include <linux/seq_file.h>

#include "lab.h"

static int lab_show(struct seq_file *file, void *unused)
{
	WARN(1, "lab_warn was called\n");
	seq_puts(file, "tuxtape lab was here\n");
	return 0;
}

LAB_LIVEPATCH("vmlinux", NULL, "cmdline_proc_show", lab_show);
