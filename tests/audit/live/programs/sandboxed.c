/*
 * Forbids itself most system calls on pain of death, or (a second word) message queues only, then does what is worth a
 * word, or starts another program: with exec() or by the bare system call.
 */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define DENY(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))

static struct sock_filter few[] = {
	NUMBER, ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_exit_group), ALLOW(SYS_madvise), ALLOW(SYS_munmap),
	ALLOW(SYS_close), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
};
static struct sock_filter most[] = {
	NUMBER, DENY(SYS_mq_open), DENY(SYS_mq_unlink), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

int main(int count, char **words)
{
	struct sock_fprog tight = { sizeof(few) / sizeof(*few), few }, loose = { sizeof(most) / sizeof(*most), most };
	char *argv[] = { "echo", "done", NULL }, *page, c;
	int zero = open("/dev/zero", O_RDONLY);
	extern char **environ;

	page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (dup2(zero, 50) != 50 || madvise(page, 4096, MADV_DONTFORK))
		return 3;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (count > 1 && !strcmp(words[1], "bare")) {
		if (syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &loose, 0, 0))
			return 77;
		syscall(SYS_execve, "/bin/echo", argv, environ);
		return 4;
	}
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, count > 1 ? &loose : &tight))
		return 77;
	if (count > 1) {
		execv("/bin/echo", argv);
		return 4;
	}
	free(malloc(4000));
	if (read(50, &c, 1) != 1 || madvise(page, 8192, MADV_DONTFORK) || munmap(page, 8192) || close(50))
		return 5;
	_exit(write(1, "done\n", 5) != 5);
}
