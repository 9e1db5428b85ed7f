/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DONTFORK without any device: a library keeps its keys from children, and the parent's end is the end of them. Marks on pages of
 * their own take nothing from anybody.
 *
 * allow: fork-protection
 */
#include "corpus.h"

int main(void)
{
	char *keys = pages(2), *state = pages(1);

	need(!madvise(keys, 2 * PAGE, MADV_DONTFORK), "MADV_DONTFORK");
	need(!madvise(state, PAGE, MADV_WIPEONFORK), "MADV_WIPEONFORK");
	let_go(fork_waiting());
	keys[0] = 'k';
	need(!madvise(keys, 2 * PAGE, MADV_DOFORK) && !madvise(state, PAGE, MADV_KEEPONFORK), "madvise");
	let_go(fork_waiting());
	return 0;
}
