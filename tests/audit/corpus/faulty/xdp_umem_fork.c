/* SPDX-License-Identifier: Apache-2.0 */
/*
 * google/gvisor#14031, by the pin that any machine has: packet memory of an AF_XDP socket, which is pinned for as long as the
 * socket lives. Then a fork.
 *
 * find: fork-shares-pinned buffer good
 * needs: xdp
 */
#include "corpus.h"

#include <linux/if_xdp.h>
#include <sys/socket.h>

#ifndef SOL_XDP
#define SOL_XDP 283
#endif

int main(void)
{
	int socket_fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	char *packets = pages(16);
	struct xdp_umem_reg area = {.addr = (uintptr_t)packets, .len = 16 * PAGE, .chunk_size = PAGE};

	if (socket_fd < 0)
		return UNAVAILABLE;
	say("buffer", packets, 16 * PAGE);
	need(!setsockopt(socket_fd, SOL_XDP, XDP_UMEM_REG, &area, sizeof(area)), "XDP_UMEM_REG");
	let_go(fork_waiting());
	packets[0] = 'b';
	return 0;
}
