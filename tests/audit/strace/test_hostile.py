"""Whatever the lines are: no exception, bounded memory, and damage loses only what was damaged."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowcatcher.audit.events import Lost
from cowcatcher.audit.strace import TraceError, events, open_trace
from cowcatcher.audit.strace.trace import LONGEST
from tests.audit.strace.text import STORY, lost, names, timeless, told

LINES = STORY.splitlines()

#: Pieces that mean something to the reader, in any order.
WORDS = [
    "100 ",
    "101 ",
    "[pid 102] ",
    "12:00:00 ",
    "1795666861.5 ",
    "mmap(",
    "munmap(",
    "clone(",
    "clone3(",
    "vfork(",
    "fork()",
    "execve(",
    "io_uring_register(",
    "io_uring_setup(",
    "pread64(",
    "write(",
    "openat(",
    "close(",
    "dup2(",
    "io_submit(",
    "io_getevents(",
    "vmsplice(",
    "sendmsg(",
    "recvmsg(",
    "setsockopt(",
    "ioctl(",
    "mq_unlink(",
    "process_vm_readv(",
    "brk(",
    "<unfinished ...>",
    "<... clone resumed>",
    "<... pread64 resumed>",
    " = 0",
    " = 101",
    " = -1 EAGAIN",
    " = ?",
    ")",
    "(",
    "[",
    "]",
    "{",
    "}",
    ", ",
    '"',
    '"/cowcatcher:reg_mr h=1 addr=2 len=3 access=7"',
    '"/cowcatcher:inflight id=0 op=dio_read"',
    '"/cowcatcher:pin h=0x1 interface=xdp_umem addr=1 len=1"',
    "flags=CLONE_VM",
    "flags=SIGCHLD",
    "iov_base=0x10000, iov_len=4096",
    "NULL",
    "0x10000",
    "4096",
    "99999999999999999999",
    "0xffffffffffffffff",
    "-1",
    "O_RDWR|O_DIRECT",
    "PROT_READ|PROT_WRITE",
    "MAP_PRIVATE|MAP_ANONYMOUS",
    "MADV_DONTFORK",
    "IORING_REGISTER_BUFFERS",
    "--- SIGSEGV {",
    "si_code=SEGV_MAPERR",
    "si_addr=0x10",
    "} ---",
    "+++ exited with 0 +++",
    "+++ killed by SIGSEGV +++",
    "+++ superseded by execve in pid 101 +++",
    " > /lib/libc.so.6(fork+0x1) [0x1]",
    "strace: Process 101 attached",
    "\0",
    "\ufffd",
    "=>",
    "/*",
    "*/",
    "<",
    ">",
    "...",
    "\\",
    "aio_data=1, aio_lio_opcode=IOCB_CMD_PREAD, aio_fildes=3, aio_buf=0x1, aio_nbytes=2",
    "MSG_ZEROCOPY",
    "SO_ZEROCOPY",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=14).map("".join), max_size=40))
def test_lines_made_of_pieces(lines: list[str]) -> None:
    told(lines)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=80), max_size=20))
def test_any_text(lines: list[str]) -> None:
    told(lines)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 6))
def test_a_trace_with_letters_changed(seed: int, times: int) -> None:
    chance = random.Random(seed)
    text = list(STORY)
    for _ in range(times):
        at = chance.randrange(len(text))
        text[at : at + chance.randrange(3)] = chance.choice(['"', "(", "<", "0", "\n", "", "\0", "[{", " = "])
    told("".join(text).split("\n"))


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_lines_in_any_order(chance: random.Random) -> None:
    lines = LINES * 2
    chance.shuffle(lines)
    told(lines)


#: Lines on which no later one depends: without them, the other events stay as they are.
ALONE = [
    i
    for i, line in enumerate(LINES)
    if line[4:].startswith(("madvise", "mprotect", "munmap", "mremap", "mmap(NULL, 6"))
]


@pytest.mark.parametrize("which", ALONE)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_garbled_line_loses_its_own_event_only(which: int, data: st.DataObject) -> None:
    line = LINES[which]
    cut = data.draw(st.integers(4, len(line) - 1))
    garbage = data.draw(st.sampled_from(["", "\0\0", '"', "\ufffd(", " 101 ", "[[[["]))
    # The event of that line, as it should be: the story has one for each of these lines.
    expected = [event for event in told(STORY) if event.line != which + 1]
    happened = told([*LINES[:which], line[:cut] + garbage, *LINES[which + 1 :]])
    assert [e for e in happened if e.line != which + 1] == expected
    assert names(e for e in happened if e.line == which + 1) in ([], ["Lost"], [type(_event(which)).__name__])


def _event(which: int) -> object:
    return next(event for event in told(STORY) if event.line == which + 1)


def test_a_line_that_is_cut_off_is_told() -> None:
    """The test above, shown to be able to fail: a damaged line that nobody mentions."""
    for which in ALONE:
        happened = told([*LINES[:which], LINES[which][:-8].rstrip(" =") + '"', *LINES[which + 1 :]])
        assert any(isinstance(e, Lost) and e.line == which + 1 for e in happened), LINES[which]


@pytest.mark.parametrize("end", [200, 700, 1500, len(STORY) - 30])
def test_a_trace_that_is_cut_off(end: int) -> None:
    whole, cut = told(STORY), told(STORY[:end].split("\n"))
    shared = [event for event in cut if not isinstance(event, Lost)]
    assert shared == whole[: len(shared)]


# --- halves -----------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_calls_in_two_halves_say_the_same(data: st.DataObject) -> None:
    """Any call may be cut behind a comma; another task's line lies between."""
    lines: list[str] = []
    for line in LINES:
        task, _, call = line.partition(" ")
        name, parenthesis, _ = call.partition("(")
        commas = [
            i
            for i, letter in enumerate(call)
            if call[i : i + 2] == ", " and "[" not in call[:i] and "{" not in call[:i]
        ]
        commas = [i for i in commas if i > len(name) and call.count('"', 0, i) % 2 == 0]
        if parenthesis and name.isidentifier() and commas and data.draw(st.booleans()):
            cut = data.draw(st.sampled_from(commas))
            old = data.draw(st.sampled_from(["", " "]))  # before 5.3 there was a space behind "resumed>"
            lines += [
                f"{task} {call[: cut + 2]} <unfinished ...>",
                "999 getppid() = 1",
                f"{task} <... {name} resumed>{old}{call[cut + 2 :]}",
            ]
        else:
            lines.append(line)
    assert timeless(told(lines)) == timeless(told(STORY))


# --- time and memory --------------------------------------------------------------------------------------------------

HOSTILE: dict[str, str] = {
    "tasks without an end": "{i} munmap(0x1000, 4096) = 0",
    "forks without an end": "1 clone(child_stack=NULL, flags=SIGCHLD) = {j}",
    "calls never resumed": "{i} clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>",
    "resumed, never entered": "{i} <... munmap resumed>) = 0",
    "descriptors without an end": '1 openat(AT_FDCWD, "/x", O_RDWR|O_DIRECT) = {i}',
    "descriptors and forks": '1 openat(AT_FDCWD, "/x", O_RDWR) = {i}\n1 clone(child_stack=NULL, flags=SIGCHLD) = {j}',
    "rings and forks": "1 io_uring_setup(8, {{flags=0}}) = {i}\n1 clone(child_stack=NULL, flags=SIGCHLD) = {j}",
    "buffers": "1 io_uring_register(4, IORING_REGISTER_BUFFERS, [{{iov_base={j}, iov_len=1}}], 1) = 0",
    "pages in a pipe": "1 vmsplice(6, [{{iov_base={j}, iov_len=1}}], 1, 0) = 1",
    "sends": "1 setsockopt(9, SOL_SOCKET, SO_ZEROCOPY, [1], 4) = 0\n"
    "1 sendto(9, {j}, 0x1000, MSG_ZEROCOPY, NULL, 0) = 1",
    "requests": '1 openat(AT_FDCWD, "/x", O_RDWR|O_DIRECT) = 3\n1 io_submit(0x7, 1, [{{aio_data={i}, '
    "aio_lio_opcode=IOCB_CMD_PREAD, aio_fildes=3, aio_buf=0x10, aio_nbytes=1}}]) = 1",
    "registrations": '1 mq_unlink("/cowcatcher:reg_mr h={i} addr=1 len=1 access=7") = -1 ENOENT',
    "long words": '{i} mq_unlink("/cowcatcher:site call=' + "x" * 220 + '{i} stack=a") = -1 ENOENT',
    "names": "1 name_{i}() = 0",
    "shared memory": "1 shmget(1, 1, 0) = {j}\n1 shmat({j}, NULL, 0) = {j:#x}000",
    "garbage": "{i} \0garbage",
    "protections": "1 mprotect({j:#x}000, 4096, PROT_{i}) = 0",
    "two parents": "1 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>\n2 clone(child_stack=NULL, flags=SIGCHLD "
    "<unfinished ...>\n{k} munmap({j:#x}000, 4096) = 0",
    "mappings for a device": "1 ioctl(5, VFIO_IOMMU_MAP_DMA, {{flags=0, vaddr={j:#x}000, "
    "iova={j:#x}000, size=4096}}) = 0",
}

MEASURE = """
import resource, sys
from cowcatcher.audit.strace import events
pattern, count = sys.stdin.read(), int(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
lines = (line for i in range(count) for line in pattern.format(i=i, j=i + 3, k=i % 50 + 10).split(chr(10)))
told = sum(1 for _ in events(lines))
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime, used.ru_maxrss - before)
"""


def measured(pattern: str, count: int) -> tuple[float, int]:
    """(seconds, KiB) of a process of its own."""
    command = [sys.executable, "-c", MEASURE, str(count)]
    said = subprocess.run(command, input=pattern, check=True, capture_output=True, text=True).stdout.split()
    return float(said[0]), int(said[1])


@pytest.mark.parametrize("what", HOSTILE)
def test_memory_and_time_are_bounded(what: str) -> None:
    """Whatever is never closed, never ended, never resumed."""
    seconds, kibibytes = measured(HOSTILE[what], 60_000)
    assert kibibytes < 150 << 10, f"{kibibytes >> 10} MiB"
    assert seconds < 30


@pytest.mark.parametrize(
    "unit", ["mmap(", "1 mmap(NULL, ", '"', "[{", "/*", "<... ", "<unfinished ...>", "\0", " = ", "strace: "]
)
def test_long_lines(unit: str) -> None:
    long = unit * (1_000_000 // len(unit))
    for line in (
        long,
        f"1 munmap({long}) = 0",
        f"1 io_uring_register(4, 0, {long}",
        f"1 <... munmap resumed>{long}",
        f"1 --- SIGSEGV {{{long}",
    ):
        started = time.process_time()
        told(["1 munmap(0x1000, 4096) = 0", line])
        assert time.process_time() - started < 10


# --- files ------------------------------------------------------------------------------------------------------------


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_a_file_is_read_as_lines(tmp_path: Path) -> None:
    assert list(events(open_trace(written(tmp_path / "t", STORY.encode())))) == told(STORY)
    assert list(open_trace(written(tmp_path / "t", b"a\xff\nb\r\n\nlast"))) == ["a\ufffd", "b\r", "", "last"]
    assert list(open_trace(written(tmp_path / "t", "ä\n".encode() * 300_000))) == ["ä"] * 300_000


def test_a_line_without_an_end_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "t"
    with path.open("wb") as file:
        for _ in range(300):
            file.write(b"a" * (1 << 20))
        file.write(b"\n1 munmap(0x1000, 4096) = 0\n")
    tracemalloc.start()
    lines = list(open_trace(str(path)))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(line) for line in lines] == [LONGEST, 26]
    assert most < 32 << 20
    assert names(told(lines)) == ["Lost", "Unmapped"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (gzip.compress(b"1 getppid() = 1\n"), "zcat t |"),
        (b"\x28\xb5\x2f\xfd....", "zstdcat t |"),
        (b"\x7fELF\2\1\1", "is a program"),
        (bytes(range(32)) + b"\0" * 100, "is binary"),
    ],
)
def test_files_that_are_no_trace(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(TraceError, match=why.replace("|", r"\|")):
        open_trace(written(tmp_path / "t", content))


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="No such file"):
        open_trace(str(tmp_path / "none"))
    with pytest.raises(TraceError, match="is a directory"):
        open_trace(str(tmp_path))


def test_text_that_is_no_trace() -> None:
    assert "not one line" in lost(told(["Dear all,", "(see below)", "yours"]))[-1]
    assert lost(told([])) == ["the trace is empty"]


def test_events_come_before_the_file_ends() -> None:
    def endless() -> Iterator[str]:
        yield from LINES
        while True:
            yield "100 munmap(0x1000, 4096) = 0"

    assert len(list(islice(events(endless()), 100))) == 100
