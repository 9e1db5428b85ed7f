"""Search for tests that nobody wrote: all programs of an alphabet, in all interleavings, up to a size.

Every process may do any statement of the alphabet at any time; every state that can come of that is visited, nearest
first. Whatever breaks a standing check (coherent, isolated, alive) is made minimal, checked again by itself, and
grouped by what cures it. So on the kernel of September 2020 the lost DMA is found from nothing.

With --against the programs are those that two kernels execute differently, in one order of statements: what statements
give, which pages are the same, which standing checks are broken.

Letters and groups of letters are joined by commas; '-NAME' leaves one out, 'all' is everything:
GROUPS

Examples:
  cowcatcher hunt --kernel v5.9-rc4
  cowcatcher hunt --kernel v5.10.y --alphabet pins,swap,protection --depth 6 --output found
  cowcatcher hunt --kernel all --alphabet pins,swap --depth 8
  cowcatcher hunt --kernel v6.12 --against v7.3 --alphabet all,-vfork
  cowcatcher hunt --kernel v5.8.. --against previous --depth 3
  cowcatcher hunt --kernel v5.11 --memory hugetlb_private --alphabet pins
  cowcatcher hunt --kernel v5.18 --alphabet pins,fast --threads 1 --json

Exit status: 0 if the whole space was searched and nothing found; 1 if anything was found; 3 if nothing was found in
what was searched, and that is not all; 2 for wrong usage; 130 if it was interrupted: what was known by then was
printed.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cowcatcher.cli import inputs, screen
from cowcatcher.cli.engines import INSTALL
from cowcatcher.cli.parser import Problem, memory, positive
from cowcatcher.hunt.alphabet import GROUPS, PROCESSES, THREADS, Size, UnknownLetter, letters_of
from cowcatcher.kernels import LINE, Kernel, select
from cowcatcher.litmus.statements import MAX_PAGES, MAX_PINS

if TYPE_CHECKING:
    from cowcatcher.engine.search import Progress as Depth

_DEFAULT = "pins,reads,swap,protection,advice"
_MEMORY = 4 << 30

__doc__ = (__doc__ or "").replace("GROUPS", "\n".join(f"  {g.ljust(12)}{' '.join(n)}" for g, n in GROUPS.items()))


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kernel", "-k", required=True, metavar="RANGE", help="kernels to hunt on, one after another; 'all' is all"
    )
    parser.add_argument(
        "--decision", metavar="FILE", action="append", default=[],
        help="a Python file with decisions of your own, which the kernels to hunt on take",
    )  # fmt: skip
    parser.add_argument(
        "--against", metavar="KERNEL", help="find what this kernel executes differently; 'previous': the one before it"
    )
    parser.add_argument(
        "--alphabet", "-a", default=_DEFAULT, metavar="LETTERS", help=f"what may be done (default: {_DEFAULT})"
    )
    parser.add_argument("--depth", "-d", type=positive, default=4, metavar="N", help="statements (default: 4)")
    parser.add_argument("--processes", type=positive, default=2, metavar="N", help="processes (default: 2)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="more threads of the first (default: 0)")
    parser.add_argument("--pages", type=positive, default=1, metavar="N", help="pages of memory (default: 1)")
    parser.add_argument(
        "--memory",
        default="anon(1)",
        metavar="KIND",
        help="what memory it is, such as hugetlb_private (default: anon(1))",
    )
    parser.add_argument("--pins", type=positive, default=1, metavar="N", help="pins that can be held (default: 1)")
    parser.add_argument("--output", "-o", metavar="DIR", help="write what is found there, one test a file")
    parser.add_argument("--full", action="store_true", help="list everything that was found")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument(
        "--jobs", "-j", type=positive, choices=range(1, 9), default=2, metavar="N", help="cores to use (default: 2)"
    )
    parser.add_argument(
        "--max-memory", type=memory, default=_MEMORY, metavar="M", help="for states, such as 512M (default: 4G)"
    )
    parser.add_argument("--save", metavar="FILE", help="where to put a search that is stopped, to go on with it later")
    parser.add_argument("--resume", metavar="FILE", help="go on with a search that was saved")
    parser.add_argument("--exact", action="store_true", help="store whole states and not their fingerprints")


def run(args: argparse.Namespace) -> int:
    kernels = _kernels(args)
    letters, size = _alphabet(args)
    if (args.save or args.resume) and len(kernels) > 1:
        raise Problem("--save and --resume are for one kernel")
    if importlib.util.find_spec("numba") is None:
        raise Problem(f"a hunt is compiled by numba, which is not installed: {INSTALL}")
    from cowcatcher.compiled.build import CannotCompile
    from cowcatcher.compiled.context import TooLarge
    from cowcatcher.engine.checkpoint import Refused
    from cowcatcher.explore.program import NotModelled
    from cowcatcher.hunt.search import Hunt, Settings, hunt, hunt_against
    from cowcatcher.report.hunt_record import files_of, hunt_document
    from cowcatcher.report.hunt_text import hunt_text

    others = [_against(args.against, kernel) for kernel in kernels]
    if args.save and not Path(args.save).resolve().parent.is_dir():
        raise Problem(f"--save {args.save}: there is no such folder")
    progress = screen.Progress(elsewhere=20.0)
    done: list[Hunt] = []
    interrupted = False
    try:
        for kernel, against in zip(kernels, others, strict=True):
            settings = Settings(
                args.jobs, args.max_memory, args.exact, _path(args.save), _path(args.resume),
                _watcher(progress, kernel, size), screen.warn, _teller(progress, kernel),
            )  # fmt: skip
            if against is None:
                done.append(hunt(letters, size, kernel, settings))
            else:
                done.append(hunt_against(letters, size, kernel, against, settings))
            if done[-1].found.stopped == "interrupted":
                interrupted = True
                break
    except KeyboardInterrupt:
        interrupted = True
    except (NotModelled, Refused, TooLarge, CannotCompile) as why:
        raise Problem(str(why)) from why
    except OSError as error:
        raise Problem(f"{error.filename}: {error.strerror}") from error
    progress.clear()
    doc = hunt_document(done, interrupted)
    if args.output:
        _write(Path(args.output), files_of(doc))
    if args.json:
        screen.write_json(doc)
    else:
        screen.write(hunt_text(doc, screen.style_of(args), args.full, args.output or ""))
    status: int = doc["exit"]
    return status


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None


def _kernels(args: argparse.Namespace) -> tuple[Kernel, ...]:
    decisions = inputs.decisions_from(args.decision)
    return tuple(k.with_decisions(*decisions) if decisions else k for k in select(args.kernel))


def _against(named: str | None, kernel: Kernel) -> Kernel | None:
    if named != "previous":
        return inputs.one_kernel(named, []) if named else None
    if not kernel.place:
        raise Problem(f"--against previous: {kernel.name} has no kernel before it on the line")
    return LINE[kernel.place - 1]


def _alphabet(args: argparse.Namespace) -> tuple[Any, Size]:
    if args.processes > len(PROCESSES) or not 0 <= args.threads <= len(THREADS):
        raise Problem(f"at most {len(PROCESSES)} processes, and {len(THREADS)} more threads")
    if args.pages > MAX_PAGES or args.pins > MAX_PINS:
        raise Problem(f"at most {MAX_PAGES} pages and {MAX_PINS} pins")
    try:
        letters = letters_of(args.alphabet)
    except UnknownLetter as error:
        raise Problem(f"--alphabet: {error}") from error
    if any("m" in letter.args for letter in letters) and not any(letter.takes_pin for letter in letters):
        raise Problem("--alphabet: nothing takes a pin that the device or unpin could use; add 'pin', say")
    memory = inputs.mapping_of(args.memory)
    return letters, Size(args.processes, args.pages, args.pins, args.threads, args.depth, memory)


def _watcher(progress: screen.Progress, kernel: Kernel, size: Size) -> Callable[[Depth], None]:
    """Shows how far a search is, and what is to come if levels go on growing as the last one did."""
    levels: list[tuple[int, float]] = []  # states and seconds when a level was done

    def watch(now: Depth) -> None:
        if now.level_done:
            levels.append((now.states, now.seconds))
        text = f"{kernel.name}: depth {now.depth} of {size.depth}, {now.states:,} states, {now.memory >> 20:,} MiB"
        ahead = _estimate(levels, size.depth)
        progress.show(f"{text}, about {ahead:,.0f} states in the end" if ahead else text)

    return watch


def _teller(progress: screen.Progress, kernel: Kernel) -> Callable[[str], None]:
    return lambda text: progress.show(f"{kernel.name}: {text}")


def _estimate(levels: list[tuple[int, float]], depth: int) -> float:
    """States in the end; 0 before there is anything to go by."""
    if len(levels) < 4 or levels[-2][0] == levels[-3][0]:
        return 0
    states = levels[-1][0]
    last = states - levels[-2][0]
    growth = last / max(levels[-2][0] - levels[-3][0], 1)
    left = depth + 1 - len(levels)
    return states + sum(last * growth**i for i in range(1, left + 1))


def _write(directory: Path, files: dict[str, str]) -> None:
    try:
        for name, text in files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text, encoding="ascii")
    except OSError as error:
        raise Problem(f"{directory}: cannot be written: {error.strerror}") from error
