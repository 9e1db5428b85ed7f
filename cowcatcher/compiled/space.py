"""What the engine searches: a machine on a kernel, or side by side on two."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from cowcatcher.compiled import build
from cowcatcher.compiled.context import context, stride, width
from cowcatcher.engine.build import digest_of
from cowcatcher.engine.checkpoint import identity
from cowcatcher.engine.search import Space
from cowcatcher.kernels import Decision, Kernel
from cowcatcher.state import Machine

#: Most successors of a state. A size that is compiled in, so there are few.
_WIDTHS = (256, 1024, 4096)


@cache
def _compiled(extra: tuple[Decision, ...], pair: bool) -> tuple[Any, str]:
    for decision in extra:
        build.require_compilable(decision)
    words = [(d.question, d.name, build.source_of(d), build.numbers_of(d)) for d in extra]
    return build.expand_of_model(extra, pair), digest_of(build.sources(), "pair" if pair else "one", *words)


def space_of(m: Machine, kernel: Kernel, initial: bytes, kernel_tasks: frozenset[int], hunts: bool) -> Space:
    """Every interleaving of the machine's programs; in a hunt, of all programs of its alphabet.

    Raises TooLarge and CannotCompile.
    """
    extra = _own(kernel)
    expand, digest = _compiled(extra, False)
    record = context(m, kernel, build.answers(extra), kernel_tasks, hunts)
    states, same = [_padded(m, initial)], identity(record=record.tobytes())
    return Space(kernel.name, stride(m), _width(m), expand, record, states, digest, stays=hunts, identity=same)


def pair_space_of(m: Machine, kernels: Sequence[Kernel], initial: Sequence[bytes]) -> Space:
    """All programs of the alphabet, every statement executed to its end, on two kernels at once."""
    extra = tuple(dict.fromkeys(d for kernel in kernels for d in _own(kernel)))
    expand, digest = _compiled(extra, True)
    records: Any = np.array([context(m, k, build.answers(extra), frozenset(), True) for k in kernels])
    both = b"".join(_padded(m, state) for state in initial)
    name = " and ".join(k.name for k in kernels)
    same = identity(records=records.tobytes())
    return Space(name, 2 * stride(m), _width(m), expand, records, [both], digest, identity=same)


def _own(kernel: Kernel) -> tuple[Decision, ...]:
    """The answers of this kernel that are not among the known ones: a user's."""
    known = build.answers()
    return tuple(d for d in kernel.decisions.values() if all(d.answer is not k.answer for k in known[d.question]))


def _width(m: Machine) -> int:
    return next(w for w in _WIDTHS if w > width(m))


def _padded(m: Machine, state: bytes) -> bytes:
    return state.ljust(stride(m), b"\0")
