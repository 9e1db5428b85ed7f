"""A hunt from letters to findings: the space, the search, and what it found told as tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cowcatcher.explore.checks import CHECK_BITS
from cowcatcher.explore.verdict import kernel_tasks
from cowcatcher.hunt.against import BIT, Difference, Untold, differences, word_of_pairs
from cowcatcher.hunt.alphabet import Letter, Size
from cowcatcher.hunt.hunt import Finding, findings
from cowcatcher.hunt.space import HuntSpace, hunt_space
from cowcatcher.hunt.story import word_of
from cowcatcher.kernels import Kernel

if TYPE_CHECKING:  # what compiles is imported when it is needed: who only reads of a hunt need not have numba
    from cowcatcher.engine.search import Found, Progress

T = TypeVar("T")

#: Ways to a violation that are looked at, for each standing check, nearest first.
KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Settings:
    """How a hunt is run. ``watch`` is told of progress, and ends the search by answering True."""

    threads: int = 2
    memory: int = 4 << 30  # bytes
    exact: bool = False
    save: Path | None = None  # where a search goes that did not finish
    resume: Path | None = None  # and where one goes on from
    watch: Callable[[Progress], bool | None] | None = None
    announce: Callable[[str], None] | None = None
    tell: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class Hunt:
    """What one hunt found. ``cut``: there were more such states than are looked at, so findings may be missing.
    ``untold``: ways after which two kernels differ that no ordered test tells."""

    kernel: Kernel
    against: Kernel | None
    size: Size
    letters: tuple[Letter, ...]
    found: Found
    findings: tuple[Finding, ...] = ()
    differences: tuple[Difference, ...] = ()
    cut: bool = False
    untold: int = 0


def hunt(letters: Sequence[Letter], size: Size, kernel: Kernel, settings: Settings) -> Hunt:
    """All distinct minimal violations on one kernel. Raises NotModelled."""
    from cowcatcher.compiled.space import space_of

    space = hunt_space(letters, size)
    initial = space.initial(kernel)
    engine_space = space_of(space.machine(kernel), kernel, initial, kernel_tasks(space.program), True)
    found = _search(
        engine_space, engine_space.context, size, settings, [b.bit_length() - 1 for b in CHECK_BITS.values()]
    )
    violating = sorted(
        ((flagged.bits, word_of(space, found.path_of(flagged), initial)) for flagged in found.flagged),
        key=lambda v: len(v[1]),
    )
    found.let_go()
    known = _until_interrupted(findings(space, kernel, violating, settings.tell), found)
    return Hunt(kernel, None, size, tuple(letters), found, findings=known, cut=_cut(found, CHECK_BITS.values()))


def hunt_against(letters: Sequence[Letter], size: Size, kernel: Kernel, against: Kernel, settings: Settings) -> Hunt:
    """All distinct minimal ordered programs that two kernels execute differently. What the kernel itself does
    meanwhile has no place in an order, so letters of the kernel's own are left out. Raises NotModelled."""
    from cowcatcher.compiled.space import pair_space_of

    letters = [letter for letter in letters if letter.who != "kernel"]
    space = hunt_space(letters, size, results=True)
    kernels = kernel, against
    engine_space = pair_space_of(space.machine(kernel), kernels, [_as_begun(space, k) for k in kernels])
    found = _search(engine_space, None, size, settings, [b.bit_length() - 1 for b in BIT.values()])
    differing = sorted(
        {(flagged.bits, word_of_pairs(found.path_of(flagged))) for flagged in found.flagged},
        key=lambda d: (len(d[1]), d),
    )
    found.let_go()
    untold = Untold()
    known = _until_interrupted(differences(space, kernel, against, differing, untold, settings.tell), found)
    return Hunt(
        kernel, against, size, tuple(letters), found,
        differences=known, untold=untold.count, cut=_cut(found, BIT.values()),
    )  # fmt: skip


def _until_interrupted(made: Iterator[T], found: Found) -> tuple[T, ...]:
    """Everything, or what there was when somebody pressed Ctrl-C, which the search then says."""
    known: list[T] = []
    try:
        known.extend(made)
    except KeyboardInterrupt:
        found.stopped = found.stopped or "interrupted"
    return tuple(known)


def _cut(found: Found, bits: Iterable[int]) -> bool:
    return any(sum(1 for flagged in found.flagged if flagged.bits & bit) >= KEPT for bit in bits)


def _as_begun(space: HuntSpace, kernel: Kernel) -> bytes:
    """In pairs an idle task stands at its first statement: between two statements nobody is anywhere else."""
    from cowcatcher.explore.program import initial_state

    return bytes(initial_state(space.program, space.machine(kernel)))


def _search(engine_space: Any, record: Any, size: Size, settings: Settings, bits: Sequence[int]) -> Found:
    from cowcatcher.engine.search import search

    def level_done(progress: Progress) -> bool | None:
        if record is not None and progress.depth + 1 >= size.depth:
            record["begins"] = 0  # of the last level only what has begun goes on
        return settings.watch(progress) if settings.watch else None

    if record is not None:
        record["begins"] = size.depth > 0
    found = search(
        engine_space,
        threads=settings.threads,
        memory=settings.memory,
        exact=settings.exact,
        max_depth=size.depth,
        keep_flagged=dict.fromkeys(bits, KEPT),
        on_level=level_done,
        on_tick=settings.watch,
        announce=settings.announce,
        save=settings.save,
        resume=settings.resume,
    )
    if record is not None:
        record["begins"] = 1  # ways are found again by executing them
    return found
