"""What /proc says, as events; and heaps read from outside."""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cowcatcher.audit.events import (
    PAGE,
    Advised,
    Chunks,
    CopiesAtFork,
    Event,
    Execed,
    Exited,
    Forked,
    Frames,
    HugePages,
    Library,
    Lost,
    Mapped,
    OpenedDirect,
    Pinned,
    Range,
    Unpinned,
    VmaCount,
)
from cowcatcher.audit.live import proc, rdma
from cowcatcher.audit.live.chunks import chunks
from cowcatcher.audit.live.tracer import Traced
from cowcatcher.audit.live.watch import Watcher, watched
from cowcatcher.audit.strace import events

Built = Callable[..., Path]


@pytest.fixture
def heap(built: Built) -> Iterator[tuple[int, int, int, int]]:
    """(pid, a block in the main heap, one with its own mapping, one in a thread's arena)"""
    process = subprocess.Popen([built("heap", "-pthread")], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    main, big, thread = (int(process.stdout.readline(), 16) for _ in range(3))
    yield process.pid, main, big, thread
    process.kill()
    process.wait()
    process.stdout.close()


def owners(pid: int, start: int, size: int) -> list[tuple[Range, str]]:
    found = chunks(pid, Range(start, start + size))
    if found is None:
        pytest.skip("this C library's heap is not laid out as glibc's")
    return list(found.owners)


def test_the_main_heap(heap: tuple[int, int, int, int]) -> None:
    pid, block, _, _ = heap
    found = owners(pid, block, 5000)
    assert (Range(block - 16, block - 16 + 5008), "chunk of 5008 bytes in use") in found
    texts = [text for _, text in found]
    assert "chunk of 112 bytes in use" in texts
    before = next(text for where, text in found if where.end == block - 16)
    assert before.endswith("free")
    assert all(a[0].end == b[0].start or a[0].end < b[0].start for a, b in itertools.pairwise(found))


def test_a_threads_arena(heap: tuple[int, int, int, int]) -> None:
    pid, _, _, block = heap
    found = owners(pid, block, 2000)
    assert (Range(block - 16, block - 16 + 2016), "chunk of 2016 bytes in use") in found
    assert any("unused end" in text for _, text in found)


def test_a_block_with_a_mapping_of_its_own(heap: tuple[int, int, int, int]) -> None:
    pid, _, block, _ = heap
    ((where, text),) = owners(pid, block, 200000)
    assert where.start == block - 16
    assert where.size == 200704
    assert "mapping of its own" in text


def test_memory_that_is_no_heap(heap: tuple[int, int, int, int]) -> None:
    pid, *_ = heap
    stack = next(r for r, _, what in proc._quick(pid) if what == "[stack]")
    assert chunks(pid, Range(stack.end - 100, stack.end)) is None
    assert chunks(pid, Range(0x1000, 0x1100)) is None
    assert chunks(99999999, Range(0x1000, 0x1100)) is None


def test_present(heap: tuple[int, int, int, int]) -> None:
    pid, block, _, _ = heap
    found = proc.present(pid)
    mapped = [event for event in found if isinstance(event, Mapped)]
    where = next(event for event in mapped if event.range.start <= block < event.range.end)
    assert (where.what, where.prot, where.private, where.anonymous) == ("[heap]", "rw-", True, True)
    assert all(event.line == 0 for event in found)
    assert all(a.range.end <= b.range.start for a, b in itertools.pairwise(mapped))
    assert len(proc.as_if_traced(pid)) == 1  # its other thread


def test_vma_count(heap: tuple[int, int, int, int]) -> None:
    count = proc.vma_count(heap[0])
    assert count
    assert count.count == sum(isinstance(e, Mapped) and e.what != "[vsyscall]" for e in proc.present(heap[0]))
    assert count.limit == int(Path("/proc/sys/vm/max_map_count").read_text())


def test_frames(heap: tuple[int, int, int, int]) -> None:
    pid, block, _, _ = heap
    found = proc.frames(pid, Range(block, block + 1))
    if found is None:
        assert "root" in proc.blind()
        return
    assert found.start == block // PAGE * PAGE
    assert len(found.frames) == 1
    assert proc.blind() == ""


def test_nobody_there() -> None:
    gone = 99999999
    assert proc.present(gone) == []
    assert proc.as_if_traced(gone) == []
    assert proc.vma_count(gone) is None
    assert proc.frames(gone, Range(0, PAGE)) is None
    assert proc.huge_pages(gone) == []
    assert proc.process_of(gone) is None
    assert rdma.rdma_core_version(gone) is None


SMAPS = """\
7f0000000000-7f0000400000 rw-p 00000000 00:10 99  /anon_hugepage (deleted)
Size:               4096 kB
KernelPageSize:     2048 kB
AnonHugePages:         0 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:    2048 kB
VmFlags: rd wr mr mw me dc ht
7f1000000000-7f1000800000 rw-p 00000000 00:00 0
Size:               8192 kB
KernelPageSize:        4 kB
AnonHugePages:      4096 kB
VmFlags: rd wr mr mw me wf
7f2000000000-7f2000001000 rw-s 00000000 00:0f 7  anon_inode:[io_uring]
KernelPageSize:        4 kB
VmFlags: rd wr sh mr mw me ms dc
"""


def test_smaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "smaps"
    place.write_text(SMAPS)
    real = open
    monkeypatch.setattr("builtins.open", lambda path, *a, **k: real(place if "smaps" in str(path) else path, *a, **k))
    huge, thp, ring = proc.smaps(1)
    assert (huge.page, huge.hugetlb, huge.anonymous, "dc" in huge.flags) == (2 << 20, 2 << 20, True, True)
    assert (thp.huge, thp.anonymous, "wf" in thp.flags) == (4 << 20, True, True)
    assert not ring.private
    advised = [event for event in proc.present(1) if isinstance(event, Advised)]
    assert [(event.range.start, event.advice) for event in advised] == [
        (0x7F0000000000, "DONTFORK"), (0x7F1000000000, "WIPEONFORK"),
    ]  # fmt: skip
    assert [(event.bytes, event.hugetlb) for event in proc.huge_pages(1)] == [(2 << 20, True), (4 << 20, False)]


# --- RDMA -------------------------------------------------------------------------------------------------------------


def message(*attributes: tuple[int, bytes]) -> bytes:
    body = b""
    for name, value in attributes:
        padded = value + b"\0" * (-len(value) % 4)
        body += struct.pack("<HH", 4 + len(value), name) + padded
    return struct.pack("<IHHII", 16 + len(body), 5 << 10 | 6, 0, 1, 0) + body


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (message((66, b"\1"), (93, b"\1")), True),
        (message((66, b"\1"), (93, b"\0")), False),
        (message((66, b"\1")), False),
        (struct.pack("<IHHIIi", 20, 2, 0, 1, 0, -1), None),
        (b"", None),
        (message((93, b"")), None),
    ],
)
def test_copy_on_fork(answer: bytes, expected: bool | None) -> None:
    assert rdma.copies(answer).answer is expected


def test_the_kernel_here_answers_or_says_why_not() -> None:
    said = rdma.rdma_copy_on_fork()
    assert said.why
    if not Path("/sys/module/ib_core").exists():
        assert said.answer is None


# --- beside a trace ---------------------------------------------------------------------------------------------------


def pin(pid: int, start: int, size: int, handle: str = "mr 1") -> Pinned:
    return Pinned(1.0, 1, pid, handle, "ibv_reg_mr", (Range(start, start + size),), True)


def test_looks_after_a_pin_and_now_and_then(heap: tuple[int, int, int, int]) -> None:
    pid, block, _, _ = heap
    watcher = Watcher()
    found = list(watcher.after(pin(pid, block, 5000)))
    kinds = {type(event) for event in found}
    assert {Chunks, VmaCount} <= kinds
    assert Frames in kinds or Lost in kinds
    assert all(event.line == 0 and event.task == pid for event in found)
    time.sleep(0.15)
    again = {type(event) for event in watcher.now()}
    assert again == {VmaCount}  # frames only if they are others than before
    list(watcher.after(Unpinned(2.0, 2, pid, "mr 1")))
    assert not list(watcher.now())


def test_nothing_is_looked_at_without_a_pin(heap: tuple[int, int, int, int]) -> None:
    pid, *_ = heap
    watcher = Watcher()
    for event in (Execed(1.0, 1, pid, "/bin/x"), Forked(1.0, 2, pid, 5, False, False, "fork"), Exited(1.0, 3, 5, 0)):
        assert not list(watcher.after(event))
    assert not list(watcher.now())


def test_what_is_open_is_looked_at_when_sight_is_lost(tmp_path: Path) -> None:
    lost = Lost(1.0, 1, os.getpid(), "the shim is not in it")
    assert not list(Watcher().after(lost))
    try:
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    except OSError:
        pytest.skip("no O_DIRECT here")
    watcher = Watcher()
    found = list(watcher.after(lost))
    os.close(fd)
    assert [(e.fd, e.path) for e in found if isinstance(e, OpenedDirect)] == [(fd, str(tmp_path / "file"))]
    assert not list(watcher.after(lost))


def test_the_kernel_is_asked_once_and_only_for_rdma(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rdma, "rdma_copy_on_fork", lambda: rdma.Copies(True, "it says so"))
    watcher = Watcher()
    library = Library(1.0, 1, 1 << 30, "libibverbs", "44.0")
    assert [(e.answer, e.why) for e in watcher.after(library) if isinstance(e, CopiesAtFork)] == [(True, "it says so")]
    assert not list(watcher.after(library))


def test_what_pins_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert proc.pins_unseen(os.getpid()) == ""
    monkeypatch.setattr(proc, "_link", lambda path: "/dev/vfio/7" if path.endswith("/1") else "")
    assert proc.pins_unseen(os.getpid()) == "/dev/vfio/7"
    monkeypatch.setattr(proc, "_text", lambda path: "7f00-7f01 r-xp 0 08:01 5  /usr/lib/libibverbs.so.1.14.44.0\n")
    assert proc.pins_unseen(os.getpid()) == "libibverbs"


def test_a_process_that_ended_is_let_go(heap: tuple[int, int, int, int]) -> None:
    pid, block, _, _ = heap
    watcher = Watcher()
    list(watcher.after(pin(pid, block, 5000)))
    list(watcher.after(Exited(2.0, 2, pid, 0)))
    assert not list(watcher.now())


def test_looking_is_not_most_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on a millisecond with each event, and ten with each look."""
    now = looked = 0.0

    def look(pid: int, where: Range) -> None:
        nonlocal now, looked
        now, looked = now + 0.010, looked + 0.010

    monkeypatch.setattr(proc, "frames", look)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    watcher = Watcher()
    for i in range(5_000):
        now += 0.001
        list(watcher.after(pin(1 << 30, 0x1000, 5000, f"mr {i}")))
    assert 0.1 < looked < 0.5 + 0.06 * now


def test_watched_merges_in_order(built: Built) -> None:
    with Traced.launch([str(built("ring", "-luring"))]) as traced:
        found: list[Event] = list(watched(events(traced.lines()), every=0.01))
    if traced.wait() == 77:
        pytest.skip("no io_uring here")
    traced_only = [event for event in found if event.line]
    assert [event.line for event in traced_only] == sorted(event.line for event in traced_only)
    at = next(i for i, event in enumerate(found) if isinstance(event, Pinned))
    assert isinstance(found[-1], Exited)
    assert all(i > at for i, event in enumerate(found) if isinstance(event, Frames | Chunks | HugePages))


def test_an_error_of_the_reader_arrives() -> None:
    def broken() -> Iterator[Event]:
        yield Exited(1.0, 1, 1, 0)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(watched(broken()))


def test_a_moved_page_is_seen(built: Built) -> None:
    """The programs's page is another one after it was given back and touched again."""
    if os.geteuid():
        pytest.skip("frame numbers are for root")
    process = subprocess.Popen([built("moves")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdin
        assert process.stdout
        start = int(process.stdout.readline(), 16)
        watcher = Watcher()
        before = [e for e in watcher.after(pin(process.pid, start, PAGE)) if isinstance(e, Frames)]
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        after = [e for e in watcher.now() if isinstance(e, Frames)]
        process.stdin.write("\n")
        process.stdin.flush()
    assert len(before) == len(after) == 1
    assert before[0].frames != after[0].frames


def test_pages_are_looked_at_again_when_something_is_done_to_them(heap: tuple[int, int, int, int]) -> None:
    pid, block, _, _ = heap
    watcher = Watcher()
    list(watcher.after(pin(pid, block, 5000)))
    page = Range(block, block + 5000).pages()
    list(watcher.after(Advised(2.0, 2, pid, Range(page.end, page.end + PAGE), "DONTNEED")))
    assert watcher.due() is None
    list(watcher.after(Advised(2.0, 2, pid, page, "DONTNEED")))
    assert watcher.due()
    time.sleep(0.6)
    list(watcher.again())
    assert watcher.due() is None


def test_a_process_that_is_gone_is_no_reason_to_be_blind() -> None:
    seen = {type(event) for event in Watcher().after(pin(1 << 30, 0x1000, 5000))}
    assert seen <= {Lost} if proc.blind() else not seen
