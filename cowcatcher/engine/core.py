# mypy: allow-untyped-defs, allow-untyped-calls
"""The inner loops of the search; compiled once per space, with the names of the first paragraph bound to it.

A round takes the next states of the queue in three phases, between which threads wait for one another:

- ``expand_states``: each thread takes a piece of the queue, and keeps of the successors those that the table does not
have. It only   reads the table. Successors are looked up in batches, so that the table's cache lines are on their way
meanwhile.
- ``insert_candidates``: each thread puts the candidates whose fingerprints it owns into the table, in the order of the
queue,   whoever found them. Of several ways to a new state the first in that order wins.
- ``append_states``: each thread gives numbers to its own candidates that were new, and appends them to the queue.

So states, their numbers and parents are the same for any number of threads and any length of rounds.

The queue is the sequence of all states by number; their bytes lie in blocks that are given back when they have been
expanded (fingerprints) or kept (exact). Everything is in memory that ``store`` reserved; ``g`` holds what all threads
share and ``t`` what is a thread's own, as numbers and addresses.
"""

from __future__ import annotations

import numpy as np

from cowcatcher.engine.fingerprint import fingerprint
from cowcatcher.engine.words import (
    beyond,
    bytes_at,
    copy_state,
    halves_at,
    indices_at,
    ints_at,
    load_word,
    longs_at,
    prefetch,
    words_at,
)

# --- bound to the space -------------------------------------------------------------------------------------------
SIZE = 0  # bytes of a state; 0: known at run time only
WIDTH = 64  # successors of one state at most
STAYS = False  # whether there are steps that cost nothing
OWN_FINGERPRINTS = False  # whether ``expand`` makes fingerprints; else they are made here
JUDGES = False  # whether ``judge`` has anything to say
NOTE = -1  # the byte of a state that is a note on how it was found, and no part of it; -1: none


def expand(m, state, out, fps, labels, flags):
    """Write the successors of ``state``; how many.

    ``out`` has room for one state more than ``WIDTH``. A fingerprint of 0 says that a step leads back to ``state``;
    properties that are broken in ``state`` itself may be added to what is returned, as bits from the 16th on.
    """
    return 0


def judge(m, state):
    """Properties broken in a state, asked for new ones only."""
    return 0


# --- what the numbers in g and t are ------------------------------------------------------------------------------
(
    G_SIZE, G_TABLE, G_BUCKETS, G_LATER, G_LATER_BUCKETS, G_BLOCKS, G_SHIFT, G_PARENTS, G_STEPS, G_KEYS, G_EXACT,
    G_THREADS, G_STATES, G_WANTED, G_FINALS, G_COSTED, G_DEFERRED, G_COUNT,
) = range(18)  # fmt: skip
(
    T_ME, T_FROM, T_TO, T_OUT, T_FPS, T_LABELS, T_FLAGS, T_WHICH, T_RECENT, T_RECENT_MASK, T_CAPACITY, T_STATES,
    T_PRINTS, T_PARENTS, T_STEPS, T_BITS, T_FOUND, T_TRANSITIONS, T_FLAGGED, T_FLAGGED_CAPACITY, T_N_FLAGGED,
    T_FINALS, T_FINALS_CAPACITY, T_N_FINALS, T_NEW, T_LATER, T_BIT_COUNTS,
    T_STEP_OF, T_PARENT_OF, T_LINE_OF, T_JUDGED, T_JUDGED_CAPACITY, T_N_JUDGED, T_PLACES,
    T_COUNT,
) = range(35)  # fmt: skip

# --- the table ----------------------------------------------------------------------------------------------------
#: A bucket is a cache line of eight entries, 0 if empty. The table is eight parts with buckets to spare between them,
#: so that two threads that insert into different parts never meet.
SPARE = 64
PARTS = 8
#: Of a batch, successors that are on their way.
BATCH = 160
AHEAD = 8
STAY = 128
NOBODY = 0xFFFF

U0 = np.uint64(0)
#: What is left of its word without the note.
WITHOUT_NOTE = np.uint64((1 << 64) - 1 - (0xFF << ((NOTE & 7) << 3)))
U8 = np.uint64(8)
U29 = np.uint64(29)
U32 = np.uint64(32)
U61 = np.uint64(61)
LOW29 = np.uint64((1 << 29) - 1)
LOW32 = np.uint64((1 << 32) - 1)
HIGH32 = np.uint64(0xFFFFFFFF << 32)
#: Tells a fingerprint of a costed step from one of a free step, in the list of recent ones.
OTHER = np.uint64(0x9E3779B97F4A7C15)
PROVISIONAL = 1 << 31
PROVISIONAL_SHIFT = 26


def home(h, buckets):
    """The bucket to look for a fingerprint in first, as the number of its first entry. Rises with the fingerprint."""
    place = np.int64((h >> U32) & LOW29) * buckets
    return (np.int64(h >> U61) * (buckets + SPARE) + (place >> 29)) << 3


def contains(table, line, h):
    """Whether ``h`` is in the bucket ``line`` or, if that is full, in one after it.

    All eight are compared, whichever it is: that takes fewer cycles than a jump that nobody can foresee.
    """
    while True:
        found, empty = 0, 0
        for k in range(8):
            entry = table[line + k]
            found |= entry == h
            empty |= entry == U0
        if found:
            return True
        if empty:
            return False
        line += 8


def insert(table, buckets, h):
    """Whether ``h`` was not there before."""
    line = home(h, buckets)
    while True:
        for place in range(line, line + 8):
            entry = table[place]
            if entry == h:
                return False
            if entry == U0:
                table[place] = h
                return True
        line += 8


def same(a, b, size):
    for word in range(size >> 3):
        difference = load_word(a, word << 3) ^ load_word(b, word << 3)
        if NOTE >= 0 and word == NOTE >> 3:
            difference &= WITHOUT_NOTE
        if difference != U0:
            return False
    return True


def state_at(blocks, shift, size, number):
    return bytes_at(np.int64(blocks[number >> shift]) + (number & ((1 << shift) - 1)) * size)


def contains_state(table, line, h, state, size, blocks, shift):
    """``contains`` for a table of (upper half of the fingerprint, number + 1): states are compared."""
    while True:
        for k in range(8):
            entry = table[line + k]
            if entry == U0:
                return False
            if (entry ^ h) & HIGH32 == U0:
                number = np.int64(entry & LOW32) - 1
                if same(state_at(blocks, shift, size, number), state, size):
                    return True
        line += 8


# --- first phase --------------------------------------------------------------------------------------------------


def expand_states(m, g, t):
    """Expand states T_FROM up to T_TO, or up to where a buffer is full: T_TO says then how far."""
    size = g[G_SIZE]
    if SIZE:
        size = SIZE
    table, buckets = words_at(g[G_TABLE]), g[G_BUCKETS]
    later, later_buckets = words_at(g[G_LATER]), g[G_LATER_BUCKETS]
    table_address, later_address = g[G_TABLE], g[G_LATER]
    blocks, shift = words_at(g[G_BLOCKS]), g[G_SHIFT]
    keys = words_at(g[G_KEYS])
    exact, wanted, costed = g[G_EXACT] != 0, g[G_WANTED], g[G_COSTED]
    out, fps, labels = bytes_at(t[T_OUT]), words_at(t[T_FPS]), ints_at(t[T_LABELS])
    flags, which, step_of = bytes_at(t[T_FLAGS]), ints_at(t[T_WHICH]), halves_at(t[T_STEP_OF])
    parent_of, line_of = indices_at(t[T_PARENT_OF]), longs_at(t[T_LINE_OF])
    recent, recent_mask = words_at(t[T_RECENT]), np.uint64(t[T_RECENT_MASK])
    prints, states = words_at(t[T_PRINTS]), bytes_at(t[T_STATES])
    parents, steps, bits = indices_at(t[T_PARENTS]), halves_at(t[T_STEPS]), bytes_at(t[T_BITS])
    limit = t[T_CAPACITY] - BATCH - WIDTH
    flagged = words_at(t[T_FLAGGED])
    flagged_limit = t[T_FLAGGED_CAPACITY] - 2 * BATCH - 2 * WIDTH
    finals, finals_limit = words_at(t[T_FINALS]), t[T_FINALS_CAPACITY] - BATCH - WIDTH
    number, end = t[T_FROM], t[T_TO]
    found, n_flagged, n_finals, transitions = 0, t[T_N_FLAGGED], t[T_N_FINALS], t[T_TRANSITIONS]
    while number < end:
        if found > limit or n_flagged > flagged_limit or n_finals > finals_limit:
            break
        count, taken, waiting = 0, 0, 0
        while count < BATCH and taken < BATCH and number < end:
            successors = beyond(out, count * size)
            n = expand(
                m,
                state_at(blocks, shift, size, number),
                successors,
                beyond(fps, count),
                beyond(labels, count),
                beyond(flags, count),
            )
            own = (n >> 16) & wanted
            n &= 0xFFFF
            if own:
                flagged[3 * n_flagged] = np.uint64(number << 16 | NOBODY)
                flagged[3 * n_flagged + 1] = np.uint64(own)
                flagged[3 * n_flagged + 2] = U0
                n_flagged += 1
            if n == 0:
                finals[n_finals] = np.uint64(number)
                n_finals += 1
            if not OWN_FINGERPRINTS:
                for i in range(count, count + n):
                    fps[i] = fingerprint(beyond(out, i * size), size, keys)
            for i in range(count, count + n):
                if STAYS and not costed and not np.int64(flags[i]) & STAY:
                    continue  # beyond the last level
                if np.int64(flags[i]) & wanted:
                    flagged[3 * n_flagged] = np.uint64(number << 16 | (i - count))
                    flagged[3 * n_flagged + 1] = np.uint64(flags[i] & (wanted | STAY))
                    flagged[3 * n_flagged + 2] = fps[i]
                    n_flagged += 1
            # Without jumps: whether a step is worth a look is nothing that a processor could foresee.
            for i in range(count, count + n):
                h = fps[i]
                look = h != U0
                marked = h
                if STAYS:
                    free = np.int64(flags[i]) & STAY
                    look = look & ((free | costed) != 0)
                    if not free:
                        marked = h ^ OTHER
                        prefetch(later_address + home(h, later_buckets) * 8)
                place = np.int64(marked & recent_mask)
                look = look & ((recent[place] != marked) | exact)
                recent[place] = marked
                line = home(h, buckets)
                prefetch(table_address + line * 8)
                which[waiting] = i
                step_of[waiting] = i - count
                parent_of[waiting] = number
                line_of[waiting] = line
                waiting += int(look)
            taken += 1
            count += n
            number += 1
        transitions += count
        for j in range(waiting):
            k = np.int64(which[j])
            h = fps[k]
            state = beyond(out, k * size)
            if exact:
                if contains_state(table, line_of[j], h, state, size, blocks, shift):
                    continue
            elif contains(table, line_of[j], h):
                continue
            if STAYS and not exact and not flags[k] & STAY and contains(later, home(h, later_buckets), h):
                continue
            copy_state(beyond(states, found * size), state, size)
            prints[found] = h
            parents[found] = parent_of[j]
            steps[found] = step_of[j]
            bits[found] = flags[k]
            found += 1
    t[T_TO] = number
    t[T_FOUND] = found
    t[T_TRANSITIONS] = transitions
    t[T_N_FLAGGED] = n_flagged
    t[T_N_FINALS] = n_finals


# --- second phase -------------------------------------------------------------------------------------------------


def insert_candidates(g, threads, me):
    """Insert the candidates of all threads that ``me`` owns; those that were there already lose their fingerprint.

    ``threads`` is all threads' ``t``. Counts of new states go to a row of T_NEW and T_LATER for each owner.
    """
    size = g[G_SIZE]
    if SIZE:
        size = SIZE
    table, buckets = words_at(g[G_TABLE]), g[G_BUCKETS]
    later, later_buckets = words_at(g[G_LATER]), g[G_LATER_BUCKETS]
    exact, n_threads = g[G_EXACT], g[G_THREADS]
    for thread in range(n_threads):
        t = threads[thread]
        prints, bits = words_at(t[T_PRINTS]), bytes_at(t[T_BITS])
        new, new_later = 0, 0
        for c in range(t[T_FOUND]):
            if c + AHEAD < t[T_FOUND]:
                prefetch(g[G_TABLE] + home(prints[c + AHEAD], buckets) * 8)
            h = prints[c]
            if h == U0 or np.int64(h >> U61) % n_threads != me:
                continue
            costed = STAYS and not bits[c] & STAY
            if exact:
                is_new = insert_state(g, threads, thread, c, h, size, costed)
            elif costed:
                is_new = insert(later, later_buckets, h)
            else:
                is_new = insert(table, buckets, h)
            if not is_new:
                prints[c] = U0
            elif costed:
                new_later += 1
            else:
                new += 1
        words_at(t[T_NEW])[me] = np.uint64(new)
        words_at(t[T_LATER])[me] = np.uint64(new_later)


def insert_state(g, threads, thread, c, h, size, costed):
    """``insert`` that compares states; a new one has, for the time being, the number of its candidate."""
    table, buckets = words_at(g[G_TABLE]), g[G_BUCKETS]
    if costed:
        table, buckets = words_at(g[G_LATER]), g[G_LATER_BUCKETS]
    blocks, shift = words_at(g[G_BLOCKS]), g[G_SHIFT]
    state = bytes_at(threads[thread, T_STATES] + c * size)
    line = home(h, buckets)
    while True:
        for place in range(line, line + 8):
            entry = table[place]
            if entry == U0:
                number = PROVISIONAL | thread << PROVISIONAL_SHIFT | c
                table[place] = (h & HIGH32) | np.uint64(number + 1)
                longs_at(threads[thread, T_PLACES])[c] = place
                return True
            if (entry ^ h) & HIGH32 == U0:
                number = np.int64(entry & LOW32) - 1
                if number & PROVISIONAL:
                    found = threads[(number >> PROVISIONAL_SHIFT) & 31, T_STATES]
                    other = bytes_at(found + (number & ((1 << PROVISIONAL_SHIFT) - 1)) * size)
                elif costed:
                    other = bytes_at(g[G_DEFERRED] + number * size)
                else:
                    other = state_at(blocks, shift, size, number)
                if same(other, state, size):
                    return False
        line += 8


# --- third phase --------------------------------------------------------------------------------------------------


def append_states(m, g, t, base, later_base):
    """Number a thread's new candidates from ``base`` on, and append them.

    In spaces with free steps, those that a costed step led to are left in the buffer, to be deferred as number
    ``later_base`` and following.
    """
    size = g[G_SIZE]
    if SIZE:
        size = SIZE
    table, later, exact, wanted = words_at(g[G_TABLE]), words_at(g[G_LATER]), g[G_EXACT], g[G_WANTED]
    places = longs_at(t[T_PLACES])
    blocks, shift = words_at(g[G_BLOCKS]), g[G_SHIFT]
    all_parents, all_steps = indices_at(g[G_PARENTS]), halves_at(g[G_STEPS])
    prints, states = words_at(t[T_PRINTS]), bytes_at(t[T_STATES])
    parents, steps, bits = indices_at(t[T_PARENTS]), halves_at(t[T_STEPS]), bytes_at(t[T_BITS])
    judged, n_judged = words_at(t[T_JUDGED]), t[T_N_JUDGED]
    counts = words_at(t[T_BIT_COUNTS])
    number = base
    kept = 0
    for c in range(t[T_FOUND]):
        h = prints[c]
        if h == U0:
            continue
        state = beyond(states, c * size)
        bit = np.int64(bits[c])
        if STAYS and not bit & STAY:
            if kept != c:
                copy_state(beyond(states, kept * size), state, size)
                prints[kept] = h
                parents[kept] = parents[c]
                steps[kept] = steps[c]
            if exact:
                later[places[c]] = (h & HIGH32) | np.uint64(later_base + kept + 1)
            # they come back as candidates when this level is closed, and are inserted then
            bits[kept] = bits[c] | STAY
            kept += 1
            continue
        copy_state(state_at(blocks, shift, size, number), state, size)
        all_parents[number] = parents[c]
        all_steps[number] = steps[c]
        if exact:
            table[places[c]] = (h & HIGH32) | np.uint64(number + 1)
        bit &= 0x7F
        if JUDGES:
            found = np.int64(judge(m, state_at(blocks, shift, size, number)))
            bit |= found
            if found & wanted and n_judged < t[T_JUDGED_CAPACITY]:
                judged[3 * n_judged] = np.uint64(np.int64(parents[c]) << 16 | np.int64(steps[c]))
                judged[3 * n_judged + 1] = np.uint64(found & wanted)
                judged[3 * n_judged + 2] = np.uint64(number)
                n_judged += 1
        if bit:
            for k in range(7):
                counts[k] += np.uint64((bit >> k) & 1)
        number += 1
    t[T_FOUND] = kept
    t[T_N_JUDGED] = n_judged


# --- one thread ---------------------------------------------------------------------------------------------------


def run_alone(m, g, rows, end, states, room):
    """Many short rounds by one thread, whose candidates are still in its caches when they are inserted.

    Expands from T_FROM on, up to ``end``, ``states`` in a round, while there is room for as many as a round could
    bring. T_FROM and G_STATES say afterwards how far it is.
    """
    t = rows[0]
    while t[T_FROM] < end and room >= states * WIDTH:
        t[T_TO] = min(t[T_FROM] + states, end)
        expand_states(m, g, t)
        insert_candidates(g, rows, 0)
        base = g[G_STATES]
        append_states(m, g, t, base, 0)
        new = np.int64(words_at(t[T_NEW])[0])
        room -= new
        g[G_STATES] = base + new
        if t[T_TO] == t[T_FROM]:  # a buffer has to be emptied first
            return
        t[T_FROM] = t[T_TO]


# --- between rounds -----------------------------------------------------------------------------------------------


def grow(table_address, old, new, spare_address, spare):
    """Spread a table of ``old`` buckets a part over ``new`` in the same place; ``spare`` buckets of room at an address.

    An entry's place rises with its fingerprint, in any size of table. Going from the last bucket to the first, each
    entry therefore goes to a place that has been emptied; only near the start, where places rise by less than a
    bucket may be off its home, entries are laid aside first.
    """
    table, aside = words_at(table_address), words_at(spare_address)
    total = PARTS * (old + SPARE)
    first = min(spare, total)
    for i in range(first * 8):
        aside[i] = table[i]
        table[i] = U0
    for bucket in range(total - 1, first - 1, -1):
        line = bucket << 3
        for k in range(8):
            h = table[line | k]
            if h == U0:
                continue
            table[line | k] = U0
            settle(table, new, h)
    for i in range(first * 8):
        if aside[i] != U0:
            settle(table, new, aside[i])


def settle(table, buckets, h):
    """Insert what is known not to be there."""
    line = home(h, buckets)
    while True:
        for place in range(line, line + 8):
            if table[place] == U0:
                table[place] = h
                return
        line += 8


def successors_of(m, g, t, state_address):
    """Expand one state into the buffers of a thread; how many successors."""
    n = expand(
        m,
        bytes_at(state_address),
        bytes_at(t[T_OUT]),
        words_at(t[T_FPS]),
        ints_at(t[T_LABELS]),
        bytes_at(t[T_FLAGS]),
    )
    n &= 0xFFFF
    if not OWN_FINGERPRINTS:
        for i in range(n):
            fps = words_at(t[T_FPS])
            fps[i] = fingerprint(bytes_at(t[T_OUT] + i * g[G_SIZE]), g[G_SIZE], words_at(g[G_KEYS]))
    return n


def print_of(g, state_address):
    return fingerprint(bytes_at(state_address), g[G_SIZE], words_at(g[G_KEYS]))
