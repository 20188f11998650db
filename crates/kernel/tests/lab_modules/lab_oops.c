// SPDX-License-Identifier: GPL-2.0-only
#include <linux/compiler.h>
#include <linux/kernel.h>
#include <linux/module.h>

static int *nowhere;

static int __init lab_init(void)
{
	WRITE_ONCE(*READ_ONCE(nowhere), 1);
	return 0;
}

static void __exit lab_exit(void)
{
}

module_init(lab_init);
module_exit(lab_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_INFO(tuxtape_objects, "vmlinux");
MODULE_DESCRIPTION("TuxTape boot lab test");
