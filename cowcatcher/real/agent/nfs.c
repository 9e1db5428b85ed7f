// SPDX-License-Identifier: Apache-2.0
/*
 * Direct I/O to NFS: a server of our own for version 3 over TCP on 127.0.0.1 (RFC 1813; RPC: RFC 5531), a thread of the
 * coordinator's. Each line is a file; what reads and writes it is not answered before it is told to.
 *
 * A read fills its pages when the answer arrives. A write is sent at once, but the client keeps the pages until there is
 * an answer: to have it take what they hold *now*, the connection is broken. The client connects again and sends all that
 * was not answered once more, from the same pages.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* linux/mount.h and sys/mount.h do not get on with each other */
#ifndef SYS_fsopen
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif
enum { SET_FLAG = 0, SET_STRING = 1, CREATE = 6, OPEN_CLOEXEC = 1 };

enum {
	MAX_CONNECTIONS = 4, /* one to mount, one for the rest; two more while they are exchanged */
	MAX_REQUESTS = 1024, /* more than the pins of a test can have in flight */
	MAX_RECORD = 4 * PAGE, /* many times the largest call */
	FILE_SIZE = PAGE,
	ARRIVAL_S = 5, /* for a request that is on its way; a client may wait for three before it connects again */
};

enum { CALL, REPLY };
enum { NFS = 100003, MOUNT = 100005, VERSION = 3 };
enum { NULL_CALL, GETATTR, SETATTR, LOOKUP, ACCESS, READ = 6, WRITE, FSSTAT = 18, FSINFO, PATHCONF, COMMIT, MNT = 1, UMNT = 3 };
enum { EXECUTED, NO_PROGRAM, NO_VERSION, NO_PROCEDURE };
enum { NFS_OK, NFS_IO_ERROR = 5 };
enum { REGULAR = 1, DIRECTORY = 2 };
enum { ROOT = 1, FIRST_FILE = 2 }; /* file handles; a file's is FIRST_FILE and its line */

struct connection {
	int fd; /* -1: none */
	size_t filled;
	uint8_t record[MAX_RECORD];
};

/* A READ or WRITE. One that was answered is kept, in case the answer was lost with its connection. */
struct held {
	enum { NONE, HELD, WANTED /* with what it brings when it comes next */, ANSWERED } state;
	int line;
	bool write;
	uint32_t xid, status;
	struct connection *from; /* NULL: that was broken, and it will come again */
	char sector[SECTOR];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all that follows */
static pthread_cond_t changed;
static struct connection connections[MAX_CONNECTIONS] = {[0 ... MAX_CONNECTIONS - 1] = {.fd = -1}};
static struct held requests[MAX_REQUESTS];
static int listener = -1, root = -1;

/* ---- XDR (RFC 4506): words, the high byte first ---- */

struct xdr {
	uint8_t *at, *end;
};

static void put(struct xdr *x, uint32_t word)
{
	word = htonl(word);
	memcpy(x->at, &word, sizeof(word));
	x->at += sizeof(word);
}

static void put64(struct xdr *x, uint64_t value)
{
	put(x, (uint32_t)(value >> 32));
	put(x, (uint32_t)value);
}

static void put_handle(struct xdr *x, uint32_t handle)
{
	put(x, sizeof(handle));
	put(x, handle);
}

/* What is missing at the end reads as zero. */
static uint32_t get(struct xdr *x)
{
	uint32_t word = 0;

	if (x->at + sizeof(word) <= x->end) {
		memcpy(&word, x->at, sizeof(word));
		x->at += sizeof(word);
	}
	return ntohl(word);
}

/* Bytes, which have their number in front and are padded to whole words. */
static struct xdr get_bytes(struct xdr *x)
{
	size_t n = get(x), left = (size_t)(x->end - x->at);
	struct xdr bytes = {x->at, x->at + (n < left ? n : left)};

	n = (n + 3) & ~(size_t)3;
	x->at += n < left ? n : left;
	return bytes;
}

static uint32_t get_handle(struct xdr *x)
{
	struct xdr bytes = get_bytes(x);

	return get(&bytes);
}

/* ---- replies ---- */

static void begin(struct xdr *x, uint8_t *message, uint32_t xid)
{
	x->at = message + sizeof(uint32_t); /* its length goes there: see finish() */
	put(x, xid);
	put(x, REPLY);
	put(x, 0); /* accepted */
	put64(x, 0); /* no verifier */
}

static void finish(const struct xdr *x, uint8_t *message, const struct connection *to)
{
	size_t length = (size_t)(x->at - message);
	struct xdr marker = {.at = message};

	put(&marker, 1u << 31 | (uint32_t)(length - sizeof(uint32_t)));
	(void)!send(to->fd, message, length, MSG_NOSIGNAL | MSG_DONTWAIT); /* a lost answer will be asked for again */
}

static void put_attributes(struct xdr *x, uint32_t handle)
{
	put(x, handle == ROOT ? DIRECTORY : REGULAR);
	put(x, handle == ROOT ? 0755 : 0666);
	put(x, 2); /* links */
	put64(x, 0); /* owner, group */
	put64(x, FILE_SIZE);
	put64(x, FILE_SIZE);
	put64(x, 0); /* no device */
	put64(x, 1); /* file system */
	put64(x, handle);
	for (int time = 0; time < 3; time++)
		put64(x, 0);
}

static void put_mount(struct xdr *x, uint32_t procedure)
{
	put(x, EXECUTED);
	if (procedure == MNT) {
		put(x, NFS_OK);
		put_handle(x, ROOT);
		put(x, 1); /* one way to say who one is: */
		put(x, 1); /* AUTH_SYS */
	}
}

/* Attributes are optional nearly everywhere: a zero in their place. */
static void put_nfs(struct xdr *x, uint32_t procedure, struct xdr *arguments)
{
	uint32_t handle = get_handle(arguments);
	int line = 0;

	put(x, EXECUTED);
	if (procedure == NULL_CALL)
		return;
	put(x, NFS_OK);
	switch (procedure) {
	case GETATTR:
		put_attributes(x, handle);
		break;
	case SETATTR:
		put64(x, 0);
		break;
	case LOOKUP:
		for (struct xdr name = get_bytes(arguments); name.at < name.end; name.at++)
			line = line * 10 + (*name.at - '0');
		put_handle(x, FIRST_FILE + (uint32_t)line);
		put64(x, 0);
		break;
	case ACCESS:
		put(x, 0);
		put(x, 0x3f); /* all */
		break;
	case FSSTAT:
		put(x, 0);
		for (int i = 0; i < 6; i++)
			put64(x, 1 << 20);
		put(x, 0);
		break;
	case FSINFO:
		put(x, 0);
		for (int i = 0; i < 2; i++) { /* reads, writes: largest, best, a multiple of */
			put(x, PAGE);
			put(x, PAGE);
			put(x, SECTOR);
		}
		put(x, PAGE); /* directories */
		put64(x, FILE_SIZE);
		put64(x, 1); /* the clock's grain */
		put(x, 0);
		break;
	case PATHCONF:
		put(x, 0);
		put(x, 1); /* links */
		put(x, 255);
		for (int i = 0; i < 4; i++)
			put(x, 1);
		break;
	case COMMIT:
		put64(x, 0);
		put64(x, 1);
		break;
	}
}

static bool have(uint32_t program, uint32_t procedure)
{
	if (program == MOUNT)
		return procedure <= MNT || procedure == UMNT;
	return procedure <= ACCESS || (procedure >= FSSTAT && procedure <= COMMIT);
}

/* ---- requests that are held ---- */

static void answer(struct held *request)
{
	uint8_t message[128 + SECTOR];
	struct xdr x;

	begin(&x, message, request->xid);
	put(&x, EXECUTED);
	put(&x, request->status);
	put(&x, 0); /* no attributes before, if it is a write, */
	if (request->write)
		put(&x, 0); /* and none after */
	if (request->status == NFS_OK && request->write) {
		put(&x, SECTOR);
		put(&x, 2); /* FILE_SYNC: nothing is left to be committed */
		put64(&x, 1);
	} else if (request->status == NFS_OK) {
		put(&x, SECTOR);
		put(&x, 0); /* not the end of the file */
		put(&x, SECTOR);
		memcpy(x.at, request->sector, SECTOR);
		x.at += SECTOR;
	}
	finish(&x, message, request->from);
	request->state = ANSWERED;
	pthread_cond_broadcast(&changed);
}

/* The request of this number; else a free place, or that of the one that was answered first. */
static struct held *place_for(uint32_t xid)
{
	static int next;
	struct held *place = NULL;

	for (int i = 0; i < MAX_REQUESTS; i++)
		if (requests[i].state != NONE && requests[i].xid == xid)
			return &requests[i];
	for (int i = 0; i < MAX_REQUESTS && !place; i++) {
		struct held *candidate = &requests[next++ % MAX_REQUESTS];

		if (candidate->state == NONE || candidate->state == ANSWERED)
			place = candidate;
	}
	if (place)
		*place = (struct held){.xid = xid};
	return place;
}

static void hold_request(struct connection *from, uint32_t xid, bool write, struct xdr *arguments)
{
	struct held *request = place_for(xid);

	if (!request)
		return;
	request->from = from;
	request->write = write;
	request->line = (int)(get_handle(arguments) - FIRST_FILE);
	if (request->state == ANSWERED) {
		answer(request);
		return;
	}
	if (write) {
		struct xdr data;

		for (int word = 0; word < 4; word++) /* where, how much, how stable */
			get(arguments);
		data = get_bytes(arguments);
		if (data.end - data.at == SECTOR)
			memcpy(request->sector, data.at, SECTOR);
	}
	if (request->state == WANTED)
		answer(request);
	else
		request->state = HELD;
	pthread_cond_broadcast(&changed);
}

/* ---- the server ---- */

static void handle(struct connection *from, struct xdr call)
{
	uint8_t message[256];
	uint32_t xid = get(&call), kind = get(&call), program, version, procedure;
	struct xdr x;

	get(&call); /* of which RPC there is one version */
	program = get(&call);
	version = get(&call);
	procedure = get(&call);
	for (int i = 0; i < 2; i++) { /* who calls, and the proof */
		get(&call);
		get_bytes(&call);
	}
	if (kind != CALL)
		return;
	if (program == NFS && version == VERSION && (procedure == READ || procedure == WRITE)) {
		hold_request(from, xid, procedure == WRITE, &call);
		return;
	}
	begin(&x, message, xid);
	if (program != NFS && program != MOUNT) {
		put(&x, NO_PROGRAM);
	} else if (version != VERSION) {
		put(&x, NO_VERSION);
		put(&x, VERSION); /* from, to */
		put(&x, VERSION);
	} else if (!have(program, procedure)) {
		put(&x, NO_PROCEDURE);
	} else if (program == MOUNT) {
		put_mount(&x, procedure);
	} else {
		put_nfs(&x, procedure, &call);
	}
	finish(&x, message, from);
}

/* Some more bytes, and the calls that they complete; false at the end of the connection. */
static bool receive(struct connection *c)
{
	ssize_t n = recv(c->fd, c->record + c->filled, sizeof(c->record) - c->filled, 0);

	if (n <= 0)
		return false;
	c->filled += (size_t)n;
	for (;;) {
		struct xdr marker = {c->record, c->record + c->filled};
		size_t length = get(&marker) & ~(1u << 31);

		if (c->filled < sizeof(uint32_t) || c->filled - sizeof(uint32_t) < length)
			return c->filled < sizeof(c->record);
		handle(c, (struct xdr){marker.at, marker.at + length});
		c->filled -= sizeof(uint32_t) + length;
		memmove(c->record, marker.at + length, c->filled);
	}
}

/*
 * With a reset: after an orderly end the client waits for three seconds before it connects again. connect() to nowhere
 * does that also where a process that is just being forked has the descriptor too.
 */
static void break_off(struct connection *c)
{
	const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

	for (int i = 0; i < MAX_REQUESTS; i++)
		if (requests[i].from == c)
			requests[i].from = NULL;
	connect(c->fd, &nowhere, sizeof(nowhere));
	close(c->fd);
	c->fd = -1;
	c->filled = 0;
}

static void accept_client(void)
{
	int fd = keep_private(accept(listener, NULL, NULL)), one = 1;

	for (int i = 0; i < MAX_CONNECTIONS && fd >= 0; i++)
		if (connections[i].fd < 0) {
			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
			connections[i].fd = fd;
			return;
		}
	if (fd >= 0)
		close(fd);
}

static void *serve(void *unused)
{
	(void)unused;
	for (;;) {
		struct pollfd fds[MAX_CONNECTIONS + 1];

		for (int i = 0; i < MAX_CONNECTIONS; i++)
			fds[i] = (struct pollfd){.fd = connections[i].fd, .events = POLLIN};
		fds[MAX_CONNECTIONS] = (struct pollfd){.fd = listener, .events = POLLIN};
		poll(fds, MAX_CONNECTIONS + 1, -1);
		pthread_mutex_lock(&lock);
		for (int i = 0; i < MAX_CONNECTIONS; i++)
			if (fds[i].revents && !receive(&connections[i]))
				break_off(&connections[i]);
		if (fds[MAX_CONNECTIONS].revents)
			accept_client();
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

/* The port, or -1 with errno. */
static int start_server(void)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(here);
	pthread_condattr_t monotonic;
	pthread_t thread;

	listener = keep_private(socket(AF_INET, SOCK_STREAM, 0));
	if (listener < 0 || bind(listener, (struct sockaddr *)&here, sizeof(here)) < 0 ||
	    listen(listener, MAX_CONNECTIONS) < 0 || getsockname(listener, (struct sockaddr *)&here, &length) < 0)
		return -1;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&changed, &monotonic);
	errno = pthread_create(&thread, NULL, serve, NULL);
	return errno ? -1 : ntohs(here.sin_port);
}

/* ---- the client's side ---- */

/* Mounted nowhere: only the descriptor leads there. Soft: if the coordinator dies, what is in flight fails by itself. */
static int mount_server(int port)
{
	char number[12];
	const char *const options[][2] = {
		{"source", "127.0.0.1:/"}, {"addr", "127.0.0.1"}, {"vers", "3"}, {"proto", "tcp"}, {"port", number},
		{"mountaddr", "127.0.0.1"}, {"mountvers", "3"}, {"mountproto", "tcp"}, {"mountport", number},
		{"timeo", "300"}, {"retrans", "1"},
	};
	const char *const flags[] = {"soft", "nolock", "noacl"};
	int context = (int)syscall(SYS_fsopen, "nfs", OPEN_CLOEXEC), mount = -1, error;
	long rc = context;

	snprintf(number, sizeof(number), "%d", port);
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]) && rc >= 0; i++)
		rc = syscall(SYS_fsconfig, context, SET_STRING, options[i][0], options[i][1], 0);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]) && rc >= 0; i++)
		rc = syscall(SYS_fsconfig, context, SET_FLAG, flags[i], NULL, 0);
	if (rc >= 0)
		rc = syscall(SYS_fsconfig, context, CREATE, NULL, NULL, 0);
	if (rc >= 0)
		mount = (int)syscall(SYS_fsmount, context, OPEN_CLOEXEC, 0);
	error = errno;
	if (context >= 0)
		close(context);
	errno = error;
	return keep_private(mount);
}

static const char *lacks(void)
{
	int port, error;

	/* In a network of its own, so that a host's is left alone; a kernel without namespaces is in a machine of ours. */
	if (own_network() && (!own_machine || loopback_up()))
		return errno == EPERM ? "only root may mount NFS" : "there is no network namespace to be had";
	port = start_server();
	if (port >= 0)
		root = mount_server(port);
	error = errno;
	network_back();
	errno = error;
	if (port < 0)
		return "a server on 127.0.0.1 could not be started";
	if (root >= 0)
		return NULL;
	return errno == ENODEV || errno == EPROTONOSUPPORT ? "the kernel has no NFS version 3"
	       : errno == EPERM || errno == EACCES	   ? "only root may mount NFS"
							   : "NFS on 127.0.0.1 could not be mounted";
}

static int make(int line, int *fd)
{
	char name[12];

	snprintf(name, sizeof(name), "%d", line);
	*fd = openat(root, name, O_RDWR | O_DIRECT | O_CLOEXEC);
	return *fd < 0 ? errno : 0;
}

/* The next request of the line that is held, for whose arrival is waited; NULL if it does not come. */
static struct held *next_held(int line)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += ARRIVAL_S;
	do {
		for (int i = 0; i < MAX_REQUESTS; i++)
			if (requests[i].state == HELD && requests[i].from && requests[i].line == line)
				return &requests[i];
	} while (pthread_cond_timedwait(&changed, &lock, &end) == 0);
	return NULL;
}

/* The server's thread notices that nothing more can be read, and breaks the connection. */
static bool ask_again(struct held *request)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += ARRIVAL_S;
	request->state = WANTED;
	shutdown(request->from->fd, SHUT_RD);
	while (request->state == WANTED && pthread_cond_timedwait(&changed, &lock, &end) == 0)
		;
	return request->state == ANSWERED;
}

static struct server server;

static int complete(int line, bool device_writes, char sector[SECTOR])
{
	struct held *request;
	int error = ETIMEDOUT;

	pthread_mutex_lock(&lock);
	request = next_held(line);
	if (request && device_writes) {
		memcpy(request->sector, sector, SECTOR);
		answer(request);
		error = 0;
	} else if (request && ask_again(request)) {
		memcpy(sector, request->sector, SECTOR);
		error = 0;
	}
	pthread_mutex_unlock(&lock);
	return error ? error : await(&server, line, 1);
}

static int fail(int line, int n)
{
	int failed = 0;

	pthread_mutex_lock(&lock);
	for (struct held *request; failed < n && (request = next_held(line)); failed++) {
		request->status = NFS_IO_ERROR;
		answer(request);
	}
	pthread_mutex_unlock(&lock);
	return failed < n ? ETIMEDOUT : await(&server, line, n);
}

static struct server server = {lacks, make, complete, fail, .writes = true, .reads = true};

DIRECT_IO_BACKEND(nfs, server);
