// SPDX-License-Identifier: Apache-2.0
/*
 * RDMA memory regions, on the first RDMA device there is; in a machine of our own, on soft-RoCE over the loopback
 * interface. The device's accesses are RDMA writes and reads between the region and a page of the coordinator's, by two
 * queue pairs that are connected to each other.
 *
 * The coordinator owns the device's context; a test process that inherited it registers its own memory with it. Compiled
 * in where libibverbs is there to be linked (see real/build.py).
 */
#define _GNU_SOURCE
#include "agent.h"

#ifndef WITH_RDMA

static const char *no_rdma(void)
{
	return "the agent was built without libibverbs (apt install libibverbs-dev libnl-3-dev libnl-route-3-dev)";
}

const struct backend rxe = {.name = "rxe", .probe = no_rdma}, rxe_odp = {.name = "rxe_odp", .probe = no_rdma};

#else

#include <infiniband/verbs.h>
#include <linux/netlink.h>
#include <poll.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/rdma_netlink.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	PORT = 1,
	DEVICE_MS = 2000, /* for a device to appear and to have an address */
	DMA_MS = 5000, /* for a transfer */
};

static struct ibv_context *device;
static struct ibv_pd *domain;
static struct ibv_cq *completions;
static struct ibv_qp *ends[2]; /* requests are posted to the first */
static struct ibv_mr *bounce_mr;
static uint64_t *bounce;

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
}

/* What `rdma link add rxe0 type rxe netdev lo` does. */
static int add_soft_roce(void)
{
	static const struct { int type; const char *text; } attributes[] = {
		{RDMA_NLDEV_ATTR_DEV_NAME, "rxe0"}, {RDMA_NLDEV_ATTR_LINK_TYPE, "rxe"}, {RDMA_NLDEV_ATTR_NDEV_NAME, "lo"}};
	char message[256] __attribute__((aligned(NLMSG_ALIGNTO))) = {0};
	struct nlmsghdr *header = (struct nlmsghdr *)message;
	struct nlmsgerr *answer = NLMSG_DATA(header);
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_RDMA), error = 0;

	if (fd < 0)
		return errno;
	header->nlmsg_len = NLMSG_HDRLEN;
	header->nlmsg_type = RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, RDMA_NLDEV_CMD_NEWLINK);
	header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	for (int i = 0; i < 3; i++) {
		struct nlattr *attribute = (struct nlattr *)(message + header->nlmsg_len);

		attribute->nla_type = (uint16_t)attributes[i].type;
		attribute->nla_len = (uint16_t)(NLA_HDRLEN + strlen(attributes[i].text) + 1);
		strcpy((char *)attribute + NLA_HDRLEN, attributes[i].text);
		header->nlmsg_len += NLA_ALIGN(attribute->nla_len);
	}
	if (send(fd, message, header->nlmsg_len, 0) < 0 || recv(fd, message, sizeof(message), 0) < (ssize_t)NLMSG_HDRLEN)
		error = errno;
	else if (header->nlmsg_type == NLMSG_ERROR)
		error = -answer->error;
	close(fd);
	return error == EEXIST ? 0 : error;
}

static struct ibv_context *open_device(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *opened = list && list[0] ? ibv_open_device(list[0]) : NULL;

	if (list)
		ibv_free_device_list(list);
	return opened;
}

/* The address by which the device reaches itself: an IPv4 one, which every RoCE device has once its interface is up. */
static int own_address(union ibv_gid *address)
{
	static const unsigned char zeroes[10];

	for (int waited = 0; waited < DEVICE_MS; waited += 10, nap())
		for (int i = 0; i < 16 && ibv_query_gid(device, PORT, i, address) == 0; i++)
			if (!memcmp(address->raw, zeroes, 10) && address->raw[10] == 0xff && address->raw[11] == 0xff)
				return i;
	return -1;
}

static bool connect_end(struct ibv_qp *end, struct ibv_qp *other, int index, const union ibv_gid *address)
{
	struct ibv_qp_attr initial = {
		.qp_state = IBV_QPS_INIT, .port_num = PORT,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ};
	struct ibv_qp_attr receive = {
		.qp_state = IBV_QPS_RTR, .path_mtu = IBV_MTU_1024, .dest_qp_num = other->qp_num,
		.max_dest_rd_atomic = 1, .min_rnr_timer = 12,
		.ah_attr = {.is_global = 1, .port_num = PORT,
			    .grh = {.dgid = *address, .sgid_index = (uint8_t)index, .hop_limit = 64}}};
	struct ibv_qp_attr transmit = {
		.qp_state = IBV_QPS_RTS, .timeout = 14, .retry_cnt = 7, .rnr_retry = 7, .max_rd_atomic = 1};

	return !ibv_modify_qp(end, &initial, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS) &&
	       !ibv_modify_qp(end, &receive,
			      IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
				      IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER) &&
	       !ibv_modify_qp(end, &transmit,
			      IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
				      IBV_QP_MAX_QP_RD_ATOMIC);
}

static const char *make_ends(void)
{
	union ibv_gid address;
	int index = own_address(&address);

	if (index < 0)
		return "the RDMA device has no IPv4 address";
	for (int i = 0; i < 2; i++) {
		struct ibv_qp_init_attr wanted = {
			.send_cq = completions, .recv_cq = completions, .qp_type = IBV_QPT_RC,
			.cap = {.max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1}};

		if (!(ends[i] = ibv_create_qp(domain, &wanted)))
			return "ibv_create_qp() failed";
	}
	for (int i = 0; i < 2; i++)
		if (!connect_end(ends[i], ends[!i], index, &address))
			return "the two queue pairs could not be connected";
	return NULL;
}

static const char *rxe_probe(void)
{
	static const char *lacking;
	static bool asked; /* by rxe and by rxe_odp */

	if (asked)
		return lacking;
	asked = true;
	device = open_device();
	if (!device && own_machine) {
		loopback_up(); /* if that fails there will be no address, which is reported */
		if (add_soft_roce())
			return lacking = "the kernel has no soft-RoCE (CONFIG_RDMA_RXE: a full-flavour kernel)";
		for (int waited = 0; !device && waited < DEVICE_MS; waited += 10, nap())
			device = open_device();
	}
	if (!device)
		return lacking = "there is no RDMA device (soft-RoCE: rdma link add rxe0 type rxe netdev DEVICE)";
	bounce = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (bounce == MAP_FAILED || madvise(bounce, PAGE, MADV_DONTFORK) < 0)
		return lacking = "no page for transfers was to be had";
	if (!(domain = ibv_alloc_pd(device)) || !(completions = ibv_create_cq(device, 4, NULL, NULL, 0)) ||
	    !(bounce_mr = ibv_reg_mr(domain, bounce, PAGE, IBV_ACCESS_LOCAL_WRITE)))
		return lacking = "the RDMA device refused what a queue pair needs (see ulimit -l)";
	return lacking = make_ends();
}

static const char *odp_probe(void)
{
	struct ibv_device_attr_ex able;
	const char *lacking = rxe_probe();
	uint32_t wanted = IBV_ODP_SUPPORT_WRITE | IBV_ODP_SUPPORT_READ;

	if (lacking)
		return lacking;
	if (ibv_query_device_ex(device, NULL, &able) || !(able.odp_caps.general_caps & IBV_ODP_SUPPORT) ||
	    (able.odp_caps.per_transport_caps.rc_odp_caps & wanted) != wanted)
		return "the RDMA device knows no on-demand paging (soft-RoCE does since 6.15)";
	return NULL;
}

static int rxe_open(int pin)
{
	(void)pin;
	return 0;
}

/*
 * In the actor: its own memory, by the coordinator's protection domain; the answer is the region's handle and key. After
 * exec() nothing is mapped that could be registered.
 */
static struct reply reg_mr(const struct request *rq, int access)
{
	struct ibv_mr *mr;

	if (!domain)
		return failure(EFAULT);
	mr = ibv_reg_mr(domain, (void *)(uintptr_t)rq->addr, rq->len, access | IBV_ACCESS_REMOTE_READ);
	return mr ? success((uint64_t)mr->handle << 32 | mr->rkey) : failure(errno);
}

static struct reply rxe_hold(const struct request *rq)
{
	return reg_mr(rq, rq->writable ? IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE : 0);
}

static struct reply odp_hold(const struct request *rq)
{
	return reg_mr(rq, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_ON_DEMAND);
}

static bool completes(void)
{
	struct ibv_wc done;
	int n = 0;

	for (int waited = 0; !(n = ibv_poll_cq(completions, 1, &done)) && waited < DMA_MS * 20; waited++)
		nanosleep(&(struct timespec){.tv_nsec = 50 * 1000}, NULL);
	return n == 1 && done.status == IBV_WC_SUCCESS;
}

static struct reply rxe_dma(int pin, const struct step *step)
{
	bool writes = step->op == DMA_WRITE;
	struct ibv_sge here = {.addr = (uintptr_t)bounce, .length = sizeof(*bounce), .lkey = bounce_mr->lkey};
	struct ibv_send_wr transfer = {
		.opcode = writes ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ, .send_flags = IBV_SEND_SIGNALED,
		.sg_list = &here, .num_sge = 1,
		.wr = {.rdma = {.remote_addr = test.pins[pin].addr + pin_offset(step), .rkey = (uint32_t)test.pins[pin].key}}};
	struct ibv_send_wr *refused;

	if (!ends[0])
		return failure(EIO);
	*bounce = step->value;
	if (ibv_post_send(ends[0], &transfer, &refused) || !completes()) {
		ibv_destroy_qp(ends[0]); /* an error is the end of a queue pair */
		ibv_destroy_qp(ends[1]);
		if (make_ends())
			ends[0] = ends[1] = NULL;
		/* A region on demand has no other way to say that there is no page, or that it may not be used so. */
		return test.pins[pin].backend == &rxe_odp ? (struct reply){IOMMU_FAULT, 0} : failure(EIO);
	}
	return success(*bounce);
}

/* ibv_dereg_mr() of a region that another process registered: by its handle. */
static struct reply rxe_release(int pin)
{
	struct { struct ib_uverbs_ioctl_hdr header; struct ib_uverbs_attr handle; } destroy = {
		.header = {.length = sizeof(destroy), .object_id = UVERBS_OBJECT_MR, .method_id = UVERBS_METHOD_MR_DESTROY,
			   .num_attrs = 1},
		.handle = {.attr_id = UVERBS_ATTR_DESTROY_MR_HANDLE, .flags = UVERBS_ATTR_F_MANDATORY,
			   .data = test.pins[pin].key >> 32}};

	if (!test.pins[pin].key)
		return success(0); /* it was not registered */
	return outcome(ioctl(device->cmd_fd, RDMA_VERBS_IOCTL, &destroy));
}

const struct backend rxe = {
	.name = "rxe",
	.probe = rxe_probe,
	.open = rxe_open,
	.hold = rxe_hold,
	.dma = rxe_dma,
	.release = rxe_release,
};

const struct backend rxe_odp = {
	.name = "rxe_odp",
	.probe = odp_probe,
	.open = rxe_open,
	.hold = odp_hold,
	.dma = rxe_dma,
	.release = rxe_release,
};

#endif
