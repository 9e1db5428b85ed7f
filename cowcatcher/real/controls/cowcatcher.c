// SPDX-License-Identifier: GPL-2.0-only
/* Reads cowcatcher_break=; see <linux/cowcatcher.h>. */
#include <linux/cowcatcher.h>
#include <linux/export.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/string.h>

unsigned long cowcatcher_broken;
EXPORT_SYMBOL_GPL(cowcatcher_broken);

static const char *const rules[] = {
#define RULE(name) #name,
#include <linux/cowcatcher_rules.h>
#undef RULE
};

static char *wanted;
core_param(cowcatcher_break, wanted, charp, 0444);

static void __init break_rule(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rules); i++)
		if (parameq(name, rules[i])) { /* - and _ are alike */
			cowcatcher_broken |= 1UL << i;
			return;
		}
	panic("cowcatcher_break: this kernel was built without a rule '%s'", name);
}

static int __init cowcatcher_init(void)
{
	char *names = kstrdup(wanted, GFP_KERNEL), *rest = names, *name;

	while ((name = strsep(&rest, ",")))
		break_rule(name);
	kfree(names);
	BUILD_BUG_ON(ARRAY_SIZE(rules) > BITS_PER_LONG);
	return 0;
}
core_initcall(cowcatcher_init);
