"""What an audit says of page maps, against /proc as read by code of this directory's own (look.py), at three places of
workers.py: before the fork, behind it, and behind the owner's store and its ring's read; and of fio, whose jobs hold
registered buffers, and of a program that is none of ours.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cowcatcher.audit.events import Advised, Mapped, Range
from cowcatcher.audit.live import proc

from .conftest import Need, fio, python
from .look import PAGE, flags, frames

PAGES = 4


class Stop:
    """The program where it waits."""

    def __init__(self, place: str, pids: list[int], address: int) -> None:
        self.place, self.pids, self.address = place, pids, address
        self.frames = {pid: frames(pid, address, PAGES) for pid in pids}

    @property
    def range(self) -> Range:
        return Range(self.address, self.address + PAGES * PAGE)


@contextmanager
def stopping(data: Path, *words: str) -> Iterator[Iterator[Stop]]:
    """workers.py, at each place where it waits."""
    program = subprocess.Popen(
        python("workers.py", str(data), "pause", *words),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    streams = [stream for stream in (program.stdin, program.stdout, program.stderr) if stream]

    def stops(go: subprocess.Popen[str]) -> Iterator[Stop]:
        assert go.stdin is not None
        assert go.stdout is not None
        assert go.stderr is not None
        said = go.stderr.readline().split()
        if not said or said[0] != "registered":
            pytest.skip(f"no io_uring here: {go.stderr.read().strip().splitlines()[-1:]}")
        for line in go.stdout:
            if line.startswith("at "):
                _, place, *pids = line.split()
                yield Stop(place, [int(pid) for pid in pids], int(said[1], 16))
                go.stdin.write("\n")

    try:
        yield stops(program)
        assert program.wait(10) == 0
    finally:
        program.kill()
        program.wait()
        for stream in streams:
            stream.close()


@pytest.mark.parametrize("words", ["", "dontfork", "shared"])
def test_frames_and_flags_are_those_of_proc(words: str, data: Path) -> None:
    with stopping(data, *words.split()) as stops:
        for stop in stops:
            for pid in stop.pids:
                there = proc.frames(pid, stop.range)
                if not any(stop.frames[stop.pids[0]]):
                    pytest.skip("frame numbers are shown to root only")
                assert there is not None
                assert list(there.frames) == stop.frames[pid]
                found = [vma for vma in proc.smaps(pid) if vma.range.start <= stop.address < vma.range.end]
                assert [set(vma.flags) for vma in found] == ([flags(pid, stop.address)] if found else [])
                assert bool(found) == bool(flags(pid, stop.address))


@pytest.mark.parametrize("words", ["", "dontfork", "shared"])
def test_who_has_which_page(words: str, data: Path) -> None:
    """The owner never moves; the child has copies from the fork on, or nothing, or what both have."""
    with stopping(data, *words.split()) as stops:
        seen = list(stops)
    registered, forked, used = seen
    owner, child = forked.pids
    if not any(registered.frames[owner]):
        pytest.skip("frame numbers are shown to root only")
    assert registered.frames[owner] == forked.frames[owner] == used.frames[owner]
    if words:
        assert forked.frames[child] == [0] * PAGES
    else:
        assert not set(forked.frames[child]) & {0, *forked.frames[owner]}
        assert used.frames[child] == forked.frames[child]


@pytest.mark.parametrize("words", ["", "dontfork"])
def test_a_process_that_is_attached_to_is_told_as_it_is(words: str, data: Path) -> None:
    with stopping(data, *words.split()) as stops:
        for stop in stops:
            owner, *child = stop.pids
            told = proc.present(owner)
            mapped = [e for e in told if isinstance(e, Mapped) and e.range.overlap(stop.range)]
            assert all(e.private and e.prot == "rw-" for e in mapped)
            advised = [e for e in told if isinstance(e, Advised) and e.range.overlap(stop.range)]
            assert [(e.range, e.advice) for e in advised] == ([(stop.range, "DONTFORK")] if words else [])
            rings = "".join(proc.as_if_traced(owner))
            assert f"iov_base={stop.address:#x}, iov_len={PAGES * PAGE}" in rings
            for pid in child:
                here = [e for e in proc.present(pid) if isinstance(e, Mapped) and e.range.overlap(stop.range)]
                assert bool(here) is not bool(words)


BUFFER = re.compile(r"^ *\d+: 0x([0-9a-f]+)/(\d+)$", re.MULTILINE)


def ring_buffers(pid: int) -> list[tuple[int, int]]:
    """Address and size of what the process has registered, as /proc/PID/fdinfo has it."""
    texts = []
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(OSError):
            texts.append(info.read_text())
    return [(int(at, 16), int(length)) for text in texts for at, length in BUFFER.findall(text)]


def test_fio_s_buffers_stay_where_they_are(need: Need, direct: Path) -> None:
    """A thread's eight registered buffers, looked at before and behind the fork of another job."""
    fio_ = subprocess.Popen(fio(need("fio", "fio"), "ring_then_fork", direct), cwd=direct.parent)
    try:
        end = time.monotonic() + 10
        while not (buffers := ring_buffers(fio_.pid)):
            if fio_.poll() is not None or time.monotonic() > end:
                pytest.skip("this kernel does not tell what is registered with a ring")
            time.sleep(0.01)
        looks = []
        while fio_.poll() is None and ring_buffers(fio_.pid) == buffers and len(looks) < 200:
            by_hand = [frames(fio_.pid, at, 1)[0] for at, _ in buffers]
            told = [proc.frames(fio_.pid, Range(at, at + length)) for at, length in buffers]
            if not by_hand[0]:
                pytest.skip("frame numbers are shown to root only")
            assert [t.frames for t in told if t] == [(frame,) for frame in by_hand]
            looks.append(by_hand)
            time.sleep(0.005)
    finally:
        fio_.wait(20)
    assert len(buffers) == 8
    assert len(looks) > 10
    assert looks.count(looks[0]) == len(looks)


def test_all_mappings_of_somebody_else_s_program(need: Need) -> None:
    program = subprocess.Popen([need("sleep", "coreutils"), "20"])
    try:
        time.sleep(0.1)
        told = list(proc.smaps(program.pid))
        assert len(told) > 10
        assert [flags(program.pid, vma.range.start) for vma in told] == [set(vma.flags) for vma in told]
    finally:
        program.kill()
        program.wait()
