/* SPDX-License-Identifier: GPL-2.0-only */
#include <linux/livepatch.h>
#include <linux/module.h>

/* The end of every module here, behind its lab_init(). It says that it patches OBJECT. */
#define LAB_MODULE(object)						\
	static void __exit lab_exit(void)				\
	{								\
	}								\
	module_init(lab_init);						\
	module_exit(lab_exit);						\
	MODULE_LICENSE("GPL");						\
	MODULE_INFO(livepatch, "Y");					\
	MODULE_INFO(tuxtape_objects, object);				\
	MODULE_DESCRIPTION("TuxTape boot lab test")

/* A whole livepatch: NEW instead of OLD in OBJECT, which the kernel calls KERNEL_NAME (NULL for vmlinux). */
#define LAB_LIVEPATCH(object, kernel_name, old, new)			\
	static struct klp_func functions[] = {				\
		{ .old_name = old, .new_func = new },			\
		{ }							\
	};								\
	static struct klp_object objects[] = {				\
		{ .name = kernel_name, .funcs = functions },		\
		{ }							\
	};								\
	static struct klp_patch livepatch = {				\
		.mod = THIS_MODULE,					\
		.objs = objects,					\
		.replace = true,					\
	};								\
	static int __init lab_init(void)				\
	{								\
		return klp_enable_patch(&livepatch);			\
	}								\
	LAB_MODULE(object)
