/*
 * The common model (README.md) in Promela, with the bodies of its steps in C.
 *
 *     spin -a -DKP=2 -DKV=2 -DKF=4 -DKD=1 -DKW=2 -DKS=1 -DRULE=0 -DCANON=1 cow.pml
 *     cc -O2 -DSAFETY -DNOREDUCE -DNOFAIR -DNOBOUNDCHECK -DNOCOMP pan.c -o pan && ./pan -m2000000 -w22
 *
 * Every field is a variable of the state vector. Each step is one option of one loop, a d_step of a guard and its effect, so that SPIN
 * goes from state to state of the model and stores nothing in between. Written out in Promela, the loops inside of a step
 * become transitions that the verifier interprets one by one; in C they are compiled.
 *
 * The verifier has one state more than the model: the one before init has set alive[0].
 *
 * -DLOOK_FOR=1: properties 1 to 3; 2: properties 2 and 3; 3: the deep target. What is found is an error. It is looked for once in
 * each state, by an option of its own, so with `-e -c0` the number of errors is the number of states.
 */

#ifndef LOOK_FOR
#define LOOK_FOR 0
#endif
#define NI (KP * KV)

byte pfn[NI], wr[NI], swp[NI], df[NI];
byte ref[KF], map[KF], pin[KF], exc[KF], val[KF];
byte dpfn[KD], drw[KD], dp[KD], dv[KD];
byte scnt[KS], sval[KS], scache[KS];
byte alive[KP], obs;

c_code {
	static inline int may_reuse(int f) { return now.ref[f] == 1; }

	static inline int must_copy(int f) { return RULE == 1 && now.pin[f] > 0; }

	/* The lowest free frame, or -1. */
	static inline int free_frame(void)
	{
		int f;

		for (f = 0; f < KF; f++)
			if (!now.ref[f])
				return f;
		return -1;
	}

	static inline void drop_ref(int f)
	{
		if (!--now.ref[f])
			now.val[f] = now.exc[f] = 0;
	}

	static inline void drop_swap_pte(int s)
	{
		if (--now.scnt[s])
			return;
		now.sval[s] = 0;
		if (now.scache[s]) {
			drop_ref(now.scache[s] - 1);
			now.scache[s] = 0;
		}
	}

	/* Only after steps that could have changed the order in which frames and slots are named. */
	static inline void canonical(void)
	{
		uchar place[KF + 1] = { 0 }, old[5][KF], n = 0;
		int i, d, s, f, differs = 0;

		if (!CANON)
			return;
		if (KS > 1) {
			uchar to[KS + 1] = { 0 }, was[3][KS], k = 0;

			for (i = 0; i < NI; i++)
				if (now.swp[i] && !to[now.swp[i]])
					to[now.swp[i]] = ++k;
			for (s = 0; s < KS; s++) {
				was[0][s] = now.scnt[s];
				was[1][s] = now.sval[s];
				was[2][s] = now.scache[s];
				now.scnt[s] = now.sval[s] = now.scache[s] = 0;
			}
			for (s = 0; s < KS; s++) {
				if (!to[s + 1])
					continue; /* unused: all zero */
				now.scnt[to[s + 1] - 1] = was[0][s];
				now.sval[to[s + 1] - 1] = was[1][s];
				now.scache[to[s + 1] - 1] = was[2][s];
			}
			for (i = 0; i < NI; i++)
				now.swp[i] = to[now.swp[i]];
		}
		for (i = 0; i < NI; i++) {
			f = now.pfn[i];
			if (f && !place[f]) {
				place[f] = ++n;
				differs |= f != n;
			}
		}
		for (d = 0; d < KD; d++) {
			f = now.dpfn[d];
			if (f && !place[f]) {
				place[f] = ++n;
				differs |= f != n;
			}
		}
		for (s = 0; s < KS; s++) {
			f = now.scache[s];
			if (f && !place[f]) {
				place[f] = ++n;
				differs |= f != n;
			}
		}
		if (!differs)
			return;
		for (f = 0; f < KF; f++) {
			old[0][f] = now.ref[f];
			old[1][f] = now.map[f];
			old[2][f] = now.pin[f];
			old[3][f] = now.exc[f];
			old[4][f] = now.val[f];
			now.ref[f] = now.map[f] = now.pin[f] = now.exc[f] = now.val[f] = 0;
		}
		for (f = 0; f < KF; f++) {
			int to = place[f + 1] - 1;

			if (to < 0)
				continue; /* free: all zero */
			now.ref[to] = old[0][f];
			now.map[to] = old[1][f];
			now.pin[to] = old[2][f];
			now.exc[to] = old[3][f];
			now.val[to] = old[4][f];
		}
		for (i = 0; i < NI; i++)
			now.pfn[i] = place[now.pfn[i]];
		for (d = 0; d < KD; d++)
			now.dpfn[d] = place[now.dpfn[d]];
		for (s = 0; s < KS; s++)
			now.scache[s] = place[now.scache[s]];
	}

	static inline int can_write(int p, int i)
	{
		if (!now.alive[p] || now.swp[i])
			return 0;
		return now.wr[i] || (now.pfn[i] && may_reuse(now.pfn[i] - 1)) || free_frame() >= 0;
	}

	/* True if a new frame was taken. */
	static inline int write_fault(int i)
	{
		int old = now.pfn[i] - 1, new;

		if (now.wr[i])
			return 0;
		now.wr[i] = 1;
		if (old >= 0 && may_reuse(old)) {
			now.exc[old] = 1;
			return 0;
		}
		new = free_frame();
		now.ref[new] = now.map[new] = now.exc[new] = 1;
		if (old >= 0) {
			now.val[new] = now.val[old];
			now.map[old]--;
			drop_ref(old);
		}
		now.pfn[i] = new + 1;
		return 1;
	}

	static inline void do_store(int i, int x)
	{
		int new = write_fault(i);

		now.val[now.pfn[i] - 1] = x;
		if (new)
			canonical();
	}

	static inline int can_fork(int p)
	{
		int v, f, q, copies = 0;

		if (!now.alive[p])
			return 0;
		for (q = 0; q < KP && now.alive[q]; q++)
			;
		if (q == KP)
			return 0;
		for (v = 0; v < KV; v++) {
			int i = p * KV + v;

			copies += !now.df[i] && now.pfn[i] && must_copy(now.pfn[i] - 1);
		}
		if (copies)
			for (f = 0; f < KF; f++)
				copies -= !now.ref[f];
		return copies <= 0;
	}

	static inline void do_fork(int p)
	{
		int v, q = 0, copied = 0;

		while (now.alive[q])
			q++;
		for (v = 0; v < KV; v++) {
			int i = p * KV + v, j = q * KV + v;

			if (now.df[i])
				continue;
			if (now.swp[i]) {
				now.swp[j] = now.swp[i];
				now.scnt[now.swp[i] - 1]++;
			} else if (now.pfn[i]) {
				int f = now.pfn[i] - 1;

				if (must_copy(f)) {
					int new = free_frame();

					now.ref[new] = now.map[new] = now.exc[new] = 1;
					now.val[new] = now.val[f];
					now.pfn[j] = new + 1;
					now.wr[j] = 1;
					copied = 1;
				} else {
					now.ref[f]++;
					now.map[f]++;
					now.exc[f] = 0;
					now.pfn[j] = f + 1;
					now.wr[i] = 0;
				}
			}
		}
		now.alive[q] = 1;
		if (copied || q < p)
			canonical();
	}

	static inline int can_exit(int p)
	{
		int q;

		for (q = 0; q < KP; q++)
			if (q != p && now.alive[q])
				return now.alive[p];
		return 0;
	}

	static inline void do_exit(int p)
	{
		int v, d;

		for (v = 0; v < KV; v++) {
			int i = p * KV + v;

			if (now.swp[i]) {
				drop_swap_pte(now.swp[i] - 1);
			} else if (now.pfn[i]) {
				now.map[now.pfn[i] - 1]--;
				drop_ref(now.pfn[i] - 1);
			}
			now.pfn[i] = now.wr[i] = now.swp[i] = now.df[i] = 0;
		}
		for (d = 0; d < KD; d++)
			if (now.dp[d] == p + 1)
				now.dp[d] = now.dv[d] = 0;
		now.alive[p] = 0;
		canonical();
	}

	/* The lowest unused pin, or -1. */
	static inline int free_pin(void)
	{
		int d;

		for (d = 0; d < KD; d++)
			if (!now.dpfn[d])
				return d;
		return -1;
	}

	static inline int can_pin(int p, int i, int rw)
	{
		if (!now.alive[p] || free_pin() < 0)
			return 0;
		return rw ? can_write(p, i) : now.pfn[i] != 0;
	}

	static inline void do_pin(int p, int v, int rw)
	{
		int i = p * KV + v, d = free_pin(), new = rw && write_fault(i);

		now.ref[now.pfn[i] - 1]++;
		now.pin[now.pfn[i] - 1]++;
		now.dpfn[d] = now.pfn[i];
		now.drw[d] = rw;
		now.dp[d] = p + 1;
		now.dv[d] = v;
		if (new)
			canonical();
	}

	static inline void do_unpin(int d)
	{
		int f = now.dpfn[d] - 1;

		now.pin[f]--;
		drop_ref(f);
		now.dpfn[d] = now.drw[d] = now.dp[d] = now.dv[d] = 0;
		if (!now.map[f])
			canonical();
	}

	/* The slot that a frame would be swapped out to, or -1. */
	static inline int slot_for(int f)
	{
		int s;

		for (s = 0; s < KS; s++)
			if (now.scache[s] == f + 1)
				return s;
		for (s = 0; s < KS; s++)
			if (!now.scnt[s])
				return s;
		return -1;
	}

	static inline void do_swapout(int f)
	{
		int i, s = slot_for(f);

		if (!now.scache[s]) {
			now.scache[s] = f + 1;
			now.ref[f]++;
		}
		now.exc[f] = 0;
		now.scnt[s] += now.map[f];
		now.ref[f] -= now.map[f];
		now.map[f] = 0;
		for (i = 0; i < NI; i++) {
			if (now.pfn[i] == f + 1) {
				now.pfn[i] = now.wr[i] = 0;
				now.swp[i] = s + 1;
			}
		}
		if (now.ref[f] == 1) {
			now.sval[s] = now.val[f];
			now.scache[s] = 0;
			drop_ref(f);
		}
		canonical();
	}

	static inline int can_swapin(int p, int i)
	{
		return now.alive[p] && now.swp[i] && (now.scache[now.swp[i] - 1] || free_frame() >= 0);
	}

	static inline void do_swapin(int i)
	{
		int s = now.swp[i] - 1, f;

		if (!now.scache[s]) {
			f = free_frame();
			now.val[f] = now.sval[s];
			now.sval[s] = 0;
			now.ref[f] = 1;
			now.scache[s] = f + 1;
		}
		f = now.scache[s] - 1;
		now.ref[f]++;
		now.map[f]++;
		now.pfn[i] = f + 1;
		now.swp[i] = 0;
		drop_swap_pte(s);
		canonical();
	}

	/* Property 1 for one pin. */
	static inline int incoherent(int d)
	{
		int i;

		if (!now.drw[d] || !now.dp[d])
			return 0;
		i = (now.dp[d] - 1) * KV + now.dv[d];
		return !now.swp[i] && now.pfn[i] != now.dpfn[d];
	}

	/* Not properties 2 and 3. */
	static inline int miscounted(void)
	{
		int f, i, d, s;

		for (f = 0; f < KF; f++) {
			int maps = 0, pins = 0, cached = 0;

			for (i = 0; i < NI; i++)
				maps += now.pfn[i] == f + 1;
			for (d = 0; d < KD; d++)
				pins += now.dpfn[d] == f + 1;
			for (s = 0; s < KS; s++)
				cached += now.scache[s] == f + 1;
			if (now.map[f] != maps || now.pin[f] != pins || cached > 1 || now.ref[f] != maps + pins + cached)
				return 1;
			if (!now.ref[f] && (now.exc[f] || now.val[f]))
				return 1;
		}
		for (i = 0; i < NI; i++)
			if (now.wr[i] && now.map[now.pfn[i] - 1] != 1)
				return 1;
		return 0;
	}

	static inline int found(void)
	{
		int d;

		if (LOOK_FOR == 3) {
			for (d = 0; d < KD; d++)
				if (!incoherent(d) || now.val[now.dpfn[d] - 1] != KW - 1)
					return 0;
			return now.obs == KW - 1;
		}
		for (d = 0; d < KD && LOOK_FOR == 1; d++)
			if (incoherent(d))
				return 1;
		return miscounted();
	}
}

/* The functions in guards change nothing. Without the parentheses round their names, SPIN would take them not to be so. */
#define STORE(p, v, x) :: d_step { c_expr { (can_write)(p, (p) * KV + (v)) } -> c_code { do_store((p) * KV + (v), x); } }
#define LOAD(p, v)     :: d_step { c_expr { now.alive[p] && now.pfn[(p) * KV + (v)] } -> c_code { now.obs = now.val[now.pfn[(p) * KV + (v)] - 1]; } }
#define PIN(p, v, rw)  :: d_step { c_expr { (can_pin)(p, (p) * KV + (v), rw) } -> c_code { do_pin(p, v, rw); } }
#define DONTFORK(p, v) :: d_step { c_expr { now.alive[p] && !now.df[(p) * KV + (v)] } -> c_code { now.df[(p) * KV + (v)] = 1; } }
#define SWAPIN(p, v)   :: d_step { c_expr { (can_swapin)(p, (p) * KV + (v)) } -> c_code { do_swapin((p) * KV + (v)); } }
#define FORK(p)        :: d_step { c_expr { (can_fork)(p) } -> c_code { do_fork(p); } }
#define EXIT(p)        :: d_step { c_expr { (can_exit)(p) } -> c_code { do_exit(p); } }
#define SWAPOUT(f)     :: d_step { c_expr { now.map[f] && (slot_for)(f) >= 0 } -> c_code { do_swapout(f); } }
#define UNPIN(d)       :: d_step { c_expr { now.dpfn[d] } -> c_code { do_unpin(d); } }
#define DMA_READ(d)    :: d_step { c_expr { now.dpfn[d] } -> c_code { now.obs = now.val[now.dpfn[d] - 1]; } }
#define DMA_WRITE(d, x) :: d_step { c_expr { now.drw[d] } -> c_code { now.val[now.dpfn[d] - 1] = x; } }

/* One option for each step and each of its arguments: what is not there at this size is left out by hand. */
#if KP > 3 || KV > 3 || KF > 6 || KD > 2 || KW > 4 || KW < 2
#error write out more options for this size
#endif

#if KW > 3
#define STORES(p, v)  STORE(p, v, 1) STORE(p, v, 2) STORE(p, v, 3)
#define DMA_WRITES(d) DMA_WRITE(d, 1) DMA_WRITE(d, 2) DMA_WRITE(d, 3)
#elif KW > 2
#define STORES(p, v)  STORE(p, v, 1) STORE(p, v, 2)
#define DMA_WRITES(d) DMA_WRITE(d, 1) DMA_WRITE(d, 2)
#else
#define STORES(p, v)  STORE(p, v, 1)
#define DMA_WRITES(d) DMA_WRITE(d, 1)
#endif

#define PAGE(p, v) STORES(p, v) LOAD(p, v) PIN(p, v, 0) PIN(p, v, 1) DONTFORK(p, v) SWAPIN(p, v)
#if KV > 2
#define PAGES(p) PAGE(p, 0) PAGE(p, 1) PAGE(p, 2)
#elif KV > 1
#define PAGES(p) PAGE(p, 0) PAGE(p, 1)
#else
#define PAGES(p) PAGE(p, 0)
#endif
#define PROCESS(p) PAGES(p) FORK(p) EXIT(p)
#define DEVICE(d) UNPIN(d) DMA_READ(d) DMA_WRITES(d)

init {
	c_code { now.alive[0] = 1; };
end:	do
	PROCESS(0)
#if KP > 1
	PROCESS(1)
#endif
#if KP > 2
	PROCESS(2)
#endif
	SWAPOUT(0)
#if KF > 1
	SWAPOUT(1)
#endif
#if KF > 2
	SWAPOUT(2)
#endif
#if KF > 3
	SWAPOUT(3)
#endif
#if KF > 4
	SWAPOUT(4)
#endif
#if KF > 5
	SWAPOUT(5)
#endif
	DEVICE(0)
#if KD > 1
	DEVICE(1)
#endif
#if LOOK_FOR
	:: d_step { c_expr { (found)() } -> assert(false) }
#endif
	od
}
