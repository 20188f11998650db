// SPDX-License-Identifier: GPL-2.0-only
#include <linux/blkdev.h>
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

static int lab_pr_clear(struct block_device *disk, u64 key)
{
	return -EOPNOTSUPP;
}

static struct klp_func functions[] = {
	{ .old_name = "sd_pr_clear", .new_func = lab_pr_clear },
	{ }
};

static struct klp_object objects[] = {
	{ .name = "sd_mod", .funcs = functions },
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
MODULE_INFO(tuxtape_objects, "sd_mod");
MODULE_DESCRIPTION("TuxTape boot lab test");
