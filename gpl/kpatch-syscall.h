/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * System calls of a fix. What SYSCALL_DEFINE makes of a system call's body is an
 * inline function, which ftrace leaves alone, so it cannot be redirected. Under a
 * name of its own the body is new, and the entry that calls it is what changes.
 *
 * The kernel's own macro does the rest: a name given to the assembler in the
 * first declaration holds for the definition that follows.
 */
#ifndef TUXTAPE_KPATCH_SYSCALL_H
#define TUXTAPE_KPATCH_SYSCALL_H

#include <linux/syscalls.h>

#define TUXTAPE_SYSCALL_BODY(x, name, ...)				\
	static inline long						\
	__do_sys_##name(__MAP(x, __SC_DECL, __VA_ARGS__))		\
	__asm__("__tuxtape_do_sys_" #name);

#define KPATCH_SYSCALL_DEFINE1(name, ...)				\
	TUXTAPE_SYSCALL_BODY(1, name, __VA_ARGS__) SYSCALL_DEFINE1(name, __VA_ARGS__)
#define KPATCH_SYSCALL_DEFINE2(name, ...)				\
	TUXTAPE_SYSCALL_BODY(2, name, __VA_ARGS__) SYSCALL_DEFINE2(name, __VA_ARGS__)
#define KPATCH_SYSCALL_DEFINE3(name, ...)				\
	TUXTAPE_SYSCALL_BODY(3, name, __VA_ARGS__) SYSCALL_DEFINE3(name, __VA_ARGS__)
#define KPATCH_SYSCALL_DEFINE4(name, ...)				\
	TUXTAPE_SYSCALL_BODY(4, name, __VA_ARGS__) SYSCALL_DEFINE4(name, __VA_ARGS__)
#define KPATCH_SYSCALL_DEFINE5(name, ...)				\
	TUXTAPE_SYSCALL_BODY(5, name, __VA_ARGS__) SYSCALL_DEFINE5(name, __VA_ARGS__)
#define KPATCH_SYSCALL_DEFINE6(name, ...)				\
	TUXTAPE_SYSCALL_BODY(6, name, __VA_ARGS__) SYSCALL_DEFINE6(name, __VA_ARGS__)

#endif
