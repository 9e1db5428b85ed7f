/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSG_ZEROCOPY as Documentation/networking/msg_zerocopy.rst has it: the buffer is filled again when the kernel has said so.
 *
 * allow: -
 * needs: zerocopy
 */
#include "tcp.h"

int main(void)
{
	struct connection tcp = tcp_connect();
	char *message = pages(64);

	for (char c = 'a'; c <= 'b'; c++) {
		memset(message, c, 64 * PAGE);
		need(send(tcp.sender, message, 64 * PAGE, MSG_ZEROCOPY) == 64 * PAGE, "send");
		printf("received %zu of %c\n", tcp_receive(&tcp, 64 * PAGE, c), c);
		tcp_await(&tcp);
	}
	return 0;
}
