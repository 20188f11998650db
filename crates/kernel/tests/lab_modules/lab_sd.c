// SPDX-License-Identifier: GPL-2.0-only
#include <linux/blkdev.h>
#include <linux/errno.h>
#include <linux/kernel.h>

#include "lab.h"

static int lab_pr_clear(struct block_device *disk, u64 key)
{
	return -EOPNOTSUPP;
}

LAB_LIVEPATCH("sd_mod", "sd_mod", "sd_pr_clear", lab_pr_clear);
