/* A user of libibverbs: linked with it, or one that looks its functions up. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct ibv_mr;
struct ibv_mr *ibv_reg_mr(void *pd, void *addr, size_t len, int access);
int ibv_dereg_mr(struct ibv_mr *mr);
int ibv_fork_init(void);

#ifdef LOOKED_UP
#define TAKE(name) __typeof__(&name) name##_ = (__typeof__(&name))dlsym(dlopen("libibverbs.so.1", RTLD_NOW), #name)
#else
#define TAKE(name) __typeof__(&name) name##_ = name
#endif

int main(void)
{
	TAKE(ibv_reg_mr);
	TAKE(ibv_dereg_mr);
	TAKE(ibv_fork_init);
	char *buffer = malloc(3000);
	struct ibv_mr *mr;
	int pd;

	printf("%p\n", buffer);
	fflush(stdout);
	if (ibv_fork_init_())
		return 1;
	if (ibv_reg_mr_(NULL, buffer, 3000, 7) || errno != EINVAL)
		return 2;
	errno = 1234;
	mr = ibv_reg_mr_(&pd, buffer, 3000, 7);
	if (!mr || errno != 1234)
		return 3;
	if (!fork())
		_exit(0);
	wait(NULL);
	errno = 1234;
	if (ibv_dereg_mr_(mr) || errno != 1234)
		return 4;
	free(buffer);
	return 0;
}
