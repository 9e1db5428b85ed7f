"""The common model as one source at two speeds: plain functions on a flat vector of small integers.

Interpreted, a state is a ``bytearray`` and this is an ordinary module, of size S. Compiled, the engine binds the sizes
and the rule, and the few words at the end of the first part, to something else (see ``benchmarks.common.engine``).

A step is a function that changes ``s`` and returns which number it changed, ``SEVERAL``, or ``BLOCKED`` if its guard is
false.
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
SYMMETRY = 0  # whether processes, pages and values are, too: one state stands for all that differ in their names
ORDER = 0  # whether steps are left out that lead where another order of them leads: see "partial order"


def beyond(states, count):
    """The states that begin ``count`` numbers further on."""
    return states[count:]


def copy_state(to, source, size):
    to[:size] = source[:size]


def copy_frame(to, at, source, source_at):
    to[at : at + FRAME_SIZE] = source[source_at : source_at + FRAME_SIZE]


def sum_of(m, s, size):
    """Something to make a fingerprint of, and of it plus what changed."""
    return 0, 0


def print_of_sum(low, high):
    return 0


def sum_plus(m, low, high, field, change):
    return 0, 0


# --- the kernel's decisions ---------------------------------------------------------------------------------------


def may_reuse(ref, pin):
    """do_wp_page(): is whoever stores the only one who has this page?"""
    return ref == 1


def must_copy(ref, pin):
    """copy_present_pte(): does the child need a page of its own at once?"""
    if RULE == 1:
        return pin > 0
    return False


# --- the state ----------------------------------------------------------------------------------------------------
PTES = KP * KV
#: Whatever names a frame (0, or frame + 1), in the order that gives frames their numbers.
NAMES = PTES + KD + KS
PFN = 0
DPFN = PFN + PTES
SCACHE = DPFN + KD
ALIVE = SCACHE + KS
WR = ALIVE + KP
SWP = WR + PTES  # 0, or slot + 1
DF = SWP + PTES
FRAMES = DF + PTES
REF, MAP, PIN, EXC, VAL = range(5)
FRAME_SIZE = 5
DRW = FRAMES + KF * FRAME_SIZE
DP = DRW + KD  # 0, or owner + 1
DV = DP + KD
SCNT = DV + KD
SVAL = SCNT + KS
OBS = SVAL + KS
LENGTH = OBS + 1
SIZE = (LENGTH + 2 * ORDER + 7) // 8 * 8
#: With ORDER: how the state was found, a note that is no part of it. Not the last byte of a word, so that a fingerprint
#: can be corrected by it as by any other number.
HOW = LENGTH + (LENGTH % 8 == 7)

#: At most this many steps are possible in one state.
WIDTH = PTES * (KW + 6) + 2 * KP + KD * (KW + 1) + KF

STORE, LOAD, FORK, EXIT, TAKE, UNPIN, DMA_WRITE, DMA_READ, DONTFORK, SWAPOUT, SWAPIN = range(11)
STEP_NAMES = (
    "store", "load", "fork", "exit", "pin", "unpin", "dma_write", "dma_read", "dontfork", "swapout", "swapin",
)  # fmt: skip


def frame(pfn):
    """Where the frame of a pte, pin or swap-cache entry begins."""
    return FRAMES + (pfn - 1) * FRAME_SIZE


# --- partial order ------------------------------------------------------------------------------------------------
#
# Let u lead from p to s, where nothing shorter leads, and t be a step that can be taken in s. If t can be taken in p,
# and u after it, and both orders lead to the same state, then t need not be taken in s: there is another way to that
# state, as short, that ends with u or a step of its kind. Lest each of two ways be left out for the other's sake, kinds
# have ranks (reading, writing a value, everything else, dontfork), and t's must be lower than u's: ways that stand for
# one another end with higher and higher ranks, so the last of them is taken. Or t undoes what u did, and leads where it
# leads from p. These are sleep sets (Godefroid 1996, chapter 5), of which only what the first way to a state tells is
# kept. Every state is found, at its distance; steps are saved.
#
# A note has a kind, four bits, and then the page table entry, or BY_PIN and the pin, through which a frame was written
# or at which it was mapped. It is renamed with the state.
FOUND_READ, FOUND_VALUE, FOUND_STORE, FOUND_PIN, FOUND_FAULT_PIN, FOUND_UNPIN = 1, 2, 3, 4, 5, 6
FOUND_SWAPOUT, FOUND_SWAPIN, FOUND_FORK, FOUND_EXIT, FOUND_DONTFORK = 7, 8, 9, 10, 11
BY_PIN = 8
#: What is left out, by kind: reads, stores to a writable page, DMA writes. Nothing; all; all but those at the frame
#: that u wrote or mapped; only those, which overwrite what u wrote.
NOTHING, ALL, BUT_THERE, THERE = 0, 1, 2, 3
READS_LEFT_OUT = (
    NOTHING, ALL, BUT_THERE, BUT_THERE, ALL, BUT_THERE, ALL, ALL, BUT_THERE, ALL, ALL, ALL,
)  # fmt: skip
#: A fork may copy pages for the child, with contents that a write before it would have changed.
BY_FORK = ALL if RULE == 0 else NOTHING
STORES_LEFT_OUT = (NOTHING, NOTHING, THERE, ALL, ALL, ALL, ALL, ALL, ALL, BY_FORK, ALL, ALL)
#: A write fault may copy the frame that a device writes to; with one pin only, that is not so in taking it.
BY_PIN_FAULT = ALL if KD == 1 else NOTHING
DMA_WRITES_LEFT_OUT = (
    NOTHING, NOTHING, THERE, NOTHING, ALL, BY_PIN_FAULT, ALL, ALL, ALL, BY_FORK, ALL, ALL,
)  # fmt: skip


def is_left_out(which, there, pfn):
    """Whether a step at frame ``pfn`` is; ``there`` is the frame that the last step wrote or mapped."""
    return which == ALL or (which == BUT_THERE and pfn != there) or (which == THERE and pfn == there)


def frame_of_note(state):
    """pfn that the last step wrote or mapped, where that matters."""
    whose = 0 + (state[HOW] & 15)
    if whose >= BY_PIN:
        return 0 + state[DPFN + whose - BY_PIN]
    return 0 + state[PFN + whose]


def begin_step(s, state):
    copy_state(s, state, SIZE)
    if ORDER:
        s[HOW] = 0


def note(s, kind, whose):
    if ORDER:
        s[HOW] = kind << 4 | whose


# --- pages --------------------------------------------------------------------------------------------------------


def allocate(s):
    """pfn of the lowest free frame, 0 if there is none."""
    for pfn in range(1, KF + 1):
        if s[frame(pfn) + REF] == 0:
            return pfn
    return 0


def drop_ref(s, f):
    s[f + REF] -= 1
    if s[f + REF] == 0:
        s[f + EXC] = 0
        s[f + VAL] = 0


def new_page(s, value):
    """pfn of a page that is mapped once, 0 if there is no frame."""
    pfn = allocate(s)
    if pfn:
        f = frame(pfn)
        s[f + REF] = 1
        s[f + MAP] = 1
        s[f + EXC] = 1
        s[f + VAL] = value
    return pfn


def write_fault(s, i):
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


def drop_swap_pte(s, slot):
    s[SCNT + slot] -= 1
    if s[SCNT + slot] == 0:
        s[SVAL + slot] = 0
        if s[SCACHE + slot]:
            drop_ref(s, frame(s[SCACHE + slot]))
            s[SCACHE + slot] = 0


# --- steps that change several numbers; False if there is no frame or slot for it ---------------------------------


def take_pin(s, d, p, v, rw):
    pfn = s[PFN + p * KV + v]
    f = frame(pfn)
    s[f + REF] += 1
    s[f + PIN] += 1
    s[DPFN + d] = pfn
    s[DRW + d] = rw
    s[DP + d] = p + 1
    s[DV + d] = v


def unpin(s, d):
    f = frame(s[DPFN + d])
    s[f + PIN] -= 1
    drop_ref(s, f)
    s[DPFN + d] = 0
    s[DRW + d] = 0
    s[DP + d] = 0
    s[DV + d] = 0


def fork(s, p, q):
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
                    return False
                s[PFN + child] = pfn
                s[WR + child] = 1
            else:
                s[PFN + child] = s[PFN + mine]
                s[f + REF] += 1
                s[f + MAP] += 1
                s[f + EXC] = 0
                s[WR + mine] = 0
    s[ALIVE + q] = 1
    return True


def exit_(s, p):
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


def swapout(s, pfn):
    f = frame(pfn)
    slot = 0
    while slot < KS and s[SCACHE + slot] != pfn:
        slot += 1
    if slot == KS:
        slot = 0
        while slot < KS and s[SCNT + slot]:
            slot += 1
        if slot == KS:
            return False
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
    return True


def swapin(s, i):
    slot = s[SWP + i] - 1
    pfn = 0 + s[SCACHE + slot]
    if pfn == 0:
        pfn = allocate(s)
        if pfn == 0:
            return False
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
    return True


# --- canonical numbers --------------------------------------------------------------------------------------------


def renumber_slots(s, old):
    """Slots in the order in which swap ptes name them; ``old`` is room for a state."""
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


def frames_in_order(s):
    following = 1
    for i in range(NAMES):
        if s[i] > following:
            return False
        following += s[i] == following
    return True


def renumber_frames(s, old):
    """Frames in the order in which ptes, pins and swap-cache entries first refer to them."""
    copy_state(old, s, SIZE)
    place = 0
    following = 0
    for i in range(NAMES):
        pfn = old[i]
        if pfn:
            if (place >> 4 * pfn) & 15 == 0:
                following += 1
                place |= following << 4 * pfn
            s[i] = (place >> 4 * pfn) & 15
    for pfn in range(1, KF + 1):
        to = (place >> 4 * pfn) & 15
        if to == 0:
            following += 1
            to = following
        copy_frame(s, frame(to), old, frame(pfn))


# --- symmetry: which process, page or value is which makes no difference ------------------------------------------


def key_of(s, p, v):
    """What there is to tell a page of a process from others, whatever they and the values are called: 14 bits."""
    i = p * KV + v
    pfn = s[PFN + i]
    key = s[ALIVE + p] << 13 | s[WR + i] << 12 | (s[SWP + i] != 0) << 11 | s[DF + i] << 10
    if pfn:
        f = frame(pfn)
        key |= s[f + REF] << 7 | s[f + EXC] << 6 | (s[f + VAL] != 0) << 5 | (s[f + VAL] == s[OBS]) << 4
        for d in range(KD):
            key |= (s[DPFN + d] == pfn) << 3
        for slot in range(KS):
            key |= (s[SCACHE + slot] == pfn) << 2
    for d in range(KD):
        key |= ((s[DP + d] == p + 1) & (s[DV + d] == v)) << (1 - s[DRW + d])
    return key


def reorder(s, old):
    """Of the orders of two processes and of two pages, the one with the greatest keys, one after the other.

    Where keys are equal the order stays: then several states may stand for what one could, which is right though not
    least.
    """
    swap_p = 0
    swap_v = 0
    if KV == 1:
        swap_p = int(key_of(s, 1, 0) > key_of(s, 0, 0))
    else:
        a = key_of(s, 0, 0)
        b = key_of(s, 0, 1)
        c = key_of(s, 1, 0)
        d = key_of(s, 1, 1)
        best = a << 42 | b << 28 | c << 14 | d
        other = b << 42 | a << 28 | d << 14 | c
        if other > best:
            best = other
            swap_v = 1
        other = c << 42 | d << 28 | a << 14 | b
        if other > best:
            best = other
            swap_p = 1
            swap_v = 0
        other = d << 42 | c << 28 | b << 14 | a
        if other > best:
            swap_p = 1
            swap_v = 1
    if swap_p | swap_v:
        copy_state(old, s, SIZE)
        swap = swap_p * KV | swap_v
        for i in range(PTES):
            s[PFN + i] = old[PFN + (i ^ swap)]
            s[WR + i] = old[WR + (i ^ swap)]
            s[SWP + i] = old[SWP + (i ^ swap)]
            s[DF + i] = old[DF + (i ^ swap)]
        if ORDER:
            kind = s[HOW] >> 4
            named = (
                (kind == FOUND_STORE) | (kind == FOUND_FAULT_PIN) | (kind == FOUND_SWAPIN) | (kind == FOUND_DONTFORK)
            )
            if named | ((kind == FOUND_VALUE) & (s[HOW] & BY_PIN == 0)):
                s[HOW] ^= swap
        for p in range(KP):
            s[ALIVE + p] = old[ALIVE + (p ^ swap_p)]
        for d in range(KD):
            if s[DP + d]:
                s[DP + d] = (s[DP + d] - 1 ^ swap_p) + 1
                s[DV + d] ^= swap_v


def rename_values(s):
    """Values but 0 in the order of frames, slots and what was read last."""
    place = 0
    following = 0
    for k in range(KF + KS + 1):
        at = FRAMES + k * FRAME_SIZE + VAL
        if k >= KF:
            at = SVAL + k - KF
        if k == KF + KS:
            at = OBS
        value = 4 * s[at]
        if value:
            if (place >> value) & 15 == 0:
                following += 1
                place |= following << value
            s[at] = (place >> value) & 15


def canonical(s, old):
    """Whatever can be numbered otherwise gets the number by which this state is known; ``old`` is room for a state."""
    if SYMMETRY:
        reorder(s, old)
    if CANON:
        if KS > 1:
            renumber_slots(s, old)
        if not frames_in_order(s):
            renumber_frames(s, old)
    if SYMMETRY and KW > 2:
        rename_values(s)


# --- properties, as bits ------------------------------------------------------------------------------------------
INCOHERENT = 1
MISCOUNTED = 2
SHARED_WRITABLE = 4
DEEP = 8


def incoherent(s, d):
    """Whether a living owner's page is not the one that it pinned for writing."""
    if s[DRW + d] == 0 or s[DP + d] == 0:
        return False
    i = (s[DP + d] - 1) * KV + s[DV + d]
    return s[SWP + i] == 0 and s[PFN + i] != s[DPFN + d]


def judge(m, s):
    broken = 0
    deep = s[OBS] == KW - 1
    if SYMMETRY:
        deep = s[OBS] != 0
    for d in range(KD):
        if incoherent(s, d):
            broken |= INCOHERENT
            if s[frame(s[DPFN + d]) + VAL] != s[OBS]:
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


def large_steps(state, out, labels):
    """Write the successors by steps that change several numbers; how many. Their fingerprints are made afterwards."""
    n = 0
    # After dontfork(p, v) only p's own fork and exit come to something else.
    marked = -1
    if ORDER and state[HOW] >> 4 == FOUND_DONTFORK:
        marked = 0 + (state[HOW] & 15) // KV
    unborn = 0
    while unborn < KP and state[ALIVE + unborn]:
        unborn += 1
    living = 0
    for p in range(KP):
        living += state[ALIVE + p]
    unused = 0
    while unused < KD and state[DPFN + unused]:
        unused += 1
    for p in range(KP):
        if state[ALIVE + p] == 0:
            continue
        for v in range(KV):
            if marked >= 0:
                break
            i = p * KV + v
            s = beyond(out, n * SIZE)
            if state[SWP + i]:
                begin_step(s, state)
                if swapin(s, i):
                    note(s, FOUND_SWAPIN, i)
                    canonical(s, beyond(s, SIZE))
                    labels[n] = SWAPIN | i << 4
                    n += 1
                continue
            if state[WR + i] == 0:
                begin_step(s, state)
                if write_fault(s, i):
                    if not SYMMETRY:
                        canonical(s, beyond(s, SIZE))
                    # What can be done after the fault, from the last to the first, which is done to s itself.
                    to = n + KW - 1
                    if unused < KD:
                        last = beyond(out, to * SIZE)
                        copy_state(last, s, SIZE)
                        take_pin(last, unused, p, v, 1)
                        note(last, FOUND_FAULT_PIN, i)
                        if SYMMETRY:
                            canonical(last, beyond(out, (to + 1) * SIZE))
                        labels[to] = TAKE | i << 4 | 1 << 8
                    value = frame(s[PFN + i]) + VAL
                    for x in range(KW - 1, 0, -1):
                        stored = beyond(out, (n + x - 1) * SIZE)
                        if x > 1:
                            copy_state(stored, s, SIZE)
                        stored[value] = x
                        note(stored, FOUND_STORE, i)
                        if SYMMETRY:
                            canonical(stored, beyond(out, (to + 1) * SIZE))
                        labels[n + x - 1] = STORE | i << 4 | x << 8
                    n = to + (unused < KD)
            elif unused < KD:
                begin_step(s, state)
                take_pin(s, unused, p, v, 1)
                note(s, FOUND_PIN, 0)
                if SYMMETRY:
                    canonical(s, beyond(s, SIZE))
                labels[n] = TAKE | i << 4 | 1 << 8
                n += 1
            if unused < KD and state[PFN + i]:
                s = beyond(out, n * SIZE)
                begin_step(s, state)
                take_pin(s, unused, p, v, 0)
                note(s, FOUND_PIN, 0)
                if SYMMETRY:
                    canonical(s, beyond(s, SIZE))
                labels[n] = TAKE | i << 4
                n += 1
        if unborn < KP:
            s = beyond(out, n * SIZE)
            begin_step(s, state)
            if fork(s, p, unborn):
                note(s, FOUND_FORK, 0)
                canonical(s, beyond(s, SIZE))
                labels[n] = FORK | p << 4
                n += 1
        if living > 1 and (marked < 0 or marked == p):
            s = beyond(out, n * SIZE)
            begin_step(s, state)
            exit_(s, p)
            note(s, FOUND_EXIT, 0)
            canonical(s, beyond(s, SIZE))
            labels[n] = EXIT | p << 4
            n += 1
    if marked >= 0:
        return n
    for d in range(KD):
        if state[DPFN + d]:
            s = beyond(out, n * SIZE)
            begin_step(s, state)
            unpin(s, d)
            note(s, FOUND_UNPIN, 0)
            canonical(s, beyond(s, SIZE))
            labels[n] = UNPIN | d << 4
            n += 1
    for pfn in range(1, KF + 1):
        if state[frame(pfn) + MAP]:
            s = beyond(out, n * SIZE)
            begin_step(s, state)
            if swapout(s, pfn):
                note(s, FOUND_SWAPOUT, 0)
                canonical(s, beyond(s, SIZE))
                labels[n] = SWAPOUT | pfn - 1 << 4
                n += 1
    return n


def change(m, state, out, fps, n, low, high, field, value, kind, whose):
    """The successor in which one number is another. If it is the same, a fingerprint of 0 says so."""
    difference = 0 - state[field] + value
    s = beyond(out, n * SIZE)
    begin_step(s, state)
    s[field] = value
    note(s, kind, whose)
    if SYMMETRY:
        if difference == 0:
            fps[n] = 0
            return
        canonical(s, beyond(s, SIZE))
        low, high = sum_without_note(m, s)
    else:
        low, high = sum_plus(m, low, high, field, difference)
    fps[n] = print_of_sum(low, high) * (difference != 0)


def sum_without_note(m, s):
    low, high = sum_of(m, s, SIZE)
    if ORDER:
        low, high = sum_plus(m, low, high, HOW, 0 - s[HOW])
    return low, high


def expand(m, state, out, fps, labels, flags):
    """All successors of ``state`` one after another in ``out``, which has room for one more; how many."""
    n = large_steps(state, out, labels)
    for k in range(n):
        low, high = sum_without_note(m, beyond(out, k * SIZE))
        fps[k] = print_of_sum(low, high)
    low, high = sum_without_note(m, state)
    kind = 0
    there = 0
    if ORDER:
        kind = 0 + (state[HOW] >> 4)
        there = frame_of_note(state)
    reads = READS_LEFT_OUT[kind]
    stores = STORES_LEFT_OUT[kind]
    dma_writes = DMA_WRITES_LEFT_OUT[kind]
    for p in range(KP):
        if state[ALIVE + p] == 0:
            continue
        for i in range(p * KV, (p + 1) * KV):
            if state[PFN + i]:
                value = frame(state[PFN + i]) + VAL
                if state[WR + i] and not is_left_out(stores, there, state[PFN + i]):
                    for x in range(1, KW):
                        change(m, state, out, fps, n, low, high, value, x, FOUND_VALUE, i)
                        labels[n] = STORE | i << 4 | x << 8
                        n += 1
                if not is_left_out(reads, there, state[PFN + i]):
                    change(m, state, out, fps, n, low, high, OBS, state[value], FOUND_READ, 0)
                    labels[n] = LOAD | i << 4
                    n += 1
            # In the order of entries, as long as these have names.
            if state[DF + i] == 0 and (SYMMETRY or kind != FOUND_DONTFORK or i > (state[HOW] & 15)):
                change(m, state, out, fps, n, low, high, DF + i, 1, FOUND_DONTFORK, i)
                labels[n] = DONTFORK | i << 4
                n += 1
    for d in range(KD):
        if state[DPFN + d]:
            value = frame(state[DPFN + d]) + VAL
            if state[DRW + d] and not is_left_out(dma_writes, there, state[DPFN + d]):
                for x in range(1, KW):
                    change(m, state, out, fps, n, low, high, value, x, FOUND_VALUE, BY_PIN + d)
                    labels[n] = DMA_WRITE | d << 4 | x << 8
                    n += 1
            if not is_left_out(reads, there, state[DPFN + d]):
                change(m, state, out, fps, n, low, high, OBS, state[value], FOUND_READ, 0)
                labels[n] = DMA_READ | d << 4
                n += 1
    for k in range(n):
        flags[k] = 0
    return n


def first_state():
    s = bytearray(SIZE)
    s[ALIVE] = 1
    return bytes(s)
