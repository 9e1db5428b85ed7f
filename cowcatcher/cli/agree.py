"""Hold the model against real kernels: random ordered tests, run on both, compared in all that both can show.

Compared are registers and error names, who died and of what, which pages are the same (by frame number, as root), and
how often each anonymous page is mapped. What differs is run again; if it differs each time it is made smaller and kept
as a .cow file with a diagnosis: either the model is wrong, or the harness, or the kernel.

A test follows from its seed, its number and what the kernel has: number 17 of seed 1 is always the same. So --first
goes on where another run ended, and --first with --count 1 repeats a single test.

Examples:
  cowcatcher agree                                   2,000 tests on the kernel of this machine
  cowcatcher agree --on all --count 5000 --seed 7    and on every installed kernel, in virtual machines
  cowcatcher agree --first 2000 --count 18000        go on
  cowcatcher agree --kernel v5.9-rc4                 against another model: to see it fail

Exit status: 0 if all agree; 1 if anything disagrees; else 3 if on some kernel nothing could be compared, a test could
not be told or was not run, a virtual machine was lost, or more than 1 % of the tests were flaky. Fewer flaky ones
count as nothing.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cowcatcher.cli import inputs, screen
from cowcatcher.cli.parser import UNSURE, Problem, number
from cowcatcher.report.record import Record

if TYPE_CHECKING:
    from cowcatcher.agree.campaign import Campaign
    from cowcatcher.agree.under_test import KernelUnderTest

_EVERY = 10.0  # seconds between two lines of progress where nobody watches
_COUNT = 2000


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on", default="host", metavar="KERNELS",
        help="host (default), names of installed kernels such as 5.10,7.3, or all: host and every installed one",
    )  # fmt: skip
    parser.add_argument(
        "--count", "-n", type=number, default=_COUNT, metavar="N", help=f"tests on each kernel (default: {_COUNT})"
    )
    parser.add_argument("--seed", "-s", type=_natural, default=1, metavar="S", help="another seed, other tests (1)")
    parser.add_argument("--first", type=_natural, default=0, metavar="I", help="number of the first test (0)")
    parser.add_argument(
        "--swap", action="store_true", help="swap pages out on the host too; virtual machines always do"
    )
    parser.add_argument(
        "--device",
        metavar="BACKENDS",
        default="",
        help="what takes pins where there is a choice, such as vfio or uring: the same tests by another one",
    )
    parser.add_argument(
        "--kernel", "-k", metavar="KERNEL", help="the modelled kernel to compare with (default: by release)"
    )
    parser.add_argument(
        "--keep", type=Path, default=Path("disagreements"), metavar="DIR",
        help="where disagreements are kept (default: ./disagreements)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _natural(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"a whole number is wanted, not '{text}'")
    return int(text)


def run(args: argparse.Namespace) -> int:
    from cowcatcher.agree.keep import keep
    from cowcatcher.report.agree_record import agree_document
    from cowcatcher.report.agree_text import agree_text

    campaigns, interrupted, problem = _run(args)
    try:
        kept = [keep(campaign, args.keep) for campaign in campaigns]
    except OSError as error:
        raise Problem(f"--keep {args.keep}: {error.strerror}") from error
    doc: Record = agree_document(campaigns, kept, interrupted)
    if args.json:
        screen.write_json(doc)
    else:
        screen.write(agree_text(doc, screen.style_of(args)))
    status: int = doc["exit"]
    if problem:
        raise Problem(problem, status)
    return status


def _run(args: argparse.Namespace) -> tuple[list[Campaign], bool, str]:
    """What was done on each kernel, and whether Ctrl-C cut it short, or which problem."""
    from cowcatcher.agree.campaign import Campaign, run_all
    from cowcatcher.real.build import BuildError
    from cowcatcher.real.host import AgentError
    from cowcatcher.real.images import ImageError
    from cowcatcher.real.qemu import Settings, VmError, at_once

    stop = threading.Event()
    progress = screen.Progress(_EVERY)
    campaigns: list[Campaign] = []
    try:
        campaigns += [Campaign(on, args.seed, args.first, args.count) for on in _kernels(args, stop, progress)]
        began = time.monotonic()
        run_all(
            campaigns,
            stop,
            at_once(Settings()),
            lambda: progress.show(_progress(campaigns, time.monotonic() - began)),
        )
    except KeyboardInterrupt:
        return campaigns, True, ""
    except (BuildError, AgentError, VmError, ImageError) as error:
        problem = f"{error}\nTry 'cowcatcher doctor'."
        if not any(campaign.done for campaign in campaigns):
            raise Problem(problem, UNSURE) from error
        return campaigns, False, problem
    finally:
        stop.set()
        progress.clear()
    return campaigns, False, ""


def _kernels(args: argparse.Namespace, stop: threading.Event, progress: screen.Progress) -> Iterator[KernelUnderTest]:
    """Those that are named; each virtual machine is started once, to ask what its kernel has."""
    from cowcatcher.agree.under_test import host, virtual
    from cowcatcher.cli.running import targets
    from cowcatcher.real.host import has_swap
    from cowcatcher.real.recording import Options

    prefer = inputs.backends(args.device)
    for target in targets(args.on, Options(model=args.kernel)):
        if target.image is not None:
            progress.show(f"asking {target.name} what it has")
            yield virtual(target.image, target.model, stop, prefer=prefer)
        elif args.swap and not has_swap():
            raise Problem("--swap: no swap is in use; fallocate -l 64M FILE; chmod 600 FILE; mkswap FILE; swapon FILE")
        else:
            yield host(target.model, swap=args.swap, prefer=prefer, named=bool(args.kernel))


def _progress(campaigns: Sequence[Campaign], seconds: float) -> str:
    """``3,200 of 20,000, 214 a second, 80 s left, 1 disagrees``"""
    from cowcatcher.agree.judge import Status

    done, count = sum(c.done for c in campaigns), sum(c.count for c in campaigns)
    rate = done / max(seconds, 0.001)
    at = f"{done:,} of {count:,}, {rate:.0f} a second, {(count - done) / max(rate, 0.001):.0f} s left"
    wrong = sum(c.statuses[Status.DISAGREE] for c in campaigns)
    return f"{at}, {wrong} disagree{'s' if wrong == 1 else ''}" if wrong else at
