/* SPDX-License-Identifier: Apache-2.0 */
/*
 * open-mpi/ompi#415, mpi_warn_on_fork: the shared-memory transport copies by process_vm_readv(), which refers to the pages
 * that it reads, and a fork happens meanwhile. The copy waits for the page that it writes to: userfaultfd.
 *
 * find: direct-io-across-fork buffer any
 * only: live
 * needs: userfaultfd
 */
#include "corpus.h"

#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>

static char *buffer, *late;

static void *copier(void *unused)
{
	struct iovec to = {late, PAGE}, from = {buffer, PAGE};

	need(process_vm_readv(getpid(), &to, 1, &from, 1, 0) == PAGE, "process_vm_readv");
	return unused;
}

int main(void)
{
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register watch = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	struct uffdio_zeropage answer = {0};
	struct uffd_msg fault;
	struct child child;
	pthread_t thread;

	need(uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api), "userfaultfd");
	buffer = pages(1);
	late = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	watch.range.start = answer.range.start = (uintptr_t)late;
	watch.range.len = answer.range.len = PAGE;
	need(!ioctl(uffd, UFFDIO_REGISTER, &watch), "UFFDIO_REGISTER");
	say("buffer", buffer, PAGE);
	pthread_create(&thread, NULL, copier, NULL);
	need(read(uffd, &fault, sizeof(fault)) == sizeof(fault), "no fault"); /* the copy is under way */
	child = fork_waiting();
	need(!ioctl(uffd, UFFDIO_ZEROPAGE, &answer), "UFFDIO_ZEROPAGE");
	pthread_join(thread, NULL);
	let_go(child);
	printf("copied %c\n", late[0]);
	return 0;
}
