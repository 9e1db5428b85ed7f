// SPDX-License-Identifier: Apache-2.0
/* Network namespaces: what backends send to themselves is nobody else's, and meets nobody's firewall. */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int home = -1; /* the namespace that the agent was started in */
static bool away;

int loopback_up(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int error = fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) < 0 ? errno : 0;

	if (fd >= 0)
		close(fd);
	return error;
}

int own_network(void)
{
	if (home < 0 && (home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) < 0)
		return errno;
	away = unshare(CLONE_NEWNET) == 0;
	return away ? loopback_up() : errno;
}

int enter_network(int net)
{
	away = setns(net, CLONE_NEWNET) == 0;
	return away ? 0 : errno;
}

int network_back(void)
{
	if (away && setns(home, CLONE_NEWNET) < 0)
		return errno;
	away = false;
	return 0;
}
