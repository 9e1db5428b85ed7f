"""How fast tests run on real kernels: that of this machine, and each installed one in a virtual machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from cowcatcher.litmus import parse_file
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.catalogue import find
from cowcatcher.real.host import Observation

#: What is run: two processes and a pin, over and over.
TEST = "rdma_fork_wait"
HOST_RUNS = 500
VM_RUNS = 150

Row = dict[str, str | float]
#: Runs the test so often, and calls with each observation as it is made.
Runner = Callable[[int, Callable[[int, Observation], None]], object]


class NotApplicable(Exception):
    """What this machine lacks."""


def rows(runs: int) -> list[Row]:
    """Medians of so many runs each, and what VMs cost as a ratio to this machine's kernel in the same call."""
    path = find(TEST)
    assert path is not None
    test = parse_file(path)
    found: list[Row] = []
    host = None
    try:
        _, host = _median(runs, HOST_RUNS, _on_host(test))
        found.append({"what": f"host: {TEST}, one agent", "value": host, "unit": "tests/s"})
    except NotApplicable as e:
        found.append({"what": f"host: {TEST}, one agent", "why": str(e)})
    try:
        machines = _machines(test)
    except NotApplicable as e:
        return [*found, {"what": "virtual machines", "why": str(e)}]
    for name, runner in machines:
        try:
            first, rate = _median(max(runs // 2, 1), VM_RUNS, runner)
        except NotApplicable as e:
            found.append({"what": name, "why": str(e)})
            continue
        found.append({"what": f"{name}: boot to first result", "value": first, "unit": "s"})
        found.append({"what": f"{name}: {TEST}, one boot", "value": rate, "unit": "tests/s"})
        if host:
            found.append({"what": "  the host does so many in that time", "value": host / rate, "unit": "x"})
    return found


def _median(runs: int, count: int, runner: Runner) -> tuple[float, float]:
    """Seconds to the first observation, and observations a second from there on."""
    measured = [_measure(count, runner) for _ in range(runs)]
    return statistics.median(m[0] for m in measured), statistics.median(m[1] for m in measured)


def _measure(count: int, runner: Runner) -> tuple[float, float]:
    times: list[float] = []

    def observed(place: int, seen: Observation) -> None:
        if seen.status != "ok":
            raise NotApplicable(f"{seen.test}: {seen.status}: {seen.reason}")
        times.append(time.perf_counter())

    began = time.perf_counter()
    runner(count, observed)
    return times[0] - began, (count - 1) / (times[-1] - times[0])


def _on_host(test: Test) -> Runner:
    from cowcatcher.real.build import BuildError, agent_path
    from cowcatcher.real.host import run_host

    try:
        agent = agent_path()
    except BuildError as e:
        raise NotApplicable(str(e)) from e
    return lambda count, observed: run_host([test], repeat=count, agent=agent, observed=observed)


def _machines(test: Test) -> list[tuple[str, Runner]]:
    from cowcatcher.real.build import BuildError, agent_path
    from cowcatcher.real.images import KernelImage, installed
    from cowcatcher.real.qemu import VmError, emulator
    from cowcatcher.real.vm import run_image, usual_settings

    try:
        emulator()
        agent = agent_path()
    except (VmError, BuildError) as e:
        raise NotApplicable(str(e)) from e
    there = [image for image in installed() if image.flavour == "cloud"]
    if not there:
        raise NotApplicable("no kernel is installed ('cowcatcher kernels install all')")
    settings = usual_settings(there[0], agent)

    def on(image: KernelImage) -> Runner:
        return lambda count, observed: run_image(
            [test], image, repeat=count, agent=agent, settings=settings, observed=observed
        )

    return [(f"{image.name} ({settings.accelerator})", on(image)) for image in there]
