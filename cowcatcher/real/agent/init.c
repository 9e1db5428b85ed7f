// SPDX-License-Identifier: Apache-2.0
/*
 * The agent as the first process of a virtual machine (`--init`, given to it by the kernel's command line).
 *
 * It makes the machine ready, says on the channel what there is, lets an ordinary agent execute the tests of TESTS, and
 * powers off. The console, ttyS0, is left to the kernel and to complaints; the channel is shared memory (channel.c), or
 * ttyS1 in a machine or for a kernel that has none, at the cost of an exit to QEMU for every character. What it says itself are lines that begin with "init" (real/vm.py reads them):
 *
 *     init release RELEASE        uname -r
 *     init uptime MS              how long the kernel took until here
 *     init swap 0|1               is a swap area in use?
 *     init soft_dirty 0|1         does the kernel track which pages are written?
 *     init ksm 0|1                can the kernel merge equal pages?
 *     init nodes N                how many memory nodes there are
 *     init problem WHAT NAME ERRNO
 *     init ready                  from here on it is the agent that speaks
 *     init end STATUS             it has come to its end; the machine follows
 */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define CHANNEL "/dev/ttyS1"
#define TESTS "/tests" /* what the agent reads */
#define MODULES "/modules" /* paths of kernel modules, one a line, each after those that it needs */
#define FILES "/tmp" /* where file mappings get their files */
#define SWAP_FILE FILES "/swap"
#define SWAP_SIZE (64 << 20)
#define KSM "/sys/kernel/mm/ksm/"
#define SECOND_NODE "/sys/devices/system/node/node1"

static void problem(const char *what, const char *name)
{
	printf("init problem %s %s %d\n", what, name, errno);
}

static void mount_at(const char *type, const char *where)
{
	mkdir(where, 0755);
	if (mount(type, where, type, 0, NULL) < 0 && errno != EBUSY) /* a kernel may have mounted /dev by itself */
		problem("mount", where);
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	int error = errno;

	if (fd >= 0)
		close(fd);
	errno = error;
	return written;
}

static void set(const char *path, const char *text)
{
	if (!write_file(path, text) && errno != ENOENT) /* what a kernel was built without, it does not have */
		problem("set", path);
}

static bool shared; /* is the channel memory? */

/* Standard output becomes the channel. A serial line as it is: no line editing, no translation of line ends. */
static void open_channel(void)
{
	int fd = open_channel_memory();
	struct termios raw;

	if (fd >= 0) {
		dup2(fd, STDOUT_FILENO);
		close(fd);
		shared = tell_through_memory(STDOUT_FILENO);
		if (shared)
			return;
	}
	fd = open(CHANNEL, O_RDWR | O_NOCTTY);
	if (fd < 0 || tcgetattr(fd, &raw) < 0) {
		perror("init: " CHANNEL);
		return;
	}
	cfmakeraw(&raw);
	raw.c_cflag |= CLOCAL;
	tcsetattr(fd, TCSANOW, &raw);
	dup2(fd, STDOUT_FILENO);
	close(fd);
	setvbuf(stdout, NULL, _IOLBF, 0);
}

void load_modules(void)
{
	FILE *list = fopen(MODULES, "re");
	char path[256];

	while (list && fgets(path, sizeof(path), list)) {
		int fd;

		path[strcspn(path, "\n")] = 0;
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if ((fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0) && errno != EEXIST)
			problem("module", path);
		if (fd >= 0)
			close(fd);
	}
	if (list)
		fclose(list);
}

/* What mkswap(8) writes: see union swap_header in the kernel's include/linux/swap.h. */
static bool make_swap_area(const char *path)
{
	static char page[PAGE];
	const uint32_t version = 1, last_page = SWAP_SIZE / PAGE - 1;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	bool made;

	memcpy(page + 1024, &version, sizeof(version));
	memcpy(page + 1028, &last_page, sizeof(last_page));
	memcpy(page + PAGE - 10, "SWAPSPACE2", 10);
	made = fd >= 0 && ftruncate(fd, SWAP_SIZE) == 0 && pwrite(fd, page, PAGE, 0) == PAGE;
	if (fd >= 0)
		close(fd);
	return made;
}

/*
 * A loop device on a file in memory, because that is to the kernel what a disk is. zram and brd answer at once
 * (SWP_SYNCHRONOUS_IO): there, what is read back never comes into the swap cache, and tests about that come out otherwise.
 */
static bool have_swap(void)
{
	int control, file, device, number;
	char path[32];
	bool ok;

	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return false;
	number = ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	snprintf(path, sizeof(path), "/dev/loop%d", number);
	if (!make_swap_area(SWAP_FILE)) {
		problem("swap", SWAP_FILE);
		return false;
	}
	file = open(SWAP_FILE, O_RDWR | O_CLOEXEC);
	device = open(path, O_RDWR | O_CLOEXEC);
	ok = ioctl(device, LOOP_SET_FD, file) == 0 && swapon(path, 0) == 0;
	if (!ok)
		problem("swap", path);
	close(device);
	close(file);
	return ok;
}

/* Memory just written says so, if anything is tracked at all. */
static bool have_soft_dirty(void)
{
	volatile char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	*page = 1;
	if (pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)page / PAGE * sizeof(entry))) != sizeof(entry))
		entry = 0;
	close(fd);
	munmap((void *)page, PAGE);
	return entry >> 55 & 1;
}

static void make_ready(void)
{
	struct timespec up;
	struct utsname name;

	mount_at("devtmpfs", "/dev");
	mount_at("sysfs", "/sys");
	open_channel();
	mount_at("proc", "/proc");
	mount_at("tmpfs", FILES);
	load_modules();
	set("/proc/sys/vm/nr_hugepages", "16");
	set("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
	set("/proc/sys/kernel/numa_balancing", "0"); /* it moves pages on its own account */
	set(KSM "pages_to_scan", "100000");
	set(KSM "sleep_millisecs", "1");
	set(KSM "smart_scan", "0"); /* since 6.7 it skips for some scans what did not merge */
	uname(&name);
	clock_gettime(CLOCK_BOOTTIME, &up);
	printf("init release %s\n", name.release);
	printf("init uptime %" PRIu64 "\n", (uint64_t)up.tv_sec * 1000 + (uint64_t)up.tv_nsec / 1000000);
	printf("init swap %d\n", have_swap());
	printf("init soft_dirty %d\n", have_soft_dirty());
	printf("init ksm %d\n", access(KSM "run", W_OK) == 0);
	printf("init nodes %d\n", access(SECOND_NODE, F_OK) == 0 ? 2 : 1);
	printf("init ready\n");
}

static _Noreturn void become_agent(void)
{
	int tests = open(TESTS, O_RDONLY | O_CLOEXEC);

	if (tests < 0 || dup2(tests, STDIN_FILENO) < 0)
		perror("init: " TESTS);
	else
		execl("/proc/self/exe", "agent", "--files", FILES, "--own-machine", shared ? "--shared" : NULL, NULL);
	_exit(127);
}

_Noreturn void run_as_init(void)
{
	int status = 0;
	pid_t agent, pid;

	make_ready();
	fflush(stdout);
	agent = fork();
	if (agent == 0)
		become_agent();
	while ((pid = wait(&status)) != agent && (pid >= 0 || errno == EINTR))
		; /* an orphan of a test */
	printf("init end %d\n", status);
	fflush(stdout);
	if (!shared)
		tcdrain(STDOUT_FILENO);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
