// SPDX-License-Identifier: GPL-2.0-only
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

/* kthreadd sleeps in the function it began in: it never leaves the old one. */
static int lab_kthreadd(void *unused)
{
	return 0;
}

static struct klp_func functions[] = {
	{ .old_name = "kthreadd", .new_func = lab_kthreadd },
	{ }
};

static struct klp_object objects[] = {
	{ .funcs = functions },
	{ }
};

static struct klp_patch livepatch = {
	.mod = THIS_MODULE,
	.objs = objects,
	.replace = true,
};

static int __init lab_init(void)
{
	return klp_enable_patch(&livepatch);
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
