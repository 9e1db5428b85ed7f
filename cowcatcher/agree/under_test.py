"""The real kernels that the model is held against: this machine's, and others in virtual machines."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from cowcatcher.kernels import Kernel
from cowcatcher.litmus import parse
from cowcatcher.litmus.ast import Test
from cowcatcher.real.host import Observation, facilities, run_host
from cowcatcher.real.images import KernelImage
from cowcatcher.real.lower import Facilities
from cowcatcher.real.qemu import VmError
from cowcatcher.real.vm import run_image, version_of

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
        return run_host(tests, timeout=TIMEOUT, agent=self.agent)


def host(model: Kernel, *, swap: bool = False, named: bool = False, agent: Path | None = None) -> Host:
    """``swap``: shall pages be swapped out? Then swap has to be there."""
    return Host(os.uname().release, model, named, replace(facilities(agent), swap=swap), agent)


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
        report = run_image(tests, self.image, timeout=TIMEOUT, stop=self.stop)
        self.lost += report.lost
        return report.observations


def virtual(image: KernelImage, model: Kernel, stop: threading.Event) -> Virtual:
    """Boots it once, to ask what it has. ``stop`` ends its machines, from any thread."""
    report = run_image([_A_TEST], image, timeout=TIMEOUT, stop=stop)
    if report.facilities is None:
        raise VmError(f"{image.name}: {report.observations[0].reason}")
    return Virtual(image, version_of(image), model, report.facilities, stop)


_A_TEST: Final = parse("test t\nmemory { x = anon(1) }\nprocess p { store(x, 2) }\n")
