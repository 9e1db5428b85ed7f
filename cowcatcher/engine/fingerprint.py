# mypy: allow-untyped-defs, allow-untyped-calls
"""64-bit fingerprints of states, from a family of hash functions for which the chance of a miss can be stated.

A state is words w[0], w[1], … of 64 bits. With random keys k[-1], k[0], … of 128 bits,

    linear(w) = k[-1] + sum of k[i] * w[i]   (modulo 2**128)

and the upper 64 bits of that are strongly universal (Dietzfelbinger's multiply-shift, 64 + 64 - 1 <= 128): for any
two different states, whatever they are, both fingerprints are equal with probability 2**-64 over the choice of keys.
``finish`` is a bijection after that: it spreads the bits over the table and neither makes nor hides a collision.
The keys depend on a seed and on nothing else, so a second search with another seed is an independent one.
"""

from __future__ import annotations

import math

import numpy as np

from cowcatcher.engine.words import load_word, plus_product, register_jitable

MASK = (1 << 64) - 1
_FIRST = 0xFF51AFD7ED558CCD
_SECOND = 0xC4CEB9FE1A85EC53
U33 = np.uint64(33)
FIRST = np.uint64(_FIRST)
SECOND = np.uint64(_SECOND)


def keys(seed: int, size: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """The keys for states of ``size`` bytes: low and high half of k[-1], k[0], k[1], …"""
    return np.random.Generator(np.random.PCG64(seed)).integers(
        0, 1 << 64, size=2 * (size // 8 + 1), dtype=np.uint64, endpoint=False
    )


@register_jitable
def linear(state, size, keys):
    """Compiled: the sum before ``finish``, as (low, high). A model that changes one word can change the sum instead."""
    low = keys[0]
    high = keys[1]
    for word in range(size >> 3):
        low, high = plus_product(low, high, keys[2 + 2 * word], keys[3 + 2 * word], load_word(state, word << 3))
    return low, high


@register_jitable
def finish(high):
    """Compiled: the fingerprint for a sum's upper half (the finalizer of MurmurHash3, which is a bijection)."""
    high ^= high >> U33
    high *= FIRST
    high ^= high >> U33
    high *= SECOND
    high ^= high >> U33
    return high


@register_jitable
def fingerprint(state, size, keys):
    """Compiled: the fingerprint of a state; 0 means "empty" in tables and is not one."""
    _, high = linear(state, size, keys)
    high = finish(high)
    if high == 0:
        return FIRST
    return high


def fingerprint_of(state: bytes, seed: int) -> int:
    """The same, interpreted."""
    numbers = [int(key) for key in keys(seed, len(state))]
    total = 0
    for word, low, high in zip((1, *_words(state)), numbers[::2], numbers[1::2], strict=True):
        total += word * (low | high << 64)
    high = total >> 64 & MASK
    for factor in (_FIRST, _SECOND):
        high ^= high >> 33
        high = high * factor & MASK
    return high ^ high >> 33 or _FIRST


def _words(state: bytes) -> list[int]:
    return [int.from_bytes(state[i : i + 8], "little") for i in range(0, len(state), 8)]


def chance_of_a_miss(states: int) -> float:
    """At most this is the probability that two of so many states share a fingerprint, so that one was taken for the
    other.

    A union bound over all pairs. A state missed may hide others that are reached through it alone; the statement is
    about whether *any* was missed. 0 counts as one more fingerprint that is shared, with the value it is given.
    """
    return min(1.0, math.ldexp(states * (states + 1) / 2, -64))
