/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies between two processes by process_vm_readv() and process_vm_writev(), each through before the next fork.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	char *buffer = pages(2), *copy = pages(2);
	struct child first = fork_waiting(), second;
	struct iovec here = {copy, 2 * PAGE}, there = {buffer, 2 * PAGE};

	need(process_vm_readv(first.pid, &here, 1, &there, 1, 0) == 2 * PAGE, "process_vm_readv");
	second = fork_waiting();
	need(process_vm_writev(second.pid, &here, 1, &there, 1, 0) == 2 * PAGE, "process_vm_writev");
	let_go(second); /* which has the other end of the first one's pipe, too */
	let_go(first);
	printf("copied %c\n", copy[PAGE]);
	return 0;
}
