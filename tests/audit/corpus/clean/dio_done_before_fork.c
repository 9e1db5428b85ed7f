/* SPDX-License-Identifier: Apache-2.0 */
/*
 * awslabs/mountpoint-s3#114, repaired: the fork waits until the direct read is through.
 *
 * allow: -
 * needs: fuse
 */
#include "held.h"

int main(void)
{
	int fd = held_open();
	char *buffer = pages(4);

	held_let_go();
	need(pread(fd, buffer, 4 * PAGE, 0) == 4 * PAGE, "pread");
	let_go(fork_waiting());
	held_let_go();
	need(pread(fd, buffer, 4 * PAGE, 0) == 4 * PAGE, "pread");
	printf("read %c\n", buffer[0]);
	return 0;
}
