"""The common model as one source at two speeds: plain functions on a flat vector of small integers.

Interpreted, a state is a ``bytearray`` and this is an ordinary module, of size S. Compiled, the engine binds the sizes and
the rule, and the few words at the end of the first part, to something else (see ``benchmarks.common.engine``).

A step is a function that changes ``s`` and returns which number it changed, ``SEVERAL``, or ``BLOCKED`` if its guard is false.
"""

from __future__ import annotations

# --- bound before this is compiled --------------------------------------------------------------------------------
KP = 2  # processes
KV = 1  # pages of each
KF = 3  # frames
KD = 1  # device pins
KW = 2  # values
KS = 1  # swap slots
RULE = 0  # 0: v5.9-rc4, 1: v5.10
CANON = 1  # whether frames and slots are renumbered after every step


def beyond(states, count):  # type: ignore[no-untyped-def]
    """The states that begin ``count`` numbers further on."""
    return states[count:]


def copy_state(to, source, size):  # type: ignore[no-untyped-def]
    to[:size] = source[:size]


def sum_of(m, s, size):  # type: ignore[no-untyped-def]
    """Something to make a fingerprint of, and of it plus what changed."""
    return 0, 0


def print_of_sum(low, high):  # type: ignore[no-untyped-def]
    return 0


def sum_plus(m, low, high, field, change):  # type: ignore[no-untyped-def]
    return 0, 0


# --- the kernel's decisions ---------------------------------------------------------------------------------------


def may_reuse(ref, pin):  # type: ignore[no-untyped-def]
    """do_wp_page(): is whoever stores the only one who has this page?"""
    return ref == 1


def must_copy(ref, pin):  # type: ignore[no-untyped-def]
    """copy_present_pte(): does the child need a page of its own at once?"""
    if RULE == 1:
        return pin > 0
    return False


# --- the state ----------------------------------------------------------------------------------------------------
PTES = KP * KV
ALIVE = 0
PFN = ALIVE + KP  # 0, or frame + 1
WR = PFN + PTES
SWP = WR + PTES  # 0, or slot + 1
DF = SWP + PTES
FRAMES = DF + PTES
REF, MAP, PIN, EXC, VAL = range(5)
FRAME_SIZE = 5
DPFN = FRAMES + KF * FRAME_SIZE  # 0, or frame + 1
DRW = DPFN + KD
DP = DRW + KD  # 0, or owner + 1
DV = DP + KD
SCNT = DV + KD
SVAL = SCNT + KS
SCACHE = SVAL + KS  # 0, or frame + 1
OBS = SCACHE + KS
LENGTH = OBS + 1
SIZE = (LENGTH + 7) // 8 * 8

SEVERAL = -1
BLOCKED = -2

#: At most this many steps are possible in one state.
WIDTH = PTES * (KW + 6) + 2 * KP + KD * (KW + 1) + KF

STORE, LOAD, FORK, EXIT, TAKE, UNPIN, DMA_WRITE, DMA_READ, DONTFORK, SWAPOUT, SWAPIN = range(11)
STEP_NAMES = (
    "store", "load", "fork", "exit", "pin", "unpin", "dma_write", "dma_read", "dontfork", "swapout", "swapin",
)  # fmt: skip


def frame(pfn):  # type: ignore[no-untyped-def]
    """Where the frame of a pte, pin or swap-cache entry begins."""
    return FRAMES + (pfn - 1) * FRAME_SIZE


# --- pages --------------------------------------------------------------------------------------------------------


def allocate(s):  # type: ignore[no-untyped-def]
    """pfn of the lowest free frame, 0 if there is none."""
    for pfn in range(1, KF + 1):
        if s[frame(pfn) + REF] == 0:
            return pfn
    return 0


def drop_ref(s, f):  # type: ignore[no-untyped-def]
    s[f + REF] -= 1
    if s[f + REF] == 0:
        s[f + EXC] = 0
        s[f + VAL] = 0


def new_page(s, value):  # type: ignore[no-untyped-def]
    """pfn of a page that is mapped once, 0 if there is no frame."""
    pfn = allocate(s)
    if pfn:
        f = frame(pfn)
        s[f + REF] = 1
        s[f + MAP] = 1
        s[f + EXC] = 1
        s[f + VAL] = value
    return pfn


def write_fault(s, i):  # type: ignore[no-untyped-def]
    """Whether pte ``i`` is writable now."""
    if s[WR + i]:
        return True
    if s[PFN + i] == 0:
        pfn = new_page(s, 0)
        if pfn == 0:
            return False
        s[PFN + i] = pfn
    else:
        f = frame(s[PFN + i])
        if may_reuse(s[f + REF], s[f + PIN]):
            s[f + EXC] = 1
        else:
            pfn = new_page(s, s[f + VAL])
            if pfn == 0:
                return False
            s[PFN + i] = pfn
            s[f + MAP] -= 1
            drop_ref(s, f)
    s[WR + i] = 1
    return True


def drop_swap_pte(s, slot):  # type: ignore[no-untyped-def]
    s[SCNT + slot] -= 1
    if s[SCNT + slot] == 0:
        s[SVAL + slot] = 0
        if s[SCACHE + slot]:
            drop_ref(s, frame(s[SCACHE + slot]))
            s[SCACHE + slot] = 0


# --- steps --------------------------------------------------------------------------------------------------------


def store(s, i, x):  # type: ignore[no-untyped-def]
    if s[SWP + i]:
        return BLOCKED
    if s[WR + i]:
        field = frame(s[PFN + i]) + VAL
        s[field] = x
        return field
    if not write_fault(s, i):
        return BLOCKED
    s[frame(s[PFN + i]) + VAL] = x
    return SEVERAL


def load(s, i):  # type: ignore[no-untyped-def]
    if s[PFN + i] == 0:
        return BLOCKED
    s[OBS] = s[frame(s[PFN + i]) + VAL]
    return OBS


def fork(s, p):  # type: ignore[no-untyped-def]
    q = 0
    while q < KP and s[ALIVE + q]:
        q += 1
    if q == KP:
        return BLOCKED
    for v in range(KV):
        mine = p * KV + v
        child = q * KV + v
        if s[DF + mine]:
            continue
        if s[SWP + mine]:
            s[SWP + child] = s[SWP + mine]
            s[SCNT + s[SWP + mine] - 1] += 1
        elif s[PFN + mine]:
            f = frame(s[PFN + mine])
            if must_copy(s[f + REF], s[f + PIN]):
                pfn = new_page(s, s[f + VAL])
                if pfn == 0:
                    return BLOCKED
                s[PFN + child] = pfn
                s[WR + child] = 1
            else:
                s[PFN + child] = s[PFN + mine]
                s[f + REF] += 1
                s[f + MAP] += 1
                s[f + EXC] = 0
                s[WR + mine] = 0
                s[WR + child] = 0
    s[ALIVE + q] = 1
    return SEVERAL


def exit_(s, p):  # type: ignore[no-untyped-def]
    others = 0
    for q in range(KP):
        others += s[ALIVE + q]
    if others < 2:
        return BLOCKED
    for v in range(KV):
        i = p * KV + v
        if s[SWP + i]:
            drop_swap_pte(s, s[SWP + i] - 1)
        elif s[PFN + i]:
            f = frame(s[PFN + i])
            s[f + MAP] -= 1
            drop_ref(s, f)
        s[PFN + i] = 0
        s[WR + i] = 0
        s[SWP + i] = 0
        s[DF + i] = 0
    for d in range(KD):
        if s[DP + d] == p + 1:
            s[DP + d] = 0
            s[DV + d] = 0
    s[ALIVE + p] = 0
    return SEVERAL


def pin(s, p, v, rw):  # type: ignore[no-untyped-def]
    d = 0
    while d < KD and s[DPFN + d]:
        d += 1
    i = p * KV + v
    if d == KD or s[SWP + i]:
        return BLOCKED
    if rw:
        if not write_fault(s, i):
            return BLOCKED
    elif s[PFN + i] == 0:
        return BLOCKED
    f = frame(s[PFN + i])
    s[f + REF] += 1
    s[f + PIN] += 1
    s[DPFN + d] = s[PFN + i]
    s[DRW + d] = rw
    s[DP + d] = p + 1
    s[DV + d] = v
    return SEVERAL


def unpin(s, d):  # type: ignore[no-untyped-def]
    f = frame(s[DPFN + d])
    s[f + PIN] -= 1
    drop_ref(s, f)
    s[DPFN + d] = 0
    s[DRW + d] = 0
    s[DP + d] = 0
    s[DV + d] = 0
    return SEVERAL


def dma_write(s, d, x):  # type: ignore[no-untyped-def]
    if s[DRW + d] == 0:
        return BLOCKED
    field = frame(s[DPFN + d]) + VAL
    s[field] = x
    return field


def dma_read(s, d):  # type: ignore[no-untyped-def]
    s[OBS] = s[frame(s[DPFN + d]) + VAL]
    return OBS


def dontfork(s, i):  # type: ignore[no-untyped-def]
    if s[DF + i]:
        return BLOCKED
    s[DF + i] = 1
    return DF + i


def swapout(s, pfn):  # type: ignore[no-untyped-def]
    f = frame(pfn)
    if s[f + MAP] == 0:
        return BLOCKED
    slot = 0
    while slot < KS and s[SCACHE + slot] != pfn:
        slot += 1
    if slot == KS:
        slot = 0
        while slot < KS and s[SCNT + slot]:
            slot += 1
        if slot == KS:
            return BLOCKED
        s[SCACHE + slot] = pfn
        s[f + REF] += 1
    s[f + EXC] = 0
    for i in range(PTES):
        if s[PFN + i] == pfn:
            s[PFN + i] = 0
            s[WR + i] = 0
            s[SWP + i] = slot + 1
            s[SCNT + slot] += 1
            s[f + MAP] -= 1
            s[f + REF] -= 1
    if s[f + REF] == 1:
        s[SVAL + slot] = s[f + VAL]
        s[SCACHE + slot] = 0
        drop_ref(s, f)
    return SEVERAL


def swapin(s, i):  # type: ignore[no-untyped-def]
    if s[SWP + i] == 0:
        return BLOCKED
    slot = s[SWP + i] - 1
    pfn = int(s[SCACHE + slot])
    if pfn == 0:
        pfn = allocate(s)
        if pfn == 0:
            return BLOCKED
        f = frame(pfn)
        s[f + REF] = 1
        s[f + VAL] = s[SVAL + slot]
        s[SVAL + slot] = 0
        s[SCACHE + slot] = pfn
    f = frame(pfn)
    s[f + REF] += 1
    s[f + MAP] += 1
    s[PFN + i] = pfn
    s[WR + i] = 0
    s[SWP + i] = 0
    drop_swap_pte(s, slot)
    return SEVERAL


# --- canonical numbers --------------------------------------------------------------------------------------------


def renumber_slots(s, old):  # type: ignore[no-untyped-def]
    """Slots in the order in which swap ptes name them; ``old`` is room for a state."""
    if KS == 1:
        return
    copy_state(old, s, SIZE)
    place = 0  # four bits a slot: its number from now on
    following = 0
    for i in range(PTES):
        slot = old[SWP + i]
        if slot:
            if (place >> 4 * slot) & 15 == 0:
                following += 1
                place |= following << 4 * slot
            s[SWP + i] = (place >> 4 * slot) & 15
    for slot in range(1, KS + 1):
        to = (place >> 4 * slot) & 15
        if to == 0:
            following += 1
            to = following
        s[SCNT + to - 1] = old[SCNT + slot - 1]
        s[SVAL + to - 1] = old[SVAL + slot - 1]
        s[SCACHE + to - 1] = old[SCACHE + slot - 1]


def frames_in_order(s):  # type: ignore[no-untyped-def]
    following = 1
    for i in range(PTES):
        if s[PFN + i] > following:
            return False
        following += s[PFN + i] == following
    for d in range(KD):
        if s[DPFN + d] > following:
            return False
        following += s[DPFN + d] == following
    for slot in range(KS):
        if s[SCACHE + slot] > following:
            return False
        following += s[SCACHE + slot] == following
    return True


def renumber_frames(s, old):  # type: ignore[no-untyped-def]
    """Frames in the order in which ptes, pins and swap-cache entries first refer to them."""
    if frames_in_order(s):
        return
    copy_state(old, s, SIZE)
    place = 0
    following = 0
    for i in range(PTES):
        pfn = old[PFN + i]
        if pfn:
            if (place >> 4 * pfn) & 15 == 0:
                following += 1
                place |= following << 4 * pfn
            s[PFN + i] = (place >> 4 * pfn) & 15
    for d in range(KD):
        pfn = old[DPFN + d]
        if pfn:
            if (place >> 4 * pfn) & 15 == 0:
                following += 1
                place |= following << 4 * pfn
            s[DPFN + d] = (place >> 4 * pfn) & 15
    for slot in range(KS):
        pfn = old[SCACHE + slot]
        if pfn:
            if (place >> 4 * pfn) & 15 == 0:
                following += 1
                place |= following << 4 * pfn
            s[SCACHE + slot] = (place >> 4 * pfn) & 15
    for pfn in range(1, KF + 1):
        to = (place >> 4 * pfn) & 15
        if to == 0:
            following += 1
            to = following
        for k in range(FRAME_SIZE):
            s[frame(to) + k] = old[frame(pfn) + k]


# --- properties, as bits ------------------------------------------------------------------------------------------
INCOHERENT = 1
MISCOUNTED = 2
SHARED_WRITABLE = 4
DEEP = 8


def incoherent(s, d):  # type: ignore[no-untyped-def]
    """Whether a living owner's page is not the one that it pinned for writing."""
    if s[DRW + d] == 0 or s[DP + d] == 0:
        return False
    i = (s[DP + d] - 1) * KV + s[DV + d]
    return s[SWP + i] == 0 and s[PFN + i] != s[DPFN + d]


def judge(m, s):  # type: ignore[no-untyped-def]
    broken = 0
    deep = s[OBS] == KW - 1
    for d in range(KD):
        if incoherent(s, d):
            broken |= INCOHERENT
            if s[frame(s[DPFN + d]) + VAL] != KW - 1:
                deep = False
        else:
            deep = False
    if deep:
        broken |= DEEP
    for pfn in range(1, KF + 1):
        cached = 0
        for slot in range(KS):
            cached += s[SCACHE + slot] == pfn
        f = frame(pfn)
        if s[f + REF] != s[f + MAP] + s[f + PIN] + cached:
            broken |= MISCOUNTED
    for i in range(PTES):
        if s[WR + i] and s[frame(s[PFN + i]) + MAP] != 1:
            broken |= SHARED_WRITABLE
    return broken


# --- all steps ----------------------------------------------------------------------------------------------------


def note(m, state, out, fps, labels, flags, n, low, high, label, changed):  # type: ignore[no-untyped-def]
    """The state at place ``n`` is a successor, unless the step was blocked; how many there are now."""
    if changed == BLOCKED:
        return n
    s = beyond(out, n * SIZE)
    if changed == SEVERAL:
        if CANON:
            renumber_slots(s, beyond(s, SIZE))
            renumber_frames(s, beyond(s, SIZE))
        low, high = sum_of(m, s, SIZE)
        fps[n] = print_of_sum(low, high)
    else:
        change = 0 - state[changed] + s[changed]  # signed, compiled too
        if change == 0:
            fps[n] = 0  # says so: it leads nowhere else
        else:
            low, high = sum_plus(m, low, high, changed, change)
            fps[n] = print_of_sum(low, high)
    labels[n] = label
    flags[n] = 0
    return n + 1


def expand(m, state, out, fps, labels, flags):  # type: ignore[no-untyped-def]
    """All successors of ``state`` one after another in ``out``, which has room for one more; how many."""
    low, high = sum_of(m, state, SIZE)
    n = 0
    for p in range(KP):
        if state[ALIVE + p] == 0:
            continue
        for v in range(KV):
            i = p * KV + v
            for x in range(1, KW):
                s = beyond(out, n * SIZE)
                copy_state(s, state, SIZE)
                n = note(m, state, out, fps, labels, flags, n, low, high, STORE | i << 4 | x << 8, store(s, i, x))
            s = beyond(out, n * SIZE)
            copy_state(s, state, SIZE)
            n = note(m, state, out, fps, labels, flags, n, low, high, LOAD | i << 4, load(s, i))
            for rw in range(2):
                s = beyond(out, n * SIZE)
                copy_state(s, state, SIZE)
                n = note(m, state, out, fps, labels, flags, n, low, high, TAKE | i << 4 | rw << 8, pin(s, p, v, rw))
            s = beyond(out, n * SIZE)
            copy_state(s, state, SIZE)
            n = note(m, state, out, fps, labels, flags, n, low, high, DONTFORK | i << 4, dontfork(s, i))
            s = beyond(out, n * SIZE)
            copy_state(s, state, SIZE)
            n = note(m, state, out, fps, labels, flags, n, low, high, SWAPIN | i << 4, swapin(s, i))
        s = beyond(out, n * SIZE)
        copy_state(s, state, SIZE)
        n = note(m, state, out, fps, labels, flags, n, low, high, FORK | p << 4, fork(s, p))
        s = beyond(out, n * SIZE)
        copy_state(s, state, SIZE)
        n = note(m, state, out, fps, labels, flags, n, low, high, EXIT | p << 4, exit_(s, p))
    for d in range(KD):
        if state[DPFN + d] == 0:
            continue
        s = beyond(out, n * SIZE)
        copy_state(s, state, SIZE)
        n = note(m, state, out, fps, labels, flags, n, low, high, UNPIN | d << 4, unpin(s, d))
        for x in range(1, KW):
            s = beyond(out, n * SIZE)
            copy_state(s, state, SIZE)
            n = note(m, state, out, fps, labels, flags, n, low, high, DMA_WRITE | d << 4 | x << 8, dma_write(s, d, x))
        s = beyond(out, n * SIZE)
        copy_state(s, state, SIZE)
        n = note(m, state, out, fps, labels, flags, n, low, high, DMA_READ | d << 4, dma_read(s, d))
    for pfn in range(1, KF + 1):
        s = beyond(out, n * SIZE)
        copy_state(s, state, SIZE)
        n = note(m, state, out, fps, labels, flags, n, low, high, SWAPOUT | pfn - 1 << 4, swapout(s, pfn))
    return n


def first_state():  # type: ignore[no-untyped-def]
    return bytes([1]) + bytes(SIZE - 1)
