/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCP connection over loopback that takes MSG_ZEROCOPY and whose receiver has little room, so that what is sent waits in
 * the sender's own pages until somebody reads.
 */
#ifndef TCP_H
#define TCP_H

#include "corpus.h"

#include <linux/errqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#ifndef MSG_ZEROCOPY
#define MSG_ZEROCOPY 0x4000000
#endif
#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#endif

struct connection {
	int sender, receiver;
};

__attribute__((unused)) static struct connection tcp_connect(void)
{
	struct connection tcp;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, small = 4096, large = 2 << 20;

	tcp.sender = socket(AF_INET, SOCK_STREAM, 0);
	need(listener >= 0 && tcp.sender >= 0, "socket");
	need(!setsockopt(tcp.sender, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)), "SO_ZEROCOPY");
	setsockopt(tcp.sender, SOL_SOCKET, SO_SNDBUF, &large, sizeof(large));
	setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	need(!bind(listener, (struct sockaddr *)&address, size) && !listen(listener, 1), "listen");
	need(!getsockname(listener, (struct sockaddr *)&address, &size), "getsockname");
	need(!connect(tcp.sender, (struct sockaddr *)&address, size), "connect");
	tcp.receiver = accept(listener, NULL, NULL);
	need(tcp.receiver >= 0, "accept");
	close(listener);
	return tcp;
}

/* Reads `size` bytes; how many of them were `c`. */
__attribute__((unused)) static size_t tcp_receive(struct connection *tcp, size_t size, char c)
{
	static char got[64 << 10];
	size_t found = 0;

	while (size) {
		ssize_t n = read(tcp->receiver, got, size < sizeof(got) ? size : sizeof(got));

		need(n > 0, "read");
		for (ssize_t i = 0; i < n; i++)
			found += got[i] == c;
		size -= (size_t)n;
	}
	return found;
}

/* Until the kernel has told that the pages of the first send are the program's again. */
__attribute__((unused)) static void tcp_await(struct connection *tcp)
{
	char control[128];
	struct msghdr message = {.msg_control = control, .msg_controllen = sizeof(control)};
	struct pollfd error = {.fd = tcp->sender};

	need(poll(&error, 1, 5000) == 1, "no completion");
	need(recvmsg(tcp->sender, &message, MSG_ERRQUEUE) >= 0, "recvmsg");
}

#endif
