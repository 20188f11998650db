// SPDX-License-Identifier: GPL-2.0-only
#include <linux/compiler.h>
#include <linux/kernel.h>

#include "lab.h"

static int *nowhere;

static int __init lab_init(void)
{
	WRITE_ONCE(*READ_ONCE(nowhere), 1);
	return 0;
}

LAB_MODULE("vmlinux");
