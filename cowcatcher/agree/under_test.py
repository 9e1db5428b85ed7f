"""The real kernels that the model is held against: this machine's, and others in virtual machines."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from cowcatcher.agree.draw import pins_of
from cowcatcher.kernels import Kernel
from cowcatcher.litmus import parse
from cowcatcher.litmus.ast import Actor, Mapping, Place, Statement, Test
from cowcatcher.real.host import Observation, facilities, run_host
from cowcatcher.real.images import KernelImage
from cowcatcher.real.lower import Facilities, lower
from cowcatcher.real.qemu import VmError
from cowcatcher.real.vm import backends_of, run_image, version_of

#: Seconds for one test; what takes longer is no answer.
TIMEOUT: Final = 10.0


class KernelUnderTest(Protocol):
    """``model`` is the modelled kernel it is held against; ``batch``: how many tests it is given at once."""

    @property
    def name(self) -> str: ...

    release: str
    model: Kernel
    model_named: bool  # by the user, or found by its release
    facilities: Facilities
    batch: int
    lost: int  # virtual machines

    def run(self, tests: Sequence[Test]) -> list[Observation]: ...


@dataclass
class Host:
    """The kernel of this machine."""

    release: str
    model: Kernel
    model_named: bool
    facilities: Facilities
    agent: Path | None = None
    batch: int = 200
    lost: int = 0

    @property
    def name(self) -> str:
        return "host"

    def run(self, tests: Sequence[Test]) -> list[Observation]:
        return run_host(tests, timeout=TIMEOUT, agent=self.agent, prefer=self.facilities.prefer)


def host(
    model: Kernel, *, swap: bool = False, prefer: Sequence[str] = (), named: bool = False, agent: Path | None = None
) -> Host:
    """``swap``: shall pages be swapped out? Then swap has to be there. ``prefer``: backends, as for ``run_host``."""
    return Host(os.uname().release, model, named, replace(facilities(agent, prefer=prefer), swap=swap), agent)


@dataclass
class Virtual:
    """An installed kernel in virtual machines, one for each batch."""

    image: KernelImage
    release: str
    model: Kernel
    facilities: Facilities
    stop: threading.Event
    model_named: bool = False
    batch: int = 1000
    lost: int = 0

    @property
    def name(self) -> str:
        return self.image.name

    def run(self, tests: Sequence[Test]) -> list[Observation]:
        there = tuple(name for name, lack in self.facilities.backends.items() if not lack)
        prefer = self.facilities.prefer or there  # a stand-in, where the interface's own was found not to work
        report = run_image(tests, self.image, timeout=TIMEOUT, prefer=prefer, stop=self.stop)
        self.lost += report.lost
        return report.observations


def virtual(image: KernelImage, model: Kernel, stop: threading.Event, *, prefer: Sequence[str] = ()) -> Virtual:
    """Boots it once, to ask what it has: each of its backends is tried. ``stop`` ends its machines, from any thread."""
    hoped = Facilities.of_virtual(backends_of(image))
    tests = [_HUGE, *pins_to_try(hoped)]
    report = run_image(tests, image, timeout=TIMEOUT, stop=stop)
    if report.facilities is None:
        raise VmError(f"{image.name}: {report.observations[0].reason}")
    backends = dict(hoped.backends)
    for test, seen in zip(tests, report.observations, strict=True):
        if seen.status not in ("ok", "not applicable"):  # which says nothing of what is there
            raise VmError(f"{image.name}: {test.name}: {seen.reason}")
        if seen.status == "not applicable" and test is not _HUGE:
            backends.update(dict.fromkeys(lower(test, hoped).backends, seen.reason))
    huge_pages = report.observations[0].status == "ok"
    found = replace(report.facilities, huge_pages=huge_pages, backends=backends, prefer=tuple(prefer))
    return Virtual(image, version_of(image), model, found, stop)


def pins_to_try(hoped: Facilities) -> list[Test]:
    """One test for each backend that takes some pin, and for each statement that does."""
    memory = Mapping("x", "anon", (("", 1),))
    tests: dict[tuple[str, tuple[str, ...]], Test] = {}
    for op, ways in pins_of(memory, hoped).items():
        for way in ways:
            body = (Statement(op, (Place("x"), *way), "m"),)
            test = Test(f"try_{op}", memory=(memory,), actors=(Actor("process", "p", "p", body),))
            tests.setdefault((op, tuple(lower(test, hoped).backends)), test)
    return list(tests.values())


_HUGE: Final = parse("test huge\nmemory { x = hugetlb(1) }\nprocess p { store(x, 2) }\n")
