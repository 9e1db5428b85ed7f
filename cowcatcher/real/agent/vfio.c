// SPDX-License-Identifier: Apache-2.0
/*
 * VFIO type 1: real DMA by a device that knows nothing of page tables, through an IOMMU.
 *
 * The device is QEMU's `edu` (docs/specs/edu in its sources): 4 KiB of memory of its own at DMA_BUFFER, which it copies to
 * or from an I/O virtual address, 100 ms after it was told to; then it sends an MSI, which VFIO turns into an eventfd's
 * signal. Its memory begins with a table of the words that it can write, filled once; what it has read takes a second
 * transfer, to a page of the coordinator's.
 *
 * One container, kept from test to test. A test process that inherited its descriptor maps its memory, which pins it. The
 * coordinator unmaps it; until v5.19 only the process that mapped can do that (vfio_dma_do_unmap()), and where it has
 * ended, the container ends with the mapping, and another is opened.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PCI_DEVICES "/sys/bus/pci/devices/"
#define IOVA_DISTANCE UINT64_C(0x1000000) /* pin N's memory is mapped at N + 1 times that */
#define BOUNCE_IOVA UINT64_C(0x800000)
#define EDU_REACH (UINT64_C(256) << 20)

enum {
	EDU_VENDOR = 0x1234, EDU_DEVICE = 0x11e8,
	/* its registers */
	IRQ_STATUS = 0x24, IRQ_ACKNOWLEDGE = 0x64, DMA_FROM = 0x80, DMA_TO = 0x88, DMA_COUNT = 0x90, DMA_COMMAND = 0x98,
	DMA_START = 1, DMA_TO_MEMORY = 2, DMA_INTERRUPT = 4,
	DMA_BUFFER = 0x40000,
	N_WORDS = PAGE / sizeof(uint64_t) / 2, /* in the table: every value below that; behind it, what was read */
	READ_AT = DMA_BUFFER + PAGE / 2,
	DMA_MS = 5000, /* it was told and does not answer */
	PCI_COMMAND = 4, PCI_MEMORY_AND_MASTER = 6,
};

static int container = -1, group = -1, device = -1, completion = -1;
static uint64_t registers, config; /* offsets in the device's file */
static uint64_t *bounce;

static bool read_hex(const char *slot, const char *name, unsigned *value)
{
	char path[300];
	FILE *file;
	bool found;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/%s", slot, name);
	file = fopen(path, "re");
	found = file && fscanf(file, "%x", value) == 1;
	if (file)
		fclose(file);
	return found;
}

/* Its name below PCI_DEVICES, or "". */
static const char *find_edu(void)
{
	static char slot[64];
	DIR *all = opendir(PCI_DEVICES);
	struct dirent *one;
	unsigned vendor, model;

	slot[0] = 0;
	while (all && !slot[0] && (one = readdir(all)))
		if (read_hex(one->d_name, "vendor", &vendor) && read_hex(one->d_name, "device", &model) &&
		    vendor == EDU_VENDOR && model == EDU_DEVICE)
			snprintf(slot, sizeof(slot), "%.63s", one->d_name);
	if (all)
		closedir(all);
	return slot;
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		perror(path);
	if (fd >= 0)
		close(fd);
}

static void set_register(uint64_t number, uint32_t value)
{
	if (pwrite(device, &value, sizeof(value), (off_t)(registers + number)) != sizeof(value))
		perror("vfio: register");
}

static uint32_t get_register(uint64_t number)
{
	uint32_t value = 0;

	if (pread(device, &value, sizeof(value), (off_t)(registers + number)) != sizeof(value))
		perror("vfio: register");
	return value;
}

/* One copy between the device's memory and an I/O virtual address; an errno or 0. */
static int transfer(uint64_t from, uint64_t to, size_t count, bool to_memory)
{
	struct pollfd done = {.fd = completion, .events = POLLIN};
	uint64_t signals;

	set_register(DMA_FROM, (uint32_t)from);
	set_register(DMA_TO, (uint32_t)to);
	set_register(DMA_COUNT, (uint32_t)count);
	set_register(DMA_COMMAND, DMA_START | DMA_INTERRUPT | (to_memory ? DMA_TO_MEMORY : 0));
	if (poll(&done, 1, DMA_MS) != 1 || read(completion, &signals, sizeof(signals)) != sizeof(signals))
		return ETIMEDOUT;
	set_register(IRQ_ACKNOWLEDGE, get_register(IRQ_STATUS));
	return 0;
}

static int map(int fd, uint64_t iova, const void *at, uint64_t len, bool writable)
{
	struct vfio_iommu_type1_dma_map rq = {
		.argsz = sizeof(rq),
		.flags = VFIO_DMA_MAP_FLAG_READ | (writable ? VFIO_DMA_MAP_FLAG_WRITE : 0),
		.vaddr = (uintptr_t)at,
		.iova = iova,
		.size = len,
	};

	return ioctl(fd, VFIO_IOMMU_MAP_DMA, &rq) < 0 ? errno : 0;
}

/* How many bytes were. */
static uint64_t unmap(int fd, uint64_t iova, uint64_t len)
{
	struct vfio_iommu_type1_dma_unmap rq = {.argsz = sizeof(rq), .iova = iova, .size = len};

	return ioctl(fd, VFIO_IOMMU_UNMAP_DMA, &rq) < 0 ? 0 : rq.size;
}

static int find_regions(void)
{
	struct vfio_region_info bar = {.argsz = sizeof(bar), .index = VFIO_PCI_BAR0_REGION_INDEX};
	struct vfio_region_info space = {.argsz = sizeof(space), .index = VFIO_PCI_CONFIG_REGION_INDEX};
	uint16_t command = PCI_MEMORY_AND_MASTER;

	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &bar) < 0 || ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &space) < 0)
		return errno;
	registers = bar.offset;
	config = space.offset;
	return pwrite(device, &command, sizeof(command), (off_t)config + PCI_COMMAND) < 0 ? errno : 0;
}

static int connect_interrupt(void)
{
	union {
		struct vfio_irq_set set;
		char room[sizeof(struct vfio_irq_set) + sizeof(int)];
	} irq = {.set = {
		.argsz = sizeof(irq.room),
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_MSI_IRQ_INDEX,
		.count = 1,
	}};

	if (completion < 0 && (completion = eventfd(0, EFD_CLOEXEC)) < 0)
		return errno;
	memcpy(irq.set.data, &completion, sizeof(completion));
	return ioctl(device, VFIO_DEVICE_SET_IRQS, &irq) < 0 ? errno : 0;
}

static int open_group(const char *slot)
{
	char path[300], target[256], *name;
	ssize_t n;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/iommu_group", slot);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -1;
	target[n] = 0;
	name = strrchr(target, '/');
	snprintf(path, sizeof(path), "/dev/vfio%s", name ? name : "");
	return open(path, O_RDWR | O_CLOEXEC);
}

static int make_container(const char *slot)
{
	container = open("/dev/vfio/vfio", O_RDWR); /* a program started by exec() can pin memory too */
	group = open_group(slot);
	if (container < 0 || group < 0)
		return errno;
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) < 0 ||
	    ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
		return errno;
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, slot);
	return device < 0 ? errno : fcntl(device, F_SETFD, FD_CLOEXEC) < 0 ? errno : 0;
}

/* Everything that the device and its container are made of, with the device's table filled. */
static int start_device(const char *slot)
{
	int error = make_container(slot);

	if (!error)
		error = find_regions();
	if (!error)
		error = connect_interrupt();
	if (!error)
		error = map(container, BOUNCE_IOVA, bounce, PAGE, true);
	for (uint64_t word = 0; word < N_WORDS && !error; word++)
		bounce[word] = word;
	if (!error)
		error = transfer(BOUNCE_IOVA, DMA_BUFFER, N_WORDS * sizeof(uint64_t), false);
	return error;
}

/* The group's last device gone, it leaves its container, whoever else has that open: all mappings and pins end. */
static void stop_device(void)
{
	if (device >= 0)
		close(device);
	if (group >= 0) {
		ioctl(group, VFIO_GROUP_UNSET_CONTAINER);
		close(group);
	}
	if (container >= 0)
		close(container);
	device = group = container = -1;
}

static const char *vfio_probe(void)
{
	static char problem[96];
	const char *slot = find_edu();
	char path[300];
	int error;

	if (!slot[0])
		return "there is no edu device, which QEMU emulates: it needs a virtual machine";
	bounce = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (bounce == MAP_FAILED || madvise(bounce, PAGE, MADV_DONTFORK) < 0)
		return "there is no memory";
	if (access("/dev/vfio/vfio", F_OK) < 0)
		return "the kernel has no VFIO";
	snprintf(path, sizeof(path), PCI_DEVICES "%s/driver_override", slot);
	write_text(path, "vfio-pci");
	write_text("/sys/bus/pci/drivers_probe", slot);
	error = start_device(slot);
	if (!error)
		return NULL;
	snprintf(problem, sizeof(problem), "the device could not be opened: %s", strerror(error));
	stop_device();
	return problem;
}

static uint64_t iova_of(int pin)
{
	return (uint64_t)(pin + 1) * IOVA_DISTANCE;
}

static int vfio_open(int pin)
{
	test.pins[pin].fd = container;
	return iova_of(pin + 1) <= EDU_REACH ? 0 : ENOSPC;
}

/* A test process has the container alone: the device ends when the coordinator closes it. */
static void vfio_disown(void)
{
	if (device >= 0)
		close(device);
	if (group >= 0)
		close(group);
}

/* VFIO_DMA_MAP_FLAG_WRITE is what makes it FOLL_WRITE; FOLL_LONGTERM it always is. */
static struct reply vfio_hold(const struct request *rq)
{
	int error = map(rq->fd, iova_of(rq->pin), (void *)(uintptr_t)rq->addr, rq->len, rq->writable);

	return error ? failure(error) : success(0);
}

static struct reply vfio_let_go(const struct request *rq)
{
	return success(unmap(rq->fd, iova_of(rq->pin), rq->len));
}

static bool is_only_one(int pin)
{
	for (int i = 0; i < test.n_pins; i++)
		if (i != pin && test.pins[i].held && test.pins[i].backend == &vfio)
			return false;
	return true;
}

static struct reply vfio_release(int pin)
{
	const struct pin *which = &test.pins[pin];
	int error;

	if (!which->taken || unmap(container, iova_of(pin), which->len) || ask_to_let_go(pin))
		return success(0);
	if (!is_only_one(pin))
		return failure(EBUSY); /* v5.10: who mapped it is gone, and the others' mappings are in the same container */
	stop_device();
	error = start_device(find_edu());
	return error ? failure(error) : success(0);
}

/*
 * How often the IOMMU has reported a fault. The kernel's log tells more, though not more than a few times in five seconds;
 * nothing else in the machine works through the IOMMU.
 */
static uint64_t faults(void)
{
	FILE *interrupts = fopen("/proc/interrupts", "re");
	uint64_t count = 0;
	char line[512];

	while (interrupts && fgets(line, sizeof(line), interrupts)) {
		if (!strstr(line, " dmar"))
			continue;
		strtok(line, ":");
		for (char *per_cpu = strtok(NULL, " "); per_cpu && isdigit(*per_cpu); per_cpu = strtok(NULL, " "))
			count += strtoull(per_cpu, NULL, 10);
	}
	if (interrupts)
		fclose(interrupts);
	return count;
}

/* Between the pinned memory and the device's own, and from there to where the coordinator can see it. */
static int access_memory(uint64_t iova, uint64_t *value, bool device_writes)
{
	int error;

	if (device_writes)
		return transfer(DMA_BUFFER + *value * sizeof(*value), iova, sizeof(*value), true);
	error = transfer(iova, READ_AT, sizeof(*value), false);
	if (!error)
		error = transfer(READ_AT, BOUNCE_IOVA, sizeof(*value), true);
	*value = bounce[0];
	return error;
}

static struct reply vfio_dma(int pin, const struct step *step)
{
	uint64_t value = step->value, before = faults();
	int error;

	if (step->op == DMA_WRITE && value >= N_WORDS)
		return failure(ERANGE);
	error = access_memory(iova_of(pin) + pin_offset(step), &value, step->op == DMA_WRITE);
	if (error)
		return failure(error);
	return faults() == before ? success(value) : (struct reply){IOMMU_FAULT, 0};
}

const struct backend vfio = {
	.name = "vfio",
	.probe = vfio_probe,
	.open = vfio_open,
	.disown = vfio_disown,
	.hold = vfio_hold,
	.let_go = vfio_let_go,
	.dma = vfio_dma,
	.release = vfio_release,
	.late = true,
};
