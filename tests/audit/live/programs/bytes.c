/* vmsplice() and MSG_ZEROCOPY. With an argument, the bytes change before they are out. */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <fcntl.h>
#include <unistd.h>

static char *buffer;

static void through_a_pipe(int spoil)
{
	struct iovec iov = { buffer, 8192 };
	char taken[8193];
	int ends[2];

	if (pipe(ends) || vmsplice(ends[1], &iov, 1, 0) != 8192)
		exit(77);
	buffer[5] += spoil;
	if (write(ends[1], "x", 1) != 1 || read(ends[0], taken, sizeof(taken)) < 1)
		exit(2);
	buffer[6]++; /* the reader has it: nobody minds */
	close(ends[1]);
}

static void connected(int *from, int *to)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listening = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	socklen_t size = sizeof(address);

	bind(listening, (void *)&address, size);
	listen(listening, 1);
	getsockname(listening, (void *)&address, &size);
	*from = socket(AF_INET, SOCK_STREAM, 0);
	if (setsockopt(*from, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)) || connect(*from, (void *)&address, size))
		exit(77);
	*to = accept(listening, NULL, NULL);
}

static void over_a_socket(int spoil)
{
	static char taken[20000];
	int from, to;

	connected(&from, &to);
	for (int i = 0; i < 3; i++) {
		char control[100];
		struct msghdr message = { .msg_control = control, .msg_controllen = sizeof(control) };
		struct pollfd error = { from, 0, 0 };

		if (send(from, buffer, sizeof(taken), MSG_ZEROCOPY) != sizeof(taken))
			exit(3);
		if (i == 1)
			buffer[7] += spoil;
		recv(to, taken, sizeof(taken), MSG_WAITALL);
		poll(&error, 1, 1000);
		if (recvmsg(from, &message, MSG_ERRQUEUE) < 0)
			exit(4);
		buffer[8]++;
	}
}

int main(int argc, char **argv)
{
	(void)argv;
	if (posix_memalign((void **)&buffer, 4096, 65536))
		return 77;
	memset(buffer, 1, 65536);
	through_a_pipe(argc > 1);
	over_a_socket(argc > 1);
	return 0;
}
