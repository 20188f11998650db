// SPDX-License-Identifier: GPL-2.0-only
#include <linux/kernel.h>
#include <linux/processor.h>

#include "lab.h"

static int __init lab_init(void)
{
	for (;;)
		cpu_relax();
	return 0;
}

LAB_MODULE("vmlinux");
