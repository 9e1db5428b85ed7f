/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same with two buffers in turn: the second one is filled while the first one is on its way, and a stack that has no use
 * for zero copies (a small message) is sent as usual.
 *
 * allow: -
 * needs: zerocopy
 */
#include "tcp.h"

int main(void)
{
	struct connection tcp = tcp_connect();
	char *first = pages(32), *second = pages(32), small[100] = "small";

	need(send(tcp.sender, first, 32 * PAGE, MSG_ZEROCOPY) == 32 * PAGE, "send");
	memset(second, 'b', 32 * PAGE);
	need(send(tcp.sender, second, 32 * PAGE, MSG_ZEROCOPY) == 32 * PAGE, "send");
	need(send(tcp.sender, small, sizeof(small), 0) == sizeof(small), "send");
	memset(small, 0, sizeof(small));
	printf("received %zu", tcp_receive(&tcp, 32 * PAGE, 'a'));
	printf(" and %zu", tcp_receive(&tcp, 32 * PAGE, 'b'));
	printf(" and %zu\n", tcp_receive(&tcp, sizeof(small), 's'));
	tcp_await(&tcp);
	return 0;
}
