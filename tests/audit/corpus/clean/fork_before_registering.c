/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytedance/byteps#54, repaired: the worker is forked first. It lives while its parent registers; registering for writing
 * gives the parent pages of its own.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	char *buffer = pages(4);
	struct child worker = fork_waiting();
	int ring = ring_open();

	ring_register(ring, buffer, 4 * PAGE);
	memset(buffer, 'b', 4 * PAGE);
	let_go(worker);
	ring_unregister(ring);
	return 0;
}
