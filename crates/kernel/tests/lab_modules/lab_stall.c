// SPDX-License-Identifier: GPL-2.0-only
#include <linux/kernel.h>

#include "lab.h"

/* kthreadd sleeps in the function it began in: it never leaves the old one. */
static int lab_kthreadd(void *unused)
{
	return 0;
}

LAB_LIVEPATCH("vmlinux", NULL, "kthreadd", lab_kthreadd);
