/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSG_ZEROCOPY on TCP, and the buffer is filled with the next message as soon as send() is back. Most of it still waits, since
 * the receiver has not read.
 *
 * find: overwritten-in-flight buffer error
 * only: live
 * needs: zerocopy
 */
#include "tcp.h"

int main(void)
{
	struct connection tcp = tcp_connect();
	char *message = pages(64);
	size_t changed;

	say("buffer", message, 64 * PAGE);
	need(send(tcp.sender, message, 64 * PAGE, MSG_ZEROCOPY) == 64 * PAGE, "send");
	memset(message, 'b', 64 * PAGE);
	changed = tcp_receive(&tcp, 64 * PAGE, 'b');
	puts(changed ? "received: bytes that were never sent" : "received: what was sent");
	tcp_await(&tcp);
	return 0;
}
