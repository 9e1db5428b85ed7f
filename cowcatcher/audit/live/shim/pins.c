/* Registered memory: who registers it, how it is mapped, and whether the allocator gets it back too early. */
#include "shim.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/ioctl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PINS 65536

struct pinned {
	uintptr_t start, end, handle;
};

/* Sorted by start. Found by free() only while there is any. */
static struct pinned table[PINS];
static size_t widest;
atomic_int pins;
static struct lock lock = { ATOMIC_FLAG_INIT };
static atomic_uint turn; /* odd: the table is being changed */
/* Somebody had to change the table, and could not: it is worth nothing. */
static atomic_bool spoiled;

/* False: it is another process's, or the lock cannot be had. */
static bool take(void)
{
	if (!own_process())
		return false;
	if (!try_lock(&lock)) {
		atomic_store(&spoiled, true);
		LOST_ONCE("memory was registered or given back while that was looked at: free() of pinned memory is not seen");
		return false;
	}
	atomic_fetch_add(&turn, 1);
	if (unlikely(atomic_exchange(&spoiled, false)))
		atomic_store(&pins, 0);
	return true;
}

static void drop(void)
{
	atomic_fetch_add(&turn, 1);
	unlock(&lock);
}

/* The first pin that does not begin before addr. */
static size_t position(uintptr_t addr)
{
	size_t low = 0, high = atomic_load(&pins);

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (table[middle].start < addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void pin(uintptr_t handle, const void *addr, size_t len)
{
	struct pinned new = { (uintptr_t)addr, (uintptr_t)addr + len, handle };
	bool full = false;
	size_t at;

	take_interest();
	if (!addr || !len || !take())
		return;
	if ((size_t)atomic_load(&pins) < PINS) {
		at = position(new.start);
		memmove(table + at + 1, table + at, (atomic_load(&pins) - at) * sizeof(new));
		table[at] = new;
		if (len > widest)
			widest = len;
		atomic_fetch_add(&pins, 1);
	} else {
		full = true;
	}
	drop();
	if (full)
		lost("more than 65536 pins at a time: free() of later ones is not seen");
}

static void unpin_masked(uintptr_t handle, uintptr_t mask)
{
	size_t from, to = 0;

	if (!take())
		return;
	for (from = 0; from < (size_t)atomic_load(&pins); from++)
		if ((table[from].handle & mask) != handle)
			table[to++] = table[from];
	atomic_store(&pins, to);
	if (!to)
		widest = 0;
	drop();
}

void unpin(uintptr_t handle)
{
	unpin_masked(handle, UINTPTR_MAX);
}

void unpin_fd(int fd)
{
	unpin_masked(HANDLE_OF_FD(fd), HANDLE_OF_FD(UINT32_MAX));
}

/* Without the lock: while it looks, the table may change, and is looked through again. */
static bool overlap_at(uintptr_t start, uintptr_t end, struct pinned *found)
{
	size_t at = position(start > widest ? start - widest : 0), last = position(end);

	for (; at < last; at++) {
		*found = table[at];
		if (found->end > start && found->start < end)
			return true;
	}
	return false;
}

static bool first_overlap(uintptr_t start, uintptr_t end, struct pinned *found)
{
	for (int i = 0; i < 1000 && !atomic_load(&spoiled); i++) {
		unsigned int before = atomic_load(&turn);
		bool any = !(before & 1) && overlap_at(start, end, found);

		atomic_thread_fence(memory_order_acquire);
		if (!(before & 1) && atomic_load(&turn) == before)
			return any;
	}
	LOST_ONCE("memory was freed while registrations changed: whether it was pinned is not seen");
	return false;
}

static void say_pinned(const char *name, uintptr_t start, size_t len, const struct pinned *p)
{
	struct word w;

	word(&w, name);
	add_hex(&w, "addr", start);
	add_int(&w, "len", len);
	if (p)
		add_hex(&w, "h", p->handle);
	add_stack(&w);
	say(&w);
}

void freeing(const void *block, size_t len)
{
	uintptr_t start = (uintptr_t)block, end = start + len;
	struct pinned p;

	if (first_overlap(start, end, &p)) {
		if (start < p.start)
			start = p.start;
		if (end > p.end)
			end = p.end;
		say_pinned("freed", start, end - start, &p);
	}
}

void pins_in_child(void)
{
	/* Registrations stay with the parent. */
	unlock(&lock);
	atomic_store(&turn, 0);
	atomic_store(&spoiled, false);
	atomic_store(&pins, 0);
	widest = 0;
}

/* --- how memory is mapped --------------------------------------------------------------------------------------- */

/* <linux/fs.h> of 6.11 and later */
struct map_query {
	uint64_t size, flags, addr, start, end, vma_flags, page_size, offset, inode;
	uint32_t major, minor, name_size, build_id_size;
	uint64_t name, build_id;
};
#define MAP_QUERY _IOWR('f', 17, struct map_query)
#define QUERY_NEXT 0x10

struct vma {
	uintptr_t start, end;
	char prot[4];
	bool shared;
	unsigned long page;
	char what[256];
};

#define SAID 64
static struct {
	uintptr_t start, end;
} said[SAID];
static atomic_uint said_count;
/* All that was ever said lies between. */
static atomic_uintptr_t lowest = UINTPTR_MAX, highest;

void forget_vma(void)
{
	atomic_store_explicit(&said_count, 0, memory_order_relaxed);
}

static bool said_before(uintptr_t start, uintptr_t end)
{
	unsigned int count = atomic_load(&said_count);

	for (unsigned int i = 0; i < count && i < SAID; i++)
		if (said[i].start <= start && said[i].end >= end)
			return true;
	return false;
}

static void say_vma(const struct vma *v)
{
	unsigned int at = atomic_fetch_add(&said_count, 1);
	struct word w;

	if (v->start < atomic_load(&lowest))
		atomic_store(&lowest, v->start);
	if (v->end > atomic_load(&highest))
		atomic_store(&highest, v->end);
	if (at < SAID) {
		said[at].start = v->start;
		said[at].end = v->end;
	}
	word(&w, "vma");
	add_hex(&w, "start", v->start);
	add_hex(&w, "end", v->end);
	add_text(&w, "prot", v->prot);
	add_int(&w, "shared", v->shared);
	add_int(&w, "page", v->page);
	add_text(&w, "what", v->what);
	say(&w);
}

/* The mapping at addr, or the next one. */
static bool query(int fd, uintptr_t addr, struct vma *v)
{
	struct map_query q = { .size = sizeof(q), .flags = QUERY_NEXT, .addr = addr };

	q.name = (uintptr_t)v->what;
	q.name_size = sizeof(v->what);
	v->what[0] = 0;
	if (raw3(SYS_ioctl, fd, MAP_QUERY, &q) < 0)
		return false;
	v->start = q.start;
	v->end = q.end;
	v->page = q.page_size;
	v->shared = q.vma_flags & 8;
	v->prot[0] = q.vma_flags & 1 ? 'r' : '-';
	v->prot[1] = q.vma_flags & 2 ? 'w' : '-';
	v->prot[2] = q.vma_flags & 4 ? 'x' : '-';
	v->prot[3] = 0;
	return true;
}

static const char *hex(const char *s, uintptr_t *value)
{
	for (*value = 0;; s++) {
		int digit = *s >= '0' && *s <= '9' ? *s - '0' : *s >= 'a' && *s <= 'f' ? *s - 'a' + 10 : -1;

		if (digit < 0)
			return s;
		*value = *value << 4 | (uintptr_t)digit;
	}
}

/* "7f00-7f01 rw-p 00000000 00:00 0   [heap]" */
static bool parse(const char *s, struct vma *v)
{
	size_t len = 0;

	s = hex(s, &v->start);
	if (*s++ != '-')
		return false;
	s = hex(s, &v->end);
	if (strlen(s) < 5)
		return false;
	memcpy(v->prot, s + 1, 3);
	v->prot[3] = 0;
	v->shared = s[4] == 's';
	v->page = 0;
	for (int column = 0; column < 5 && *s; column++) {
		while (*s == ' ')
			s++;
		if (column < 4)
			while (*s && *s != ' ')
				s++;
	}
	while (*s >= '0' && *s <= '9')
		s++;
	while (*s == ' ')
		s++;
	while (s[len] && len < sizeof(v->what) - 1)
		len++;
	memcpy(v->what, s, len);
	v->what[len] = 0;
	return true;
}

/* Line by line, where the kernel has no query: as long as the list of mappings is. */
static void scan(int fd, uintptr_t start, uintptr_t end)
{
	char buffer[4096 + 128];
	size_t have = 0;
	struct vma v;
	long got;

	while ((got = raw3(SYS_read, fd, buffer + have, sizeof(buffer) - 1 - have)) > 0) {
		char *line = buffer, *stop;

		have += got;
		buffer[have] = 0;
		while ((stop = strchr(line, '\n'))) {
			*stop = 0;
			if (parse(line, &v) && v.start < end && v.end > start)
				say_vma(&v);
			if (v.start >= end)
				return;
			line = stop + 1;
		}
		have = buffer + have - line;
		memmove(buffer, line, have);
	}
}

void report_vma(const void *addr, size_t len)
{
	uintptr_t start = (uintptr_t)addr & ~(PAGE - 1), end = ((uintptr_t)addr + len + PAGE - 1) & ~(PAGE - 1);
	struct vma v;
	int fd, most = 64;

	if (said_before(start, end))
		return;
	fd = raw6(SYS_openat, AT_FDCWD, (long)"/proc/self/maps", O_RDONLY | O_CLOEXEC, 0, 0, 0);
	if (fd < 0)
		return;
	if (!query(fd, start, &v)) {
		scan(fd, start, end);
	} else {
		do {
			if (v.start >= end)
				break;
			say_vma(&v);
		} while (v.end < end && --most && query(fd, v.end, &v));
	}
	raw3(SYS_close, fd, 0, 0);
}

/* This memory is unmapped, or something else is mapped over it. Nobody need know who knows nothing of it. */
void gone(const void *addr, size_t len)
{
	uintptr_t start = (uintptr_t)addr;

	forget_vma();
	if (atomic_load_explicit(&watched_bytes, memory_order_relaxed))
		bytes_gone(start, start + len);
	if (start < atomic_load(&highest) && start + len > atomic_load(&lowest))
		say_pinned("unmapped", start, len, NULL);
}

/* --- the allocator ---------------------------------------------------------------------------------------------- */

static _Thread_local bool resolving __attribute__((tls_model("initial-exec")));
static void (*next_free)(void *);
static void *(*next_realloc)(void *, size_t);

static bool resolve(void)
{
	if (resolving)
		return false;
	resolving = true;
	next_realloc = (void *(*)(void *, size_t))next_symbol("realloc");
	next_free = (void (*)(void *))next_symbol("free");
	resolving = false;
	return next_free && next_realloc;
}

/*
 * glibc gives a large block back with a munmap() that no wrapper sees. Such a block begins a page, but for its header,
 * which has a bit that says so. Other allocators have other headers, and call munmap() as everybody does.
 */
struct chunk {
	size_t before, size;
};
#define IS_MMAPPED 2

static bool glibc_frees(void)
{
	static atomic_int answer; /* 1: yes, 2: no */

	if (unlikely(!atomic_load(&answer)))
		atomic_store(&answer, same_module((void *)next_free, (void *)getpid) ? 1 : 2);
	return atomic_load(&answer) == 1;
}

/* A block's length, by the allocator that it is from; 0: that has no function for it, or another one's is found. */
static size_t length_of(void *block)
{
	static atomic_int answer;

	if (unlikely(!atomic_load(&answer)))
		atomic_store(&answer, same_module((void *)next_free, (void *)NEXT(malloc_usable_size)) ? 1 : 2);
	if (atomic_load(&answer) == 1)
		return NEXT(malloc_usable_size)(block);
	LOST_ONCE("this allocator does not say how long its blocks are: free() of pinned memory is not seen");
	return 0;
}

void find_allocator(void)
{
	resolve();
	glibc_frees();
}

static void unmapping_block(uintptr_t block)
{
	const struct chunk *chunk = (const void *)(block - sizeof(*chunk));

	if (glibc_frees() && chunk->size & IS_MMAPPED)
		gone((void *)((uintptr_t)chunk - chunk->before), (chunk->size & ~7ul) + chunk->before);
}

static void before_free(void *block)
{
	int saved = errno;

	size_t len;

	if (atomic_load_explicit(&pins, memory_order_relaxed) && (len = length_of(block)))
		freeing(block, len);
	if (((uintptr_t)block & (PAGE - 1)) <= sizeof(struct chunk))
		unmapping_block((uintptr_t)block);
	errno = saved;
}

EXPORT void free(void *block)
{
	/* While the real one is looked up, what is freed stays: a few bytes of the dynamic linker's, once. */
	if (unlikely(!next_free) && !resolve())
		return;
	if (unlikely(atomic_load_explicit(&interesting, memory_order_relaxed)) && block)
		before_free(block);
	next_free(block);
}

EXPORT void *realloc(void *block, size_t size)
{
	size_t len = 0;
	void *new;

	if (unlikely(!next_realloc) && !resolve())
		return NULL;
	if (unlikely(atomic_load_explicit(&pins, memory_order_relaxed)) && block)
		len = length_of(block);
	new = next_realloc(block, size);
	if (len && new != block && (new || !size)) {
		int saved = errno;

		forget_vma();
		freeing(block, len);
		errno = saved;
	}
	return new;
}

/* --- libibverbs --------------------------------------------------------------------------------------------------- */

struct ibv_pd;
struct ibv_mr;

/* Registering functions call each other; the outermost is the one that the program asked for. */
static _Thread_local int inside __attribute__((tls_model("initial-exec")));

static void *verbs(const char *name)
{
	void *found = next_symbol(name), *library;

	/* Loaded after us, for a plugin: no next one in the order of symbols. */
	if (!found && (library = dlopen("libibverbs.so.1", RTLD_LAZY | RTLD_NOLOAD))) {
		found = libibverbs_own(library, name);
		dlclose(library);
	}
	return found;
}

static void say_library(void *symbol)
{
	static atomic_bool done;
	static char path[PATH_MAX];
	struct word w;
	const char *version;
	struct module module;

	if (atomic_load(&silent) || atomic_exchange(&done, true) || !find_module(symbol, &module))
		return;
	if (!realpath(module.path, path) || !(version = strstr(path, ".so.")))
		return;
	/* libibverbs.so.1.14.44.0: the ABI, then rdma-core's version. */
	version += 4;
	for (int dots = 0; dots < 2 && strchr(version, '.'); dots++)
		version = strchr(version, '.') + 1;
	word(&w, "library");
	add_text(&w, "name", "libibverbs");
	add_text(&w, "version", version);
	add_text(&w, "path", path);
	say(&w);
}

static struct ibv_mr *registered(struct ibv_mr *mr, void *symbol, void *addr, size_t len, unsigned int access)
{
	int saved = errno;
	struct word w;

	if (--inside || !mr)
		return mr;
	take_interest();
	say_library(symbol);
	report_vma(addr, len);
	word(&w, "reg_mr");
	add_hex(&w, "h", (uintptr_t)mr);
	add_hex(&w, "addr", (uintptr_t)addr);
	add_int(&w, "len", len);
	add_hex(&w, "access", access);
	add_stack(&w);
	say(&w);
	pin((uintptr_t)mr, addr, len);
	errno = saved;
	return mr;
}

#define VERBS(result, name, otherwise, parameters, ...)                                                                \
	static result(*next_##name) parameters;                                                                        \
	if (unlikely(!next_##name) && !(next_##name = (result(*) parameters)verbs(#name))) {                           \
		errno = ENOSYS;                                                                                        \
		return otherwise;                                                                                      \
	}

EXPORT struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t len, int access)
{
	VERBS(struct ibv_mr *, ibv_reg_mr, NULL, (struct ibv_pd *, void *, size_t, int))
	inside++;
	return registered(next_ibv_reg_mr(pd, addr, len, access), next_ibv_reg_mr, addr, len, access);
}

EXPORT struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t len, uint64_t iova, int access)
{
	VERBS(struct ibv_mr *, ibv_reg_mr_iova, NULL, (struct ibv_pd *, void *, size_t, uint64_t, int))
	inside++;
	return registered(next_ibv_reg_mr_iova(pd, addr, len, iova, access), next_ibv_reg_mr_iova, addr, len, access);
}

EXPORT struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t len, uint64_t iova, unsigned int access)
{
	VERBS(struct ibv_mr *, ibv_reg_mr_iova2, NULL, (struct ibv_pd *, void *, size_t, uint64_t, unsigned int))
	inside++;
	return registered(next_ibv_reg_mr_iova2(pd, addr, len, iova, access), next_ibv_reg_mr_iova2, addr, len, access);
}

EXPORT int ibv_dereg_mr(struct ibv_mr *mr)
{
	struct word w;
	int ret, saved;

	VERBS(int, ibv_dereg_mr, ENOSYS, (struct ibv_mr *))
	/* The library frees its own record of it: that is not the program's memory. */
	inside++;
	ret = next_ibv_dereg_mr(mr);
	saved = errno;
	if (!--inside && !ret) {
		unpin((uintptr_t)mr);
		word(&w, "dereg_mr");
		add_hex(&w, "h", (uintptr_t)mr);
		say(&w);
	}
	errno = saved;
	return ret;
}

EXPORT int ibv_fork_init(void)
{
	struct word w;
	int ret, saved;

	VERBS(int, ibv_fork_init, ENOSYS, (void))
	ret = next_ibv_fork_init();
	saved = errno;
	take_interest();
	say_library(next_ibv_fork_init);
	word(&w, "fork_init");
	add_int(&w, "rc", ret);
	add_stack(&w);
	say(&w);
	errno = saved;
	return ret;
}

const struct verb verbs_of_ours[] = {
	{ "ibv_reg_mr", ibv_reg_mr },	    { "ibv_reg_mr_iova", ibv_reg_mr_iova }, { "ibv_reg_mr_iova2", ibv_reg_mr_iova2 },
	{ "ibv_dereg_mr", ibv_dereg_mr },   { "ibv_fork_init", ibv_fork_init },	    { NULL, NULL },
};
