"""The engine on the common model."""

from __future__ import annotations

from pathlib import Path

from numba import types
from numba.extending import register_jitable

from benchmarks.common import model
from benchmarks.common.sizes import Size
from cowcatcher.engine import core
from cowcatcher.engine.build import Namespace, digest_of, instantiate
from cowcatcher.engine.fingerprint import FIRST, finish, linear
from cowcatcher.engine.search import Space
from cowcatcher.engine.words import beyond, copy_bytes, copy_state, plus_product, words_at

_SOURCE = Path(model.__file__)
FRAME_SIZE = model.FRAME_SIZE


@register_jitable
def sum_of(m, s, size):
    return linear(s, size, words_at(m))


@register_jitable
def sum_plus(m, low, high, field, change):
    keys = words_at(m)
    word = field >> 3
    return plus_product(low, high, keys[2 + 2 * word], keys[3 + 2 * word], change << ((field & 7) << 3))


@register_jitable
def print_of_sum(low, high):
    high = finish(high)
    if high == 0:
        return FIRST
    return high


@register_jitable
def copy_frame(to, at, source, source_at):
    copy_bytes(to, at, source, source_at, FRAME_SIZE)


def compiled(size: Size, rule: int, canonical: bool, symmetry: bool = False) -> tuple[Namespace, str]:
    """The model with its sizes and its rule bound, and the digest of that."""
    numbers = {**size.defines(rule, canonical), "SYMMETRY": int(symmetry)}
    digest = digest_of([_SOURCE, Path(__file__)], *sorted(numbers.items()))
    words = {
        "beyond": beyond,
        "copy_state": copy_state,
        "copy_frame": copy_frame,
        "sum_of": sum_of,
        "sum_plus": sum_plus,
        "print_of_sum": print_of_sum,
    }
    return instantiate(_SOURCE, {**numbers, **words}, digest), digest


def space(size: Size, rule: int = 0, canonical: bool = True, symmetry: bool = False) -> Space:
    code, digest = compiled(size, rule, canonical, symmetry)
    return Space(
        f"common model, size {size.name}, rule {rule}",
        code.SIZE,
        code.WIDTH,
        code.expand,
        lambda keys: keys,
        [bytes(i == code.ALIVE for i in range(code.SIZE))],
        digest,
        own_fingerprints=True,
        fixed_size=True,
        judge=code.judge,
    )


__all__ = ["core", "space", "types"]
