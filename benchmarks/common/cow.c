/*
 * The common model (README.md) in C: what one gets for writing the search by hand.
 *
 *     cc -O3 -DKP=2 -DKV=2 -DKF=4 -DKD=1 -DKW=2 -DKS=1 -DRULE=0 -DCANON=1 cow.c -o cow && ./cow
 *
 * Breadth-first. A state that was seen is known by its 64-bit fingerprint, in an open-addressing table that doubles when it is 80 %
 * full; whole states are kept only until they have been expanded. Of each state there remain its predecessor and the step
 * that led to it, enough to replay the way there.
 *
 * What it owes its speed to: a successor is made in a ring, its place in the table is prefetched, and it is looked up only when the
 * ring has gone round, when the memory has arrived. A state is copied once for each successor. Numbers are made canonical only
 * after steps that could have changed the order of first reference. A step that changes nothing is counted and not looked up.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#ifndef KP
#error "give the size: -DKP=2 -DKV=2 -DKF=4 -DKD=1 -DKW=2 -DKS=1 -DRULE=0 -DCANON=1"
#endif

typedef uint8_t u8;
typedef uint64_t u64;

enum { NI = KP * KV, NAMES = NI + KD + KS };

/* ---- the state ---- */

struct frame {
	u8 ref, map, pin;
	u8 exc : 1, val : 7;
};

struct state {
	struct frame frame[KF + 1]; /* by number; number 0 is no frame and stays zero */
	/* Whatever names a frame, 0 for none, in the order that gives frames their numbers: ptes, pins, swap cache. */
	u8 name[NAMES];
	u8 wr[NI], swp[NI], df[NI];
	u8 drw[KD], dp[KD], dv[KD];
	u8 scnt[KS], sval[KS];
	u8 alive[KP];
	u8 obs;
} __attribute__((aligned(16)));

/* In vectors: left alone, some compilers copy with a string instruction, which takes long to start. */
typedef u64 vector __attribute__((vector_size(16), may_alias));
typedef u64 word __attribute__((may_alias));

static inline void copy(struct state *to, const struct state *from)
{
	for (unsigned i = 0; i < sizeof(*to) / sizeof(vector); i++)
		((vector *)to)[i] = ((const vector *)from)[i];
}

#define pfn(i) name[i]
#define dpfn(d) name[NI + (d)]
#define scache(s) name[NI + KD + (s)]

/* Steps by number, each with its arguments: what a trace is made of. */
enum {
	STORE = 0,
	LOAD = STORE + NI * KW,
	PIN = LOAD + NI,
	DONTFORK = PIN + NI * 2,
	SWAPIN = DONTFORK + NI,
	FORK = SWAPIN + NI,
	EXIT = FORK + KP,
	SWAPOUT = EXIT + KP,
	UNPIN = SWAPOUT + KF,
	DMA_READ = UNPIN + KD,
	DMA_WRITE = DMA_READ + KD,
	STEPS = DMA_WRITE + KD * KW
};
_Static_assert(STEPS <= 256, "a step is kept in a byte");

static bool may_reuse(struct frame f)
{
	return f.ref == 1;
}

static bool must_copy(struct frame f)
{
	return RULE == 1 && f.pin > 0;
}

/* ---- the set of fingerprints ---- */

enum { LINE = 64 / sizeof(u64) };

static u64 *table, table_size, table_full;
static int table_shift;

static void *pages(u64 bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		perror("cow: mmap");
		exit(2);
	}
	madvise(p, bytes, MADV_HUGEPAGE);
	return p;
}

static void table_make(int bits)
{
	table_shift = 64 - bits;
	table_size = (u64)1 << bits;
	table_full = table_size / 5 * 4;
	table = pages(table_size * sizeof(u64));
}

/* Where the line begins in which a fingerprint is looked for first. */
static inline u64 table_line(u64 print)
{
	return print >> table_shift & ~(u64)(LINE - 1);
}

/*
 * True if it was not there. A line is filled from its front, zero marks an empty place. All of a line is compared without a
 * branch: most fingerprints are found in the first one, at a place that nothing predicts.
 */
static inline bool table_add(u64 print)
{
	for (u64 i = table_line(print);; i = (i + LINE) & (table_size - 1)) {
		u64 *line = &table[i];
		u64 found = 0, used = 0;

		for (int k = 0; k < LINE; k++) {
			found += line[k] == print;
			used += line[k] != 0;
		}
		if (found)
			return false;
		if (used < LINE) {
			line[used] = print;
			return true;
		}
	}
}

/* Twice as large. Places are in the order of the fingerprints, so both tables are gone through from front to back. */
static void table_grow(void)
{
	const u64 chunk = (u64)1 << 21;
	u64 *old = table, old_size = table_size, released = 0;

	table_make(64 - table_shift + 1);
	for (u64 i = 0; i < old_size; i++) {
		if (old[i])
			table_add(old[i]);
		if ((i + 1) * sizeof(u64) - released == chunk) {
			madvise((char *)old + released, chunk, MADV_DONTNEED);
			released += chunk;
		}
	}
	munmap(old, old_size * sizeof(u64));
}

static inline u64 mix(u64 a, u64 b)
{
	unsigned __int128 m = (unsigned __int128)a * b;

	return (u64)m ^ (u64)(m >> 64);
}

static inline u64 fingerprint(const struct state *s)
{
	static const u64 odd[] = { 0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f, 0xd6e8feb86659fd93, 0xa0761d6478bd642f,
				   0xe7037ed1a0b428db, 0x8ebc6af09c88c6e3, 0x589965cc75374cc3, 0x1d8e4e27c47d124f };
	enum { WORDS = sizeof(*s) / sizeof(u64) };
	const word *w = (const word *)s;
	u64 h = 0;

	_Static_assert(WORDS % 2 == 0 && WORDS <= 8, "more constants are needed");
	for (int i = 0; i < WORDS; i += 2)
		h ^= mix(w[i] ^ odd[i], w[i + 1] ^ odd[i + 1]);
	h = mix(h ^ 0x2d358dccaa6c78a5, 0x8bb84b93962eacc9);
	return h ? h : 1;
}

/* ---- states not yet expanded: a queue of blocks, used again once they are empty ---- */

enum { BLOCK = 1 << 14 };

struct block {
	struct block *next;
	struct state state[BLOCK];
};

static struct block *head, *tail, *spare;
static int head_at, tail_at = BLOCK;
static u64 blocks;

static inline void queue_put(const struct state *s)
{
	if (tail_at == BLOCK) {
		struct block *b = spare;

		if (b) {
			spare = b->next;
		} else {
			b = aligned_alloc(64, (sizeof(*b) + 63) / 64 * 64);
			if (!b) {
				perror("cow");
				exit(2);
			}
			blocks++;
		}
		b->next = NULL;
		*(tail ? &tail->next : &head) = b;
		tail = b;
		tail_at = 0;
	}
	copy(&tail->state[tail_at++], s);
}

static inline const struct state *queue_get(void)
{
	if (head_at == BLOCK) {
		struct block *b = head;

		head = b->next;
		b->next = spare;
		spare = b;
		head_at = 0;
	}
	return &head->state[head_at++];
}

/* ---- the search ---- */

enum { RING = 64, LAG = 2, MOST_STATES = INT32_MAX };

struct successor {
	struct state state;
	u64 print;
	uint32_t from;
	u8 step;
};

static struct successor ring[RING];
static u64 made, printed, looked_up; /* numbers of successors, in the order of their making */

static u64 states, transitions, expanded;
static uint32_t *parent;
static u8 *step_to;

/* When a trace is replayed: successors are not looked up, the one that is wanted is kept. */
static bool replaying;
static u8 wanted;
static struct state kept;

static inline void look_up(struct successor *n)
{
	if (!table_add(n->print))
		return;
	if (states == MOST_STATES) {
		fprintf(stderr, "cow: more than %d states\n", MOST_STATES);
		exit(2);
	}
	parent[states] = n->from;
	step_to[states] = n->step;
	states++;
	queue_put(&n->state);
	if (states >= table_full)
		table_grow();
}

/* The fingerprint of the oldest that has none yet; its place in the table is on its way from now on. */
static inline void print_one(void)
{
	struct successor *n = &ring[printed++ % RING];

	n->print = fingerprint(&n->state);
	__builtin_prefetch(&table[table_line(n->print)]);
}

static void look_up_all(void)
{
	while (printed < made)
		print_one();
	while (looked_up < made)
		look_up(&ring[looked_up++ % RING]);
}

/* A copy of a state, to be changed. */
static inline struct state *begin(const struct state *s)
{
	if (made - looked_up == RING)
		look_up(&ring[looked_up++ % RING]);
	copy(&ring[made % RING].state, s);
	return &ring[made % RING].state;
}

static inline void canonical(struct state *t);

static inline void finish(struct state *t, int step, bool order_may_differ)
{
	struct successor *n = &ring[made % RING];

	if (CANON && order_may_differ)
		canonical(t);
	transitions++;
	if (__builtin_expect(replaying, false)) {
		if (step == wanted)
			kept = *t;
		return;
	}
	n->from = (uint32_t)expanded;
	n->step = (u8)step;
	/* Not this one's: reading in words what was written in bytes a moment ago would wait for the writes. */
	if (made++ - printed == LAG)
		print_one();
}

/* A step that leads back to where it began. */
static inline void same(const struct state *s, int step)
{
	transitions++;
	if (__builtin_expect(replaying, false) && step == wanted)
		kept = *s;
}

/* ---- canonical numbers ---- */

static inline void canonical(struct state *t)
{
	if (KS > 1) {
		u8 place[KS + 1] = { 0 }, n = 0;
		struct state old;

		for (int i = 0; i < NI; i++)
			if (t->swp[i] && !place[t->swp[i]])
				place[t->swp[i]] = ++n;
		old = *t;
		for (int i = 0; i < NI; i++)
			t->swp[i] = place[old.swp[i]];
		for (int s = 0; s < KS; s++)
			t->scnt[s] = t->sval[s] = t->scache(s) = 0;
		for (int s = 0; s < KS; s++) {
			int to = place[s + 1] - 1;

			if (to < 0)
				continue; /* unused: all zero */
			t->scnt[to] = old.scnt[s];
			t->sval[to] = old.sval[s];
			t->scache(to) = old.scache(s);
		}
	}

	/* New numbers by old ones, a byte each, in one word; NONE keeps the name 0 from getting a number. */
	enum { NONE = 0x80 };
	u64 place = NONE, n = 0, differs = 0;

	_Static_assert(KF < 8, "a word has eight bytes");
	for (int i = 0; i < NAMES; i++) {
		u64 f = t->name[i], is_new = !(place >> 8 * f & 0xff);

		n += is_new;
		place |= (is_new ? n : 0) << 8 * f;
		differs |= is_new ? f ^ n : 0;
	}
	if (!differs)
		return;

	struct frame frame[KF + 1];

	memcpy(frame, t->frame, sizeof(frame));
	memset(t->frame, 0, sizeof(frame));
	for (int f = 1; f <= KF; f++)
		t->frame[place >> 8 * f & 0xff] = frame[f]; /* free ones are zero and go to number 0 */
	for (int i = 0; i < NAMES; i++)
		t->name[i] = place >> 8 * t->name[i] & 0x7f;
}

/* ---- the machine ---- */

/* The lowest free frame, or 0. */
static inline int allocate(const struct state *t)
{
	for (int f = 1; f <= KF; f++)
		if (!t->frame[f].ref)
			return f;
	return 0;
}

static inline void drop_ref(struct state *t, int f)
{
	if (!--t->frame[f].ref)
		t->frame[f].exc = t->frame[f].val = 0;
}

enum fault { BLOCKED, SAME_FRAME, NEW_FRAME };

static inline enum fault write_fault(struct state *t, int i)
{
	int old = t->pfn(i), new;

	if (t->wr[i])
		return SAME_FRAME;
	if (old && may_reuse(t->frame[old])) {
		t->wr[i] = 1;
		t->frame[old].exc = 1;
		return SAME_FRAME;
	}
	new = allocate(t);
	if (!new)
		return BLOCKED;
	t->frame[new] = (struct frame){ .ref = 1, .map = 1, .exc = 1 };
	if (old) {
		t->frame[new].val = t->frame[old].val;
		t->frame[old].map--;
		drop_ref(t, old);
	}
	t->pfn(i) = new;
	t->wr[i] = 1;
	return NEW_FRAME;
}

static inline void drop_swap_pte(struct state *t, int s)
{
	if (--t->scnt[s])
		return;
	t->sval[s] = 0;
	if (t->scache(s)) {
		drop_ref(t, t->scache(s));
		t->scache(s) = 0;
	}
}

static inline void page_steps(const struct state *s, int p, int v)
{
	const int i = p * KV + v;
	struct state *t;

	if (!s->swp[i]) {
		for (int x = 1; x < KW; x++) {
			if (s->wr[i] && s->frame[s->pfn(i)].val == x) {
				same(s, STORE + i * KW + x);
				continue;
			}
			t = begin(s);
			enum fault fault = write_fault(t, i);
			if (fault == BLOCKED)
				break;
			t->frame[t->pfn(i)].val = x;
			finish(t, STORE + i * KW + x, fault == NEW_FRAME);
		}
		for (int d = 0; d < KD; d++) {
			if (s->dpfn(d))
				continue;
			for (int rw = 0; rw < 2; rw++) {
				enum fault fault = SAME_FRAME;

				if (!rw && !s->pfn(i))
					continue;
				t = begin(s);
				if (rw)
					fault = write_fault(t, i);
				if (fault == BLOCKED)
					continue;
				t->frame[t->pfn(i)].ref++;
				t->frame[t->pfn(i)].pin++;
				t->dpfn(d) = t->pfn(i);
				t->drw[d] = rw;
				t->dp[d] = p + 1;
				t->dv[d] = v;
				finish(t, PIN + i * 2 + rw, fault == NEW_FRAME);
			}
			break; /* the lowest that is unused */
		}
	}
	if (s->pfn(i)) {
		if (s->obs == s->frame[s->pfn(i)].val) {
			same(s, LOAD + i);
		} else {
			t = begin(s);
			t->obs = s->frame[s->pfn(i)].val;
			finish(t, LOAD + i, false);
		}
	}
	if (!s->df[i]) {
		t = begin(s);
		t->df[i] = 1;
		finish(t, DONTFORK + i, false);
	}
	if (s->swp[i]) {
		int slot = s->swp[i] - 1, f = s->scache(slot), g = f ? f : allocate(s);

		if (g) {
			t = begin(s);
			if (!f) {
				t->frame[g] = (struct frame){ .ref = 1, .val = s->sval[slot] };
				t->sval[slot] = 0;
				t->scache(slot) = g;
			}
			t->frame[g].ref++;
			t->frame[g].map++;
			t->pfn(i) = g;
			t->swp[i] = 0;
			drop_swap_pte(t, slot);
			finish(t, SWAPIN + i, true);
		}
	}
}

static inline void fork_step(const struct state *s, int p, int q)
{
	struct state *t = begin(s);
	bool copied = false;

	for (int v = 0; v < KV; v++) {
		int i = p * KV + v, j = q * KV + v;

		if (t->df[i])
			continue;
		if (t->swp[i]) {
			t->swp[j] = t->swp[i];
			t->scnt[t->swp[i] - 1]++;
		} else if (t->pfn(i)) {
			int f = t->pfn(i);

			if (must_copy(t->frame[f])) {
				int new = allocate(t);

				if (!new)
					return;
				t->frame[new] = (struct frame){ .ref = 1, .map = 1, .exc = 1, .val = t->frame[f].val };
				t->pfn(j) = new;
				t->wr[j] = 1;
				copied = true;
			} else {
				t->frame[f].ref++;
				t->frame[f].map++;
				t->frame[f].exc = 0;
				t->pfn(j) = f;
				t->wr[i] = 0;
			}
		}
	}
	t->alive[q] = 1;
	finish(t, FORK + p, copied || q < p);
}

static inline void exit_step(const struct state *s, int p)
{
	struct state *t = begin(s);

	for (int v = 0; v < KV; v++) {
		int i = p * KV + v;

		if (t->swp[i]) {
			drop_swap_pte(t, t->swp[i] - 1);
		} else if (t->pfn(i)) {
			t->frame[t->pfn(i)].map--;
			drop_ref(t, t->pfn(i));
		}
		t->pfn(i) = t->wr[i] = t->swp[i] = t->df[i] = 0;
	}
	for (int d = 0; d < KD; d++)
		if (t->dp[d] == p + 1)
			t->dp[d] = t->dv[d] = 0;
	t->alive[p] = 0;
	finish(t, EXIT + p, true);
}

static inline void swapout_step(const struct state *s, int f)
{
	int slot = -1;
	struct state *t;

	for (int k = KS - 1; k >= 0; k--)
		if (!s->scnt[k])
			slot = k;
	for (int k = 0; k < KS; k++)
		if (s->scache(k) == f)
			slot = k;
	if (slot < 0)
		return;
	t = begin(s);
	if (!t->scache(slot)) {
		t->scache(slot) = f;
		t->frame[f].ref++;
	}
	t->frame[f].exc = 0;
	t->scnt[slot] += t->frame[f].map;
	t->frame[f].ref -= t->frame[f].map;
	t->frame[f].map = 0;
	for (int i = 0; i < NI; i++) {
		if (t->pfn(i) == f) {
			t->pfn(i) = t->wr[i] = 0;
			t->swp[i] = slot + 1;
		}
	}
	if (t->frame[f].ref == 1) {
		t->sval[slot] = t->frame[f].val;
		t->scache(slot) = 0;
		drop_ref(t, f);
	}
	finish(t, SWAPOUT + f - 1, true);
}

static inline void pin_steps(const struct state *s, int d)
{
	const int f = s->dpfn(d);
	struct state *t;

	if (!f)
		return;
	t = begin(s);
	t->frame[f].pin--;
	drop_ref(t, f);
	t->dpfn(d) = t->drw[d] = t->dp[d] = t->dv[d] = 0;
	finish(t, UNPIN + d, !t->frame[f].map);
	if (s->obs == s->frame[f].val) {
		same(s, DMA_READ + d);
	} else {
		t = begin(s);
		t->obs = s->frame[f].val;
		finish(t, DMA_READ + d, false);
	}
	if (!s->drw[d])
		return;
	for (int x = 1; x < KW; x++) {
		if (s->frame[f].val == x) {
			same(s, DMA_WRITE + d * KW + x);
		} else {
			t = begin(s);
			t->frame[f].val = x;
			finish(t, DMA_WRITE + d * KW + x, false);
		}
	}
}

static void expand(const struct state *s)
{
	int dead = -1, living = 0;

	for (int p = KP - 1; p >= 0; p--) {
		living += s->alive[p];
		if (!s->alive[p])
			dead = p;
	}
	for (int p = 0; p < KP; p++) {
		if (!s->alive[p])
			continue;
		for (int v = 0; v < KV; v++)
			page_steps(s, p, v);
		if (dead >= 0)
			fork_step(s, p, dead);
		if (living > 1)
			exit_step(s, p);
	}
	for (int f = 1; f <= KF; f++)
		if (s->frame[f].map)
			swapout_step(s, f);
	for (int d = 0; d < KD; d++)
		pin_steps(s, d);
}

/* ---- what to look for ---- */

static inline bool pin_is_incoherent(const struct state *s, int d)
{
	int i;

	if (!s->drw[d] || !s->dp[d])
		return false;
	i = (s->dp[d] - 1) * KV + s->dv[d];
	return !s->swp[i] && s->pfn(i) != s->dpfn(d);
}

static inline bool incoherent(const struct state *s)
{
	for (int d = 0; d < KD; d++)
		if (pin_is_incoherent(s, d))
			return true;
	return false;
}

static inline bool target(const struct state *s)
{
	for (int d = 0; d < KD; d++)
		if (!pin_is_incoherent(s, d) || s->frame[s->dpfn(d)].val != KW - 1)
			return false;
	return s->obs == KW - 1;
}

/* Properties 2 and 3, and that whatever is free is zero. */
static inline bool counted_right(const struct state *s)
{
	for (int f = 1; f <= KF; f++) {
		int map = 0, pin = 0, cached = 0, writable = 0;
		const struct frame *g = &s->frame[f];

		for (int i = 0; i < NI; i++) {
			map += s->pfn(i) == f;
			writable += s->pfn(i) == f && s->wr[i];
		}
		for (int d = 0; d < KD; d++)
			pin += s->dpfn(d) == f;
		for (int k = 0; k < KS; k++)
			cached += s->scache(k) == f;
		if (map != g->map || pin != g->pin || cached > 1 || g->ref != map + pin + cached)
			return false;
		if (writable && map != 1)
			return false;
		if (!g->ref && (g->exc || g->val))
			return false;
	}
	return true;
}

static void print_step(int n)
{
	if (n >= DMA_WRITE)
		printf("dma_write(%d,%d)", (n - DMA_WRITE) / KW, (n - DMA_WRITE) % KW);
	else if (n >= DMA_READ)
		printf("dma_read(%d)", n - DMA_READ);
	else if (n >= UNPIN)
		printf("unpin(%d)", n - UNPIN);
	else if (n >= SWAPOUT)
		printf("swapout(%d)", n - SWAPOUT);
	else if (n >= EXIT)
		printf("exit(%d)", n - EXIT);
	else if (n >= FORK)
		printf("fork(%d)", n - FORK);
	else if (n >= SWAPIN)
		printf("swapin(%d,%d)", (n - SWAPIN) / KV, (n - SWAPIN) % KV);
	else if (n >= DONTFORK)
		printf("dontfork(%d,%d)", (n - DONTFORK) / KV, (n - DONTFORK) % KV);
	else if (n >= PIN)
		printf("pin(%d,%d,%d)", (n - PIN) / 2 / KV, (n - PIN) / 2 % KV, (n - PIN) % 2);
	else if (n >= LOAD)
		printf("load(%d,%d)", (n - LOAD) / KV, (n - LOAD) % KV);
	else
		printf("store(%d,%d,%d)", (n - STORE) / KW / KV, (n - STORE) / KW % KV, (n - STORE) % KW);
}

static struct state initial(void)
{
	struct state s;

	memset(&s, 0, sizeof(s));
	s.alive[0] = 1;
	return s;
}

/* Print the steps to a state, each taken again, and whether what was found there is there. */
static void print_way(u64 to, bool (*found)(const struct state *))
{
	u8 steps[256];
	int n = 0;
	u64 counted = transitions;
	struct state s = initial();

	for (; to; to = parent[to])
		steps[n++] = step_to[to];
	replaying = true;
	while (n--) {
		wanted = steps[n];
		memset(&kept, 0xff, sizeof(kept));
		expand(&s);
		s = kept;
		putchar(' ');
		print_step(wanted);
	}
	printf("%s\n", found(&s) ? "" : "  WRONG: replayed, it is not what was found");
	replaying = false;
	transitions = counted;
}

/* A kind of state: how many there are, and the first. */
struct kind {
	const char *name;
	bool (*is)(const struct state *);
	u64 count, first;
	int depth;
	double seconds;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(void)
{
	struct kind kinds[] = { { .name = "incoherent", .is = incoherent }, { .name = "target", .is = target } };
	const int n_kinds = sizeof(kinds) / sizeof(*kinds);
	double began = now(), seconds;
	u64 level_ends = 1, peak;
	int levels = 1;
	struct rusage usage;

	table_make(16);
	parent = pages((u64)MOST_STATES * sizeof(*parent));
	step_to = pages(MOST_STATES);
	*begin(&(struct state){ 0 }) = initial();
	ring[0].print = fingerprint(&ring[0].state);
	made++;
	look_up_all();

	for (;; expanded++) {
		const struct state *s;

		if (expanded == level_ends) {
			look_up_all();
			if (states == expanded)
				break;
			level_ends = states;
			levels++;
		} else if (expanded + made - looked_up >= states && !head) {
			look_up_all();
		}
		s = queue_get();
		for (int k = 0; k < n_kinds; k++) {
			if (kinds[k].is(s) && !kinds[k].count++) {
				kinds[k].first = expanded;
				kinds[k].depth = levels - 1;
				kinds[k].seconds = now() - began;
			}
		}
#ifdef CHECK
		if (!counted_right(s)) {
			printf("counted wrong in state %" PRIu64 "\n", expanded);
			return 1;
		}
#else
		(void)counted_right;
#endif
		expand(s);
	}
	seconds = now() - began;

	getrusage(RUSAGE_SELF, &usage);
	peak = (u64)usage.ru_maxrss * 1024;
	printf("states %" PRIu64 "\ntransitions %" PRIu64 "\nlevels %d\nseconds %.3f\n", states, transitions, levels, seconds);
	printf("bytes %" PRIu64 "\nbytes_per_state %.1f\n", peak, (double)peak / (double)states);
	printf("table_bytes %" PRIu64 "\nqueue_bytes %" PRIu64 "\ntrace_bytes %" PRIu64 "\n", table_size * sizeof(u64),
	       blocks * sizeof(struct block), states * (sizeof(*parent) + sizeof(*step_to)));
	for (int k = 0; k < n_kinds; k++) {
		printf("%s %" PRIu64 "\n", kinds[k].name, kinds[k].count);
		if (kinds[k].count) {
			printf("%s_depth %d\n%s_seconds %.6f\n%s_way", kinds[k].name, kinds[k].depth, kinds[k].name,
			       kinds[k].seconds, kinds[k].name);
			print_way(kinds[k].first, kinds[k].is);
		}
	}
	return 0;
}
