"""The runner: the seed's test on this kernel, thousands of tests in one agent, and everything that can go wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cowcatcher.litmus import parse
from cowcatcher.real import host
from cowcatcher.real.host import AgentError, memory_lock_limit, read_answers, read_ordered, run_host, run_lowered
from cowcatcher.real.lower import Facilities, Lowered, lower

from .conftest import Run

SEED = """
test rdma_fork_write
"A registered buffer, a fork, then a write by the owner: do device and process still share the page?"
memory {{ buf = anon(1) }}
process parent {{
    mr = ibv_reg_mr(buf)
    fork(child)
    {wait}
    store(buf, 2)
    post(doorbell)
    await(done)
    r1 = load(buf)
}}
process child {{ exit() }}
device nic {{
    await(doorbell)
    r0 = dma_read(mr)
    dma_write(mr, 3)
    post(done)
}}
always r0 == 2 and r1 == 3
always same_page(parent:buf, mr)
"""
PLAIN = """
test plain
memory { x = anon(1) }
process p { fork(c); wait(c); r = load(x) }
process c { store(x, 2); exit() }
always r == 1
"""


def agents(path: Path) -> list[int]:
    """Every process on this machine that runs the agent."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.path.samefile(entry / "exe", path):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def wait_for(condition: object, seconds: float = 10.0) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def hooked(op: str) -> Lowered:
    """The plain test with the child's store replaced by one of the agent's own test statements."""
    lowered = lower(parse(PLAIN))
    return replace(lowered, lines=tuple(line.replace(" store ", f" {op} ") for line in lowered.lines))


@pytest.mark.usefixtures("need_rings")
@pytest.mark.parametrize("wait", ["", "wait(child)"])
def test_the_seed(wait: str, run: Run, need_frames: None) -> None:
    seen = run(SEED.format(wait=wait))
    assert seen.status == "ok", seen.reason
    assert (seen.registers["r0"], seen.registers["r1"]) == (2, 3)
    assert seen.deaths == {"child": "exit"}
    assert seen.stand_ins == ("io_uring fixed buffer for mr = ibv_reg_mr(buf)",)
    (page,) = seen.pages
    assert page.pfn == seen.pinned["mr", 0]
    assert page.mapcount == 1


@pytest.mark.parametrize(
    ("memory", "line", "status", "reason"),
    [
        ("anon(1)", "start error 110", "timeout", "setting x up: start was never answered"),
        ("anon(1)", "mmap error 110", "timeout", "setting x up: mmap was never answered"),
        ("anon(1)", "touch killed 9", "crash", "setting x up: touch ended by SIGKILL"),
        ("anon(1)", "touch signal 7", "crash", "setting x up: touch ended by SIGBUS"),
        ("anon(1)", "touch error 12", "could not tell", "setting x up: touch gave ENOMEM"),
        ("anon(1)", "fork error 11", "could not tell", "setting x up: fork gave EAGAIN"),
        ("anon(1)", "uring error 24", "could not tell", "io_uring fixed buffer could not be had: EMFILE"),
        ("anon(1, thp)", "huge_page error 61", "not applicable", "x: the kernel gave no transparent huge page"),
        ("anon(1, thp)", "huge_page error 12", "could not tell", "setting x up: huge_page gave ENOMEM"),
        ("hugetlb(1)", "mmap error 12", "not applicable", "x: no huge page to be had, mmap gave ENOMEM"),
        ("hugetlb(1)", "touch signal 7", "not applicable", "x: no huge page to be had, touch gave SIGBUS"),
        ("hugetlb(1)", "touch error 110", "timeout", "setting x up: touch was never answered"),
        ("hugetlb(1)", "backing error 24", "could not tell", "setting x up: backing gave EMFILE"),
    ],
)
def test_a_setup_that_fails(memory: str, line: str, status: str, reason: str) -> None:
    """Only what this machine has no huge page for is not applicable; the rest says nothing, and why."""
    test = parse(f"test t\nmemory {{ x = {memory} }}\nprocess p {{ r = load(x) }}\nalways r == 1\n")
    answers = [["test", "0"], ["setup", "0", *line.split()], ["done", "0", "setup", "-1", "5"]]
    seen = read_ordered(lower(test, Facilities(huge_pages=True)), answers, 1)
    assert seen.status == status
    assert seen.reason.startswith(reason)


def test_what_a_backend_lacks_is_not_applicable() -> None:
    answers = [["test", "0"], ["lacks", "uring", "no", "ring"], ["done", "0", "setup", "-1", "5"]]
    seen = read_ordered(lower(parse(PLAIN)), answers, 1)
    assert (seen.status, seen.reason) == ("not applicable", "no io_uring fixed buffer here: no ring")


def test_too_few_files_to_begin_is_no_answer(agent: Path) -> None:
    if shutil.which("prlimit") is None:
        pytest.skip("no prlimit")
    (seen,) = run_host([parse(PLAIN)], agent=agent, wrapper=("prlimit", "--nofile=200"))
    assert seen.status == "could not tell"
    assert seen.reason.endswith((" gave EMFILE", " gave EBADF"))


@pytest.mark.usefixtures("need_rings")
def test_the_seed_as_an_ordinary_user(agent: Path, as_nobody: tuple[str, ...]) -> None:
    (seen,) = run_host([parse(SEED.format(wait="wait(child)"))], agent=agent, wrapper=as_nobody)
    assert seen.status == "ok", seen.reason
    assert (seen.registers["r0"], seen.registers["r1"]) == (2, 3)
    assert seen.pinned == {}
    assert [(p.state, p.pfn) for p in seen.pages] == [("present", None)]


def test_remote_memory_as_an_ordinary_user(agent: Path, as_nobody: tuple[str, ...]) -> None:
    test = parse(
        """
        test t
        memory { x = anon(1) }
        process p { fork(c); wait(c); a = load(x) }
        process c { poke(p, x, 4); b = peek(p, x); d = process_vm_readv(p, x); exit() }
        always a == 4
        """
    )
    (seen,) = run_host([test], agent=agent, wrapper=as_nobody)
    assert seen.registers == {"a": 4, "b": 4, "d": 4}


@pytest.mark.usefixtures("need_rings")
@pytest.mark.parametrize("limit", [0, 16384])
def test_the_limit_of_locked_memory_is_named(limit: int, agent: Path, as_nobody: tuple[str, ...]) -> None:
    """With nothing allowed there is no ring; with a little there is one, but a huge page does not go into it."""
    limited = ("prlimit", f"--memlock={limit}", *as_nobody)
    test = parse(SEED.format(wait="").replace("anon(1)", "anon(1, thp)"))
    (seen,) = run_host([test], agent=agent, wrapper=limited)
    assert seen.status == "not applicable"
    assert "ENOMEM" in seen.reason
    assert "ulimit" in seen.reason


@pytest.mark.usefixtures("need_rings")
def test_who_is_bounded_by_the_limit_of_locked_memory(as_nobody: tuple[str, ...]) -> None:
    """An ENOMEM is excused by the limit that the agent ran under, not what ran as root or in a machine."""
    limited = ("prlimit", "--memlock=16384")
    assert memory_lock_limit((*limited, *as_nobody)) == 16384
    assert memory_lock_limit(("prlimit", "--memlock=unlimited", *as_nobody)) is None
    lowered = lower(parse("test t\nmemory { x = anon(1) }\nprocess p { a = io_uring_register(x) }\nnever a == EBUSY\n"))
    answers = [["test", "0"], ["step", "0", "error", "12"], ["done", "0", "done", "0", "5"]]
    assert read_answers(lowered, answers, 1, (*limited, *as_nobody)).status == "not applicable"
    for wrapper in (None, limited) if memory_lock_limit(limited) is None else (None,):
        seen = read_answers(lowered, answers, 1, wrapper)
        assert (seen.status, seen.registers) == ("ok", {"a": "ENOMEM"})


def test_trace_shows_the_copy(agent: Path, need_frames: None) -> None:
    (seen,) = run_host([parse(PLAIN)], agent=agent, trace=True)
    after_fork, after_store = seen.log[0].pages, seen.log[1].pages
    assert len({p.pfn for p in after_fork}) == 1
    assert {p.mapcount for p in after_fork} == {2}
    assert len({p.pfn for p in after_store}) == 2


def test_repeats_stand_together(agent: Path) -> None:
    other = parse(PLAIN.replace("test plain", "test other"))
    impossible = parse(PLAIN.replace("test plain", "test no").replace("store(x, 2)", "ksm_scan()"))
    seen = run_host([parse(PLAIN), impossible, other], repeat=2, agent=agent)
    assert [(o.test, o.run, o.status) for o in seen] == [
        ("plain", 0, "ok"), ("plain", 1, "ok"),
        ("no", 0, "not applicable"), ("no", 1, "not applicable"),
        ("other", 0, "ok"), ("other", 1, "ok"),
    ]  # fmt: skip


@pytest.mark.usefixtures("need_rings")
def test_thousands_in_one_agent(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin = time.monotonic()
    seen = run_host([parse(SEED.format(wait="wait(child)"))], repeat=2000, agent=agent)
    took = time.monotonic() - begin
    with capsys.disabled():
        print(f" {len(seen) / took:.0f} tests a second", end="", file=sys.stderr)
    assert {(o.status, o.registers["r0"], o.registers["r1"]) for o in seen} == {("ok", 2, 3)}
    assert agents(agent) == []


def test_a_hang_is_a_result(agent: Path) -> None:
    begin = time.monotonic()
    seen = run_lowered([lower(parse(PLAIN)), hooked("hang"), lower(parse(PLAIN))], timeout=0.3, agent=agent)
    assert [o.status for o in seen] == ["ok", "timeout", "ok"]
    assert seen[1].reason == "c: store(x, 2) took longer than 0.3 s"
    assert time.monotonic() - begin < 5
    assert agents(agent) == []


def test_the_crash_of_a_test_process_is_a_result(agent: Path) -> None:
    (seen,) = run_lowered([hooked("crash")], agent=agent)
    assert seen.status == "ok"
    assert seen.deaths == {"c": "SIGABRT"}
    assert [d.outcome for d in seen.log if d.actor == "c"] == ["killed", "not_run"]
    assert seen.registers == {"r": 1}


def test_the_agents_own_death_costs_one_test(agent: Path) -> None:
    """Somebody kills the coordinator: that test is lost, its processes are gone, and a new agent does the rest."""

    def kill_coordinator() -> None:
        wait_for(lambda: len(agents(agent)) == 3)
        time.sleep(0.2)  # it says where it is some milliseconds later
        os.kill(min(agents(agent)), signal.SIGKILL)

    killer = threading.Thread(target=kill_coordinator)
    killer.start()
    seen = run_lowered([hooked("hang"), lower(parse(PLAIN))], timeout=20, agent=agent)
    killer.join()
    assert [o.status for o in seen] == ["crash", "ok"]
    assert seen[0].reason == "the agent did not survive c: store(x, 2)"
    assert agents(agent) == []


def test_an_agent_that_does_not_start_says_why(tmp_path: Path) -> None:
    fake = tmp_path / "agent"
    fake.write_text("#!/bin/sh\necho no luck today >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(AgentError, match="no luck today"):
        run_host([parse(PLAIN)], agent=fake)


def test_an_agent_that_tries_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "PROBES", 0.2)
    fake = tmp_path / "agent"
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    fake.chmod(0o755)
    with pytest.raises(AgentError, match=f"took longer than 0.2 s: {fake} --backends"):
        run_host([parse(PLAIN)], agent=fake)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_caller_is_ended(number: signal.Signals, agent: Path) -> None:
    """Ctrl-C is handled by the runner; SIGKILL is not, and the kernel ends the family."""
    program = (
        "import pathlib, sys\n"
        "from tests.real.test_host import hooked, run_lowered\n"
        "run_lowered([hooked('hang')], timeout=60, agent=pathlib.Path(sys.argv[1]))\n"
    )
    root = Path(__file__).parents[2]
    caller = subprocess.Popen([sys.executable, "-c", program, str(agent)], cwd=root, stderr=subprocess.DEVNULL)
    assert wait_for(lambda: len(agents(agent)) == 3)
    caller.send_signal(number)
    caller.wait(20)
    assert wait_for(lambda: agents(agent) == [])


def test_a_kernel_may_line_is_noted(run: Run) -> None:
    seen = run(PLAIN.replace("always", "kernel may reclaim(x)\nalways"))
    assert seen.notes == ("kernel may reclaim: did not happen by itself in an ordered run",)


@pytest.mark.usefixtures("need_rings")
def test_a_probe_leaves_the_pins_of_the_first_test_alone(run: Run) -> None:
    """The ring is tried out after the pipe was asked for: the pipe is still there then."""
    seen = run("memory { x = anon(1) }\nprocess p { a = vmsplice(x); b = io_uring_register(x) }")
    assert seen.pins == {"a": "ok", "b": "ok"}


@pytest.mark.usefixtures("need_rings")
def test_the_agents_clock_interrupts_no_device(agent: Path) -> None:
    """Its signal comes every few milliseconds; here in many of these runs while a ring is waited for."""
    from cowcatcher.litmus import parse_file
    from cowcatcher.litmus.catalogue import find

    path = find("rdma_long_lived")
    assert path is not None
    seen = run_host([parse_file(str(path))], repeat=200, agent=agent)
    assert {o.status for o in seen} == {"ok"}
    assert len({tuple(o.registers.items()) for o in seen}) == 1
