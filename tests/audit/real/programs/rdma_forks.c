// SPDX-License-Identifier: Apache-2.0
/*
 * A program that registers a buffer with an RDMA device, forks a child that stays, and keeps using the buffer.
 *
 *     rdma_forks [init] [malloc|page] [touch]
 *
 * init: calls ibv_fork_init() first. malloc (the default): 1,000 bytes from the allocator, right behind 1,000 others of
 * the same page; page: two pages of their own. touch: the child reads those others, as any child might.
 * It says whether the device still saw what was stored after the fork, and how the child ended.
 * Build: cc rdma_forks.c -o rdma_forks -libverbs
 */
#include <infiniband/verbs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(what) do { if (!(what)) { perror(#what); exit(3); } } while (0)

static struct ibv_cq *completions;

static int own_address(struct ibv_context *device, union ibv_gid *address)
{
	for (int i = 0; i < 16 && ibv_query_gid(device, 1, i, address) == 0; i++)
		if (address->raw[10] == 0xff && address->raw[11] == 0xff)
			return i;
	return -1;
}

static void connect_to(struct ibv_qp *end, struct ibv_qp *other, int index, union ibv_gid address)
{
	struct ibv_qp_attr initial = {.qp_state = IBV_QPS_INIT, .port_num = 1,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ};
	struct ibv_qp_attr receive = {.qp_state = IBV_QPS_RTR, .path_mtu = IBV_MTU_1024, .dest_qp_num = other->qp_num,
		.max_dest_rd_atomic = 1, .min_rnr_timer = 12,
		.ah_attr = {.is_global = 1, .port_num = 1,
			.grh = {.dgid = address, .sgid_index = (uint8_t)index, .hop_limit = 64}}};
	struct ibv_qp_attr transmit = {.qp_state = IBV_QPS_RTS, .timeout = 14, .retry_cnt = 7, .rnr_retry = 7,
		.max_rd_atomic = 1};

	MUST(!ibv_modify_qp(end, &initial, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS));
	MUST(!ibv_modify_qp(end, &receive, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
		IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER));
	MUST(!ibv_modify_qp(end, &transmit, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
		IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC));
}

/* The device copies between the two registered buffers. */
static void transfer(struct ibv_qp *by, enum ibv_wr_opcode how, struct ibv_mr *here, struct ibv_mr *there)
{
	struct ibv_sge local = {.addr = (uintptr_t)here->addr, .length = 8, .lkey = here->lkey};
	struct ibv_send_wr *refused, wanted = {.opcode = how, .send_flags = IBV_SEND_SIGNALED, .sg_list = &local,
		.num_sge = 1, .wr.rdma = {.remote_addr = (uintptr_t)there->addr, .rkey = there->rkey}};
	struct ibv_wc done;
	int n;

	MUST(!ibv_post_send(by, &wanted, &refused));
	while (!(n = ibv_poll_cq(completions, 1, &done)))
		usleep(100);
	MUST(n == 1 && done.status == IBV_WC_SUCCESS);
}

static int has(int argc, char **argv, const char *word)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], word))
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	int whole = has(argc, argv, "page"), touches = has(argc, argv, "touch"), index, status, go[2], up[2];
	size_t size = whole ? 8192 : 1000;
	int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE;
	struct ibv_qp_init_attr wanted = {.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1}};
	struct ibv_device **devices;
	struct ibv_context *device;
	struct ibv_mr *buffer_mr, *bounce_mr;
	struct ibv_qp *ends[2];
	struct ibv_pd *domain;
	union ibv_gid address;
	volatile char *buffer;
	char *bounce, *others, c;
	pid_t child;

	if (has(argc, argv, "init"))
		MUST(!ibv_fork_init());
	MUST((devices = ibv_get_device_list(NULL)) && devices[0] && (device = ibv_open_device(devices[0])));
	MUST((domain = ibv_alloc_pd(device)) && (completions = ibv_create_cq(device, 4, NULL, NULL, 0)));
	wanted.send_cq = wanted.recv_cq = completions;
	MUST((ends[0] = ibv_create_qp(domain, &wanted)) && (ends[1] = ibv_create_qp(domain, &wanted)));
	MUST((index = own_address(device, &address)) >= 0);
	connect_to(ends[0], ends[1], index, address);
	connect_to(ends[1], ends[0], index, address);

	others = whole ? NULL : malloc(1000);
	buffer = whole ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : malloc(size);
	bounce = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset((char *)buffer, 'a', size);
	if (others)
		memset(others, 'n', 1000);
	MUST((buffer_mr = ibv_reg_mr(domain, (char *)buffer, size, access)));
	MUST((bounce_mr = ibv_reg_mr(domain, bounce, 4096, access)));
	fprintf(stderr, "protection %d, buffer %p %zu, others %p\n", ibv_is_fork_initialized(),
		(void *)buffer, size, (void *)others);

	MUST(!pipe(go) && !pipe(up));
	MUST((child = fork()) >= 0);
	if (child == 0) {
		close(go[1]);
		if (touches && others && ((volatile char *)others)[999] != 'n')
			_exit(4);
		MUST(write(up[1], "u", 1) == 1);
		MUST(read(go[0], &c, 1) >= 0); /* lives until its parent is done */
		_exit(0);
	}
	close(up[1]);
	MUST(read(up[0], &c, 1) >= 0);
	for (size_t i = 0; i < 8; i++)
		buffer[i] = 'b'; /* copy-on-write? */
	transfer(ends[0], IBV_WR_RDMA_READ, bounce_mr, buffer_mr);
	printf("device sees %c\n", bounce[0]);
	bounce[0] = 'c';
	transfer(ends[0], IBV_WR_RDMA_WRITE, bounce_mr, buffer_mr);
	printf("owner sees %c\n", buffer[0]);
	close(go[1]);
	MUST(waitpid(child, &status, 0) == child);
	if (WIFSIGNALED(status))
		printf("child killed by %s\n", strsignal(WTERMSIG(status)));
	else
		printf("child exited %d\n", WEXITSTATUS(status));
	ibv_dereg_mr(buffer_mr);
	ibv_dereg_mr(bounce_mr);
	return 0;
}
