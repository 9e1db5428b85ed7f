"""Every way in which strace begins a line says the same."""

from __future__ import annotations

import re

import pytest

from cowcatcher.audit.events import Advised, Forked, Lost, Mapped, Unmapped
from tests.audit.strace.text import STORY, lost, names, timeless, told

EXPECTED = timeless(told(STORY))


def test_the_story_as_it_is() -> None:
    assert not lost(EXPECTED)
    assert names(EXPECTED) == [
        "Execed", "Mapped", "Mapped", "Mapped", "Advised", "Pinned", "Forked", "Signalled", "Exited", "OpenedDirect",
        "Moved", "Protected", "Unpinned", "Advised", "Unmapped", "Exited",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "head",
    [
        "{pid} ",
        "{pid}   ",
        "[pid {pid}] ",
        "[pid     {pid}] ",
        "[pid {pid}<comm>] ",
        "{pid}<a (b)> ",
        "{pid} 12:34:56 ",
        "{pid} 12:34:56.123456 ",
        "{pid} 1795666861.632404 ",
        "{pid} 1795666861.632404123 ",
        "{pid} 12:34:56.123456 (+     0.000123) ",
        "{pid}      0.000123 ",
        "{pid} [  56] ",
        "{pid} [00007f0012345678] ",
        "{pid} [????????????????] ",
        "[pid {pid}<f>] 04:25:48.907217 (+     0.000000) [  59] [00007f151f097ad7] ",
    ],
)
def test_the_beginning_of_a_line_does_not_matter(head: str) -> None:
    lines = []
    for line in STORY.splitlines():
        pid, _, rest = line.partition(" ")
        lines.append(head.format(pid=pid) + rest)
    assert timeless(told(lines)) == EXPECTED
    assert timeless(told([line + "\n" for line in lines])) == EXPECTED
    with_duration = [line + " <0.000123>" if re.search(r" = -?\w+$", line) else line for line in lines]
    assert timeless(told(with_duration)) == EXPECTED


def test_without_numbers_the_task_is_found() -> None:
    lines = [line[4:] for line in STORY.splitlines() if line.startswith("100 ") and "clone" not in line]
    lines.insert(3, "set_tid_address(0x7f6c)  = 100")
    expected = [event for event in EXPECTED if event.task == 100 and not isinstance(event, Forked)]
    assert timeless(told(lines)) == expected


def test_on_a_terminal_numbers_come_and_go() -> None:
    """As strace 6.1 -f writes to a terminal; the line of clone() is torn apart by its own remark."""
    text = """\
execve("./f", ["./f"], 0x7ffc /* 35 vars */) = 0
set_tid_address(0x7f6c)  = 100
clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLDstrace: Process 101 attached
, child_tidptr=0x7f3d40829a10) = 101
[pid   101] munmap(0x1000, 4096) = 0
[pid   100] munmap(0x2000, 4096 <unfinished ...>
[pid   101] +++ exited with 0 +++
<... munmap resumed>)       = 0
vfork(strace: Process 102 attached
 <unfinished ...>
[pid   102] execve("/bin/true", ["true"], 0x7ffc /* 35 vars */) = 0
[pid   100] <... vfork resumed>)        = 102
[pid   102] +++ exited with 0 +++
munmap(0x3000, 4096) = 0
+++ exited with 0 +++
"""
    happened = told(text)
    assert not lost(happened)
    assert [(type(e).__name__, e.task) for e in happened] == [
        ("Execed", 100), ("Forked", 100), ("Unmapped", 101), ("Exited", 101), ("Unmapped", 100), ("Forked", 100),
        ("Execed", 102), ("Exited", 102), ("Unmapped", 100), ("Exited", 100),
    ]  # fmt: skip
    assert [(e.child, e.shares_mm) for e in happened if isinstance(e, Forked)] == [(101, False), (102, True)]


def test_times() -> None:
    def times(*heads: str) -> list[float]:
        return [event.time for event in told([f"100 {head}munmap(0x1000, 4096) = 0" for head in heads])]

    assert times("1795666861.5 ", "1795666862.25 ") == [1795666861.5, 1795666862.25]
    assert times("23:59:59.5 ", "00:00:01.5 ") == [86399.5, 86401.5]
    assert times("     0.000000 ", "     0.500000 ", "     0.250000 ") == [0.0, 0.5, 0.75]
    assert times("", "") == [0.0, 0.0]
    skipped = [
        "100      0.0 munmap(0x1000, 4096) = 0",
        "100      2.0 getppid() = 1",
        "100      1.0 munmap(0x1000, 4096) = 0",
    ]
    assert [event.time for event in told(skipped)] == [0.0, 3.0]


def test_stacks_go_to_the_call_above_them() -> None:
    text = """\
100 execve("./f", ["./f"], 0x7ffc /* 35 vars */) = 0
 > /usr/lib/libc.so.6(execve+0x7) [0xd9b07]
100 madvise(0x7f0000000000, 8192, MADV_DONTFORK) = 0
 > /usr/lib/x86_64-linux-gnu/libc.so.6(__madvise+0x7) [0x101b07]
 > /tmp/s/f() [0x25ee]
100 getppid() = 1
 > /usr/lib/x86_64-linux-gnu/libc.so.6(getppid+0x7) [0x1]
100 munmap(0x7f0000000000, 8192)      = 0
"""
    by_name = {type(event): event for event in told(text)}
    assert by_name[Advised].stack == ("libc.so.6!__madvise+0x7", "f+0x25ee")
    assert by_name[Unmapped].stack == ()


def test_constants_as_numbers_or_both() -> None:
    """-X raw, -X verbose, -e raw."""
    abbreviated = told(STORY)
    number = {
        "PROT_READ|PROT_WRITE": "0x3", "MAP_PRIVATE|MAP_ANONYMOUS": "0x22", "MADV_DONTFORK": "0xa",
        "SEGV_MAPERR": "0x1", "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|": "0x1200000|",
    }  # fmt: skip
    raw = STORY.replace("IORING_REGISTER_BUFFERS", "0").replace("IORING_UNREGISTER_BUFFERS", "0x1")
    both = STORY.replace("MADV_DOFORK", "0xb /* MADV_DOFORK */")
    for name, value in number.items():
        raw = raw.replace(name, value)
        both = both.replace(name, f"{value} /* {name} */")
    assert told(raw) == abbreviated
    assert told(both) == abbreviated
    assert told("100 mmap(0, 0x2000, 0x3, 0x22, 0xffffffff, 0) = 0x7f0000000000") == told(
        "100 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000"
    )
    assert isinstance(told("100 clone(0x1200011, 0, 0, 0x7fb904c4da10, 0) = 0x214a")[0], Forked)


def test_huge_pages() -> None:
    def page(flags: str) -> int:
        (event,) = told(f"1 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|{flags}, -1, 0) = 0x7f0000000000")
        assert isinstance(event, Mapped)
        assert event.range.size == event.page
        return event.page

    assert page("MAP_HUGETLB") == 2 << 20
    assert page("MAP_HUGETLB|30<<MAP_HUGE_SHIFT") == 1 << 30
    assert page("MAP_NORESERVE") == 4096


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("100 mma\0p(NULL, 4096", "not a line of strace"),
        ("100 munmap(0x1000, 4096)", "there is no result"),
        ("100 munmap(0x1000, 40", "breaks off"),
        ("100 madvise(0x1000, [4096], MADV_DONTFORK) = 0", "none of its"),
        ("100 <... munmap resumed>) = 0", "where it was entered"),
        ("100 --- SIGSEGV {si_signo=SIGSE", "neither a signal nor an end"),
        ("100 +++ exited with", "neither a signal nor an end"),
    ],
)
def test_a_damaged_line_is_told_by_name(line: str, why: str) -> None:
    happened = told(["100 munmap(0x1000, 4096) = 0", line, "100 munmap(0x2000, 4096) = 0"])
    assert names(happened) == ["Unmapped", "Lost", "Unmapped"]
    assert why in lost(happened)[0]
    assert happened[1].line == 2


def test_an_unfinished_call_is_told_with_both_its_lines() -> None:
    happened = told(
        """\
100 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD <unfinished ...>
100 <... clone resumed>, child_tidptr=0x7f27f720ca10) = 101
100 munmap(0x1000,  <unfinished ...>
101 munmap(0x1000, 4096) = 0
100 <... munmap resumed> 4096) = 0
"""
    )
    fork = happened[0]
    assert isinstance(fork, Forked)
    assert (fork.begun, fork.line) == (1, 2)
    assert [(e.task, e.line) for e in happened[1:]] == [(101, 4), (100, 5)]


def test_remarks_of_strace_are_no_damage() -> None:
    assert not told(
        """\
100 getppid() = 1
strace: Process 100 attached with 3 threads
strace: Process 100 detached
 | 00000  7f 45 4c 46 02 01 01 03
strace: [ Process PID=100 runs in 32 bit mode. ]
100 --- stopped by SIGTSTP ---
100 restart_syscall(<... resuming interrupted read ...>) = 0
100 ????( <unfinished ...>

"""
    )


def test_only_so_many_complaints() -> None:
    happened = told(["1 getppid() = 1", *(f"{i} gar\0bage" for i in range(1000))])
    assert len(happened) == 51
    last = happened[-1]
    assert isinstance(last, Lost)
    assert last.reason.startswith("950 more")
