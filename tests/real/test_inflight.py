"""Direct I/O held in flight: what no kernel disputes, on every backend that this machine has; and its end, however."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cowcatcher.litmus import catalogue, parse
from cowcatcher.litmus.ast import Test
from cowcatcher.real import vm
from cowcatcher.real.backends import BACKENDS, DIRECT_IO
from cowcatcher.real.host import Observation, backends_here, run_host, run_lowered
from cowcatcher.real.images import KernelImage
from cowcatcher.real.lower import Facilities, lower
from cowcatcher.real.qemu import Settings

from .conftest import skip_if
from .test_host import agents, wait_for

BACKENDS_IN_FLIGHT = [b.name for b in BACKENDS.values() if b.kind in DIRECT_IO.values()]
FILE_SYSTEM = {kind: name for name, kind in DIRECT_IO.items()}

#: name -> text and what the registers hold at the end; FS is a file system's name.
WRITING: dict[str, tuple[str, dict[str, int | str]]] = {
    "one_word": (
        "memory { x = anon(a=1, b=2) }\n"
        "process p { io = dio_read(x, FS); store(x.b, 5); post(go); await(done); a = load(x.a); b = load(x.b) }\n"
        "device d { await(go); dma_write(io.a, 3); post(done) }",
        {"a": 3, "b": 5, "io": "ok"},
    ),
    "nothing_before_it_is_told": (
        "memory { x = anon(1) }\n"
        "process p { io = dio_read(x, FS); a = load(x); post(go); await(done); b = load(x) }\n"
        "device d { await(go); dma_write(io, 3); post(done) }",
        {"a": 1, "b": 3, "io": "ok"},
    ),
    "unpin_changes_nothing": (
        "memory { x = anon(1, pages=2) }\n"
        "process p { io = dio_read(x, FS); r = unpin(io); a = load(x[0]); b = load(x[1]) }",
        {"io": "ok", "r": "ok", "a": 1, "b": 1},
    ),
    "twice": (
        "memory { x = anon(1) }\n"
        "process p { io = dio_read(x, FS); post(go); await(done); a = load(x); post(go); await(done); b = load(x) }\n"
        "device d { await(go); dma_write(io, 3); post(done); await(go); dma_write(io, 4); post(done) }",
        {"io": "ok", "a": 3, "b": 4},
    ),
    "eight_pages": (
        "memory { x = anon(1, pages=8) }\n"
        "process p { io = dio_read(x, FS); post(go); await(done); a = load(x[0]); b = load(x[6]); c = load(x[7]) }\n"
        "device d { await(go); dma_write(io[7], 3); dma_write(io[0], 4); post(done) }",
        {"io": "ok", "a": 4, "b": 1, "c": 3},
    ),
    "two_pins": (
        "memory { x = anon(1)\n y = anon(2) }\n"
        "process p { i = dio_read(x, FS); j = dio_read(y, FS); post(go); await(done); a = load(x); b = load(y) }\n"
        "device d { await(go); dma_write(j, 4); unpin(j); dma_write(i, 3); post(done) }",
        {"i": "ok", "j": "ok", "a": 3, "b": 4},
    ),
    "where_it_was_mapped": (
        "memory { x = anon(1) }\n"
        "process p { io = dio_read(x, FS); mremap(x); post(go); await(done); a = load(x) }\n"
        "device d { await(go); dma_write(io, 3); post(done) }",
        {"io": "ok", "a": 3},
    ),
    "of_a_thread": (
        "memory { x = anon(1) }\n"
        "process p { await(done); a = load(x) }\n"
        "thread t of p { io = dio_read(x, FS); post(go) }\n"
        "device d { await(go); dma_write(io, 3); post(done) }",
        {"io": "ok", "a": 3},
    ),
    "nothing_there": (
        "memory { x = anon(1) }\n"
        "process p { munmap(x); io = dio_read(x, FS); post(go) }\n"
        "device d { await(go); r = dma_write(io, 3) }",
        {"io": "EFAULT", "r": "EIO"},
    ),
    "second_page_not_there": (
        "memory { x = anon(1, pages=2) }\nprocess p { munmap(x[1]); io = dio_read(x, FS); a = load(x[0]) }",
        {"io": "EFAULT", "a": 1},
    ),
    "read_only_memory": (
        "memory { x = anon(1, prot=R) }\nprocess p { io = dio_read(x, FS); a = load(x) }",
        {"io": "EFAULT", "a": 1},
    ),
    "after_exec": (
        "memory { x = anon(1) }\nprocess p { exec(); io = dio_read(x, FS) }",
        {"io": "EFAULT"},
    ),
    "huge_page": (
        "memory { x = anon(1, thp, pages=2) }\n"
        "process p { io = dio_read(x, FS); post(go); await(done); a = load(x[0]); b = load(x[1]) }\n"
        "device d { await(go); dma_write(io[1], 3); post(done) }",
        {"io": "ok", "a": 1, "b": 3},
    ),
}  # fmt: skip
READING: dict[str, tuple[str, dict[str, int | str]]] = {
    "what_is_there_then": (
        "memory { x = anon(a=1, b=2) }\n"
        "process p { io = dio_write(x, FS); store(x.b, 5); post(go) }\n"
        "device d { await(go); a = dma_read(io.a); b = dma_read(io.b) }",
        {"io": "ok", "a": 1, "b": 5},
    ),
    "each_time_anew": (
        "memory { x = anon(1, pages=2) }\n"
        "process p { io = dio_write(x, FS); post(go); await(done); store(x[1], 5); post(go) }\n"
        "device d { await(go); a = dma_read(io[1]); post(done); await(go); b = dma_read(io[1]) }",
        {"io": "ok", "a": 1, "b": 5},
    ),
    "read_only_memory": (
        "memory { x = anon(1, prot=R) }\n"
        "process p { io = dio_write(x, FS); post(go) }\n"
        "device d { await(go); a = dma_read(io) }",
        {"io": "ok", "a": 1},
    ),
    "of_memory_that_is_gone": (
        "memory { x = anon(1) }\n"
        "process p { io = dio_write(x, FS); munmap(x); post(go) }\n"
        "device d { await(go); a = dma_read(io); unpin(io) }",
        {"io": "ok", "a": 1},
    ),
    "nothing_there": (
        "memory { x = anon(1) }\nprocess p { munmap(x); io = dio_write(x, FS) }",
        {"io": "EFAULT"},
    ),
}  # fmt: skip


@pytest.fixture(params=BACKENDS_IN_FLIGHT)
def backend(request: pytest.FixtureRequest, agent: Path) -> str:
    name: str = request.param
    skip_if(backends_here((str(agent),))[name])
    return name


def ready(text: str, backend: str, name: str = "t") -> str:
    """The whole text; it has to claim something, which is not what is asked here."""
    some_pin = re.findall(r"(\w+) = dio", text)[0]
    return f"test {name}\n{text}\nnever {some_pin} == EBUSY\n".replace("FS", FILE_SYSTEM[BACKENDS[backend].kind])


def on_backend(text: str, backend: str, agent: Path) -> Observation:
    test = parse(ready(text, backend))
    (seen,) = run_host([test], agent=agent, timeout=20, prefer=[backend])
    return seen


@pytest.mark.parametrize("name", WRITING)
def test_the_device_writes(name: str, backend: str, agent: Path) -> None:
    if not BACKENDS[backend].writes:
        pytest.skip("it cannot be made to write")
    text, registers = WRITING[name]
    seen = on_backend(text, backend, agent)
    assert (seen.status, seen.registers) == ("ok", registers), seen.reason


@pytest.mark.parametrize("name", READING)
def test_the_device_reads(name: str, backend: str, agent: Path) -> None:
    if not BACKENDS[backend].reads:
        pytest.skip("it cannot be made to read at a chosen moment")
    text, registers = READING[name]
    seen = on_backend(text, backend, agent)
    assert (seen.status, seen.registers) == ("ok", registers), seen.reason


@pytest.mark.parametrize("end", ["exit()", "exec()", "munmap(y); store(y, 1)"])
def test_a_process_waits_for_its_io(end: str, backend: str, agent: Path) -> None:
    text = f"memory {{ x = anon(1)\n y = anon(1) }}\nprocess p {{ io = dio_read(x, FS); {end} }}"
    seen = on_backend(text, backend, agent)
    assert seen.status == "not applicable"
    assert seen.reason.endswith("a process waits for its direct I/O before it ends")


def test_nobody_waits_for_anothers_io(backend: str, agent: Path) -> None:
    text = (
        "memory { x = anon(1) }\n"
        "process p { io = dio_read(x, FS); fork(c); wait(c); post(go); await(done); a = load(x) }\n"
        "process c { exit() }\n"
        "device d { await(go); dma_write(io, 3); unpin(io); post(done) }"
    )
    assert on_backend(text, backend, agent).status == "ok"


def test_hundreds_in_one_agent(backend: str, agent: Path) -> None:
    test = parse(ready(WRITING["eight_pages"][0], backend))
    seen = run_host([test], repeat=300, agent=agent, prefer=[backend])
    assert {o.status for o in seen} == {"ok"}
    assert {o.registers["c"] for o in seen} == {3}


def test_nothing_is_left_when_the_agent_is_killed(backend: str, agent: Path) -> None:
    """A process with direct I/O in flight cannot die before that: somebody has to end it when the agent has gone."""
    text = "memory { x = anon(1) }\nprocess p { io = dio_read(x, FS); fork(c); store(x, 2) }\nprocess c { }"
    here = Facilities(backends={backend: ""}, prefer=(backend,))
    lowered = lower(parse(ready(text, backend)), here)
    hangs = replace(lowered, lines=tuple(line.replace(" store ", " hang ") for line in lowered.lines))

    def kill_coordinator() -> None:
        wait_for(lambda: len(agents(agent)) >= 3)
        time.sleep(0.2)  # it says where it is some milliseconds later
        os.kill(min(agents(agent)), signal.SIGKILL)

    killer = threading.Thread(target=kill_coordinator)
    killer.start()
    seen = run_lowered([hangs, lowered], timeout=20, agent=agent)
    killer.join()
    assert [o.status for o in seen] == ["crash", "ok"]
    assert wait_for(lambda: agents(agent) == [])


# --- backends of one class -------------------------------------------------------------------------------------------


def direct_io_tests(backend: str) -> list[Test]:
    """What the catalogue has, sent to this backend, and the cases above."""
    cases = [*WRITING.items(), *((f"r_{name}", case) for name, case in READING.items())]
    own = [parse(ready(text, backend, name)) for name, (text, _) in cases]
    paths = [path for group in catalogue.groups().values() for path in group]
    file_system = FILE_SYSTEM[BACKENDS[backend].kind]
    texts = [re.sub(r"(dio_\w+)\((\w+).*?\)", rf"\1(\2, {file_system})", path.read_text()) for path in paths]
    return [*own, *(parse(text) for text in texts if f", {file_system})" in text)]


def shape(seen: Observation) -> tuple[object, ...]:
    """All that was seen, with frames numbered in the order in which they came up."""
    numbers: dict[int, int] = {}

    def frame(pfn: int | None) -> int | None:
        return None if pfn is None else numbers.setdefault(pfn, len(numbers))

    log = tuple(
        (
            done.actor,
            done.index,
            done.result,
            tuple((p.process, p.mapping, p.index, p.state, frame(p.pfn)) for p in done.pages),
        )
        for done in seen.log
    )
    return seen.status, seen.registers, seen.deaths, log


def disagreements(tests: list[Test], by_backend: dict[str, list[Observation]]) -> list[str]:
    """Tests that two backends see differently; one that cannot run a test has no say in it."""
    found = []
    for i, test in enumerate(tests):
        shapes = {name: shape(seen[i]) for name, seen in by_backend.items() if seen[i].status != "not applicable"}
        if any(other != next(iter(shapes.values())) for other in shapes.values()):
            found.append(f"{test.name}: {shapes}")
    return found


def test_a_block_device_and_fuse_agree_on_this_kernel(agent: Path, need_frames: None) -> None:
    """Since v6.9 both take pins, and before v6.5 both took references: there they are one class."""
    here = backends_here((str(agent),))
    skip_if(here["loop"])
    skip_if(here["fuse"])
    if (6, 5) <= tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2]) < (6, 9):
        pytest.skip("a block device pins on this kernel, FUSE does not")
    tests = {name: direct_io_tests(name) for name in ("loop", "fuse")}
    seen = {
        name: run_host(of_it, agent=agent, trace=True, timeout=20, prefer=[name]) for name, of_it in tests.items()
    }  # fmt: skip
    for observations in seen.values():
        assert sum(o.status == "ok" for o in observations) > 20
    assert disagreements(tests["loop"], seen) == []


def test_block_devices_agree_in_a_machine(installed: KernelImage, agent: Path) -> None:
    """Three ways to hold up a request to a block device; NBD has no say where the device reads."""
    tests = direct_io_tests("dm")
    seen: dict[str, list[Observation]] = {}
    for name in ("dm", "loop", "nbd"):
        report = vm.run_image(
            tests, installed, agent=agent, settings=Settings(), trace=True, timeout=20, prefer=[name]
        )  # fmt: skip
        assert report.lost == 0, report.observations
        seen[name] = report.observations
        assert sum(o.status == "ok" for o in report.observations) > 20
    assert disagreements(tests, seen) == []
