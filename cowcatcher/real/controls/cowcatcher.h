/* SPDX-License-Identifier: GPL-2.0-only */
/* Rules of memory management that a boot parameter breaks: cowcatcher_break=RULE,RULE. None by default. */
#ifndef _LINUX_COWCATCHER_H
#define _LINUX_COWCATCHER_H

#define RULE(name) COWCATCHER_##name,
enum cowcatcher_rule {
#include <linux/cowcatcher_rules.h>
};
#undef RULE

/* Set once, before the first process runs. */
extern unsigned long cowcatcher_broken;

#define cowcatcher_breaks(name) (!!(cowcatcher_broken & 1UL << COWCATCHER_##name))

#endif
