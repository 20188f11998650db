/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Macros for fixes that are written for a livepatch: the names of kpatch's
 * patch author guide, in TuxTape's own words.
 *
 * A callback becomes a global pointer, named as kernels from 6.19 on name
 * theirs, and by the object that the file is part of. It is new and global, so
 * it travels; the module's init function hands it to the livepatch core.
 */
#ifndef TUXTAPE_KPATCH_MACROS_H
#define TUXTAPE_KPATCH_MACROS_H

#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/jiffies.h>
#include <linux/livepatch.h>
#include <linux/printk.h>

#include "kpatch-syscall.h"

typedef struct klp_object patch_object;

#ifdef MODULE
#define TUXTAPE_OBJECT __KBUILD_MODNAME
#else
#define TUXTAPE_OBJECT vmlinux
#endif

#define TUXTAPE_CALLBACK(name, type, fn)				\
	extern type (*const name)(patch_object *);			\
	type (*const name)(patch_object *) __used = fn;

#define KPATCH_PRE_PATCH_CALLBACK(fn)					\
	TUXTAPE_CALLBACK(__PASTE(__klp_pre_patch_callback_, TUXTAPE_OBJECT), int, fn)
#define KPATCH_POST_PATCH_CALLBACK(fn)					\
	TUXTAPE_CALLBACK(__PASTE(__klp_post_patch_callback_, TUXTAPE_OBJECT), void, fn)
#define KPATCH_PRE_UNPATCH_CALLBACK(fn)				\
	TUXTAPE_CALLBACK(__PASTE(__klp_pre_unpatch_callback_, TUXTAPE_OBJECT), void, fn)
#define KPATCH_POST_UNPATCH_CALLBACK(fn)				\
	TUXTAPE_CALLBACK(__PASTE(__klp_post_unpatch_callback_, TUXTAPE_OBJECT), void, fn)

/*
 * The compiler takes whatever leads to printk() for unlikely and moves it away.
 * A condition that it cannot see through keeps the call where it is.
 */
#define KPATCH_PRINTK(...)						\
	do {								\
		if (READ_ONCE(jiffies))					\
			printk(__VA_ARGS__);				\
	} while (0)

/* Sections and functions are compared by what they mean: none is to be left out. */
#define KPATCH_IGNORE_SECTION(section)	static_assert(1);
#define KPATCH_IGNORE_FUNCTION(function) static_assert(1);

#endif
