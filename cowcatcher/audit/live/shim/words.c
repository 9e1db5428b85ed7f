/* Words are put together on the stack and said with one system call. */
#include "shim.h"

#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <unwind.h>

#define FRAMES 8

atomic_bool silent;
atomic_bool interesting;

static pid_t home;

bool own_process(void)
{
	pid_t pid = raw3(SYS_getpid, 0, 0, 0);

	if (unlikely(!home) && pid > 0)
		home = pid;
	return pid == home;
}

void new_process(void)
{
	home = raw3(SYS_getpid, 0, 0, 0);
}

#define SPINS 200
#define YIELDS 50

bool try_lock(struct lock *lock)
{
	for (int i = 0; i < SPINS + YIELDS; i++) {
		if (!atomic_flag_test_and_set_explicit(&lock->held, memory_order_acquire))
			return true;
		if (i >= SPINS)
			raw3(SYS_sched_yield, 0, 0, 0);
	}
	return false;
}

void unlock(struct lock *lock)
{
	atomic_flag_clear_explicit(&lock->held, memory_order_release);
}

int open_memory(void)
{
	int memory = raw6(SYS_openat, AT_FDCWD, (long)"/proc/self/mem", O_RDONLY | O_CLOEXEC, 0, 0, 0);

	if (memory < 0)
		LOST_ONCE("/proc/self/mem cannot be opened: lists of buffers, and bytes in flight, are not looked at");
	return memory;
}

void close_memory(int memory)
{
	if (memory >= 0)
		raw3(SYS_close, memory, 0, 0);
}

bool read_memory(int memory, void *to, const void *from, size_t len)
{
	return memory >= 0 && raw6(SYS_pread64, memory, (long)to, len, (long)from, 0, 0) == (long)len;
}

bool peek(void *to, const void *from, size_t len)
{
	int memory = open_memory();
	bool fine = read_memory(memory, to, from, len);

	close_memory(memory);
	return fine;
}

void *next_symbol(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

extern struct next __start_cowcatcher_next[] __attribute__((visibility("hidden")));
extern struct next __stop_cowcatcher_next[] __attribute__((visibility("hidden")));

void find_all_next(void)
{
	for (struct next *n = __start_cowcatcher_next; n < __stop_cowcatcher_next; n++)
		if (!n->function)
			n->function = next_symbol(n->name);
}

static void add_raw(struct word *w, const char *text, size_t len)
{
	if (w->len + len >= sizeof(w->text))
		len = sizeof(w->text) - 1 - w->len;
	memcpy(w->text + w->len, text, len);
	w->len += len;
}

static void add_key(struct word *w, const char *key)
{
	add_raw(w, " ", 1);
	add_raw(w, key, strlen(key));
	add_raw(w, "=", 1);
}

void word(struct word *w, const char *name)
{
	static const char prefix[] = "/cowcatcher:";

	w->len = 0;
	add_raw(w, prefix, sizeof(prefix) - 1);
	add_raw(w, name, strlen(name));
}

static void put_hex(struct word *w, uintptr_t value)
{
	char digits[2 + 2 * sizeof(value)];
	size_t at = sizeof(digits);

	do {
		digits[--at] = "0123456789abcdef"[value & 15];
		value >>= 4;
	} while (value);
	digits[--at] = 'x';
	digits[--at] = '0';
	add_raw(w, digits + at, sizeof(digits) - at);
}

void add_hex(struct word *w, const char *key, uintptr_t value)
{
	add_key(w, key);
	put_hex(w, value);
}

void add_int(struct word *w, const char *key, long value)
{
	char digits[24];
	size_t at = sizeof(digits);
	unsigned long left = value < 0 ? -(unsigned long)value : (unsigned long)value;

	do {
		digits[--at] = '0' + left % 10;
		left /= 10;
	} while (left);
	if (value < 0)
		digits[--at] = '-';
	add_key(w, key);
	add_raw(w, digits + at, sizeof(digits) - at);
}

static bool plain(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("_./:+-@[]", c));
}

static void put_text(struct word *w, const char *value)
{
	for (; *value; value++) {
		unsigned char c = *value;
		char code[3] = { '%', "0123456789abcdef"[c >> 4], "0123456789abcdef"[c & 15] };

		if (plain(c))
			add_raw(w, value, 1);
		else if (w->len + sizeof(code) < sizeof(w->text))
			add_raw(w, code, sizeof(code));
	}
}

void add_text(struct word *w, const char *key, const char *value)
{
	add_key(w, key);
	put_text(w, value);
}

/* --- who called ----------------------------------------------------------------------------------------------------- */

/* <dlfcn.h> of glibc 2.35 and later. It takes no lock. */
struct found_object {
	unsigned long long flags;
	void *start, *end;
	struct link_map *map;
	void *more[16];
};
extern int find_object(void *pc, struct found_object *found) __asm__("_dl_find_object") __attribute__((weak));

struct asked {
	uintptr_t pc;
	struct module *module;
};

static int is_in(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct asked *asked = arg;
	uintptr_t start = UINTPTR_MAX, end = 0;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];
		uintptr_t at = info->dlpi_addr + part->p_vaddr;

		if (part->p_type != PT_LOAD)
			continue;
		start = at < start ? at & ~(PAGE - 1) : start;
		end = at + part->p_memsz > end ? at + part->p_memsz : end;
	}
	if (asked->pc < start || asked->pc >= end)
		return 0;
	*asked->module = (struct module){ start, info->dlpi_name };
	return 1;
}

/*
 * What dladdr() says waits for the dynamic linker's lock, which another thread has while it runs the constructors of a
 * library. The list of libraries has a lock of its own: that is held only while it changes.
 */
bool find_module(const void *pc, struct module *module)
{
	struct found_object found;
	struct asked asked = { (uintptr_t)pc, module };

	if (!find_object)
		return dl_iterate_phdr(is_in, &asked) > 0;
	if (find_object((void *)(uintptr_t)pc, &found))
		return false;
	*module = (struct module){ (uintptr_t)found.start, found.map->l_name };
	return true;
}

bool same_module(const void *one, const void *other)
{
	struct module a, b;

	return one && other && find_module(one, &a) && find_module(other, &b) && a.base == b.base;
}

struct walk {
	uintptr_t pc[FRAMES];
	uintptr_t self, top;
	int frames;
};

static _Unwind_Reason_Code walk_on(struct _Unwind_Context *context, void *arg)
{
	struct walk *walk = arg;
	struct module module;
	int interrupted = 0;
	uintptr_t pc = _Unwind_GetIPInfo(context, &interrupted), top = _Unwind_GetCFA(context);

	/* What a signal has interrupted may be between any two instructions, and a stack that grows the wrong way is none. */
	if (!pc || interrupted || top < walk->top || !find_module((void *)(pc - 1), &module))
		return _URC_END_OF_STACK;
	walk->top = top;
	if (module.base == walk->self)
		return _URC_NO_REASON;
	walk->pc[walk->frames++] = pc;
	return walk->frames < FRAMES ? _URC_NO_REASON : _URC_END_OF_STACK;
}

/*
 * At an address of which nothing is known, as on the stacks of coroutines and in assembly, the unwinder looks at the
 * instructions there, which may be no memory. So it comes back from there at once.
 */
struct dwarf_eh_bases;
const void *__real__Unwind_Find_FDE(void *pc, struct dwarf_eh_bases *bases);
const void *__wrap__Unwind_Find_FDE(void *pc, struct dwarf_eh_bases *bases);

#ifndef ONE_FRAME
struct way_out {
	void *registers[5];
	struct walk *walk;
};
static _Thread_local struct way_out *way_out __attribute__((tls_model("initial-exec")));

const void *__wrap__Unwind_Find_FDE(void *pc, struct dwarf_eh_bases *bases)
{
	const void *found = __real__Unwind_Find_FDE(pc, bases);
	struct way_out *out = way_out;
	struct module module;

	if (found || !out)
		return found;
	/* Its address may be told, though not who called it. */
	if (out->walk->frames < FRAMES && find_module(pc, &module))
		out->walk->pc[out->walk->frames++] = (uintptr_t)pc + 1;
	__builtin_longjmp(out->registers, 1);
}

/* A handler may come here while the program walks, and has its own way out. */
static __attribute__((noinline)) void walk_stack(struct walk *walk)
{
	struct way_out out, *volatile outer = way_out;

	out.walk = walk;
	if (!__builtin_setjmp(out.registers)) {
		way_out = &out;
		_Unwind_Backtrace(walk_on, walk);
	}
	way_out = outer;
}
#else
/* The unwinder is a library, which cannot be told to come back: only so far as our own functions go. */
static _Unwind_Reason_Code walk_one(struct _Unwind_Context *context, void *arg)
{
	struct walk *walk = arg;
	_Unwind_Reason_Code code = walk_on(context, walk);

	return walk->frames ? _URC_END_OF_STACK : code;
}

static void walk_stack(struct walk *walk)
{
	_Unwind_Backtrace(walk_one, walk);
}
#endif

static char exe[512];

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Which program this is, before the first word that names a stack. */
void introduce(void)
{
	static atomic_bool done;
	struct word w;
	long len;

	if (atomic_exchange(&done, true))
		return;
	len = raw3(SYS_readlink, "/proc/self/exe", exe, sizeof(exe) - 1);
	exe[len > 0 ? len : 0] = 0;
	word(&w, "exe");
	add_text(&w, "path", exe);
	say(&w);
}

/* Where a library's file is, once: whoever listens can name what is in it. */
static __attribute__((noinline)) void say_module(const struct module *module)
{
	static atomic_uintptr_t told[64];
	struct word w;

	if (!*module->path || *module->path != '/')
		return;
	for (size_t i = 0; i < ARRAY_SIZE(told); i++) {
		uintptr_t nobody = 0;

		if (atomic_load(&told[i]) == module->base)
			return;
		if (!atomic_compare_exchange_strong(&told[i], &nobody, module->base)) {
			if (nobody == module->base)
				return;
			continue;
		}
		word(&w, "module");
		add_text(&w, "path", module->path);
		say(&w);
		return;
	}
}

void add_stack(struct word *w)
{
	struct walk walk = { .frames = 0 };
	struct module module;

	add_key(w, "stack");
	if (atomic_load(&silent))
		return;
	if (find_module(&silent, &module))
		walk.self = module.base;
	walk_stack(&walk);
	for (int i = 0; i < walk.frames; i++) {
		/* A return address may lie behind the last byte of its function: look up the call before it. */
		if (!find_module((void *)(walk.pc[i] - 1), &module))
			break;
		say_module(&module);
		if (i)
			add_raw(w, "<", 1);
		put_text(w, base_name(*module.path ? module.path : *exe ? exe : "?"));
		add_raw(w, "!+", 2);
		put_hex(w, walk.pc[i] - module.base);
	}
}

void say(struct word *w)
{
	/* Zeros to the end: bpftrace reads it in pieces, and must see where there is no more of it. */
	memset(w->text + w->len, 0, sizeof(w->text) - w->len);
	if (!atomic_load_explicit(&silent, memory_order_relaxed))
		raw3(SYS_mq_unlink, w->text, 0, 0);
}

void say_site(const char *call)
{
	int saved = errno;
	struct word w;

	word(&w, "site");
	add_text(&w, "call", call);
	add_stack(&w);
	say(&w);
	errno = saved;
}

void lost(const char *why)
{
	struct word w;

	word(&w, "lost");
	add_text(&w, "why", why);
	say(&w);
}
