"""What bpftrace prints, put in order: no bpftrace is needed for it."""

from __future__ import annotations

import json

from cowcatcher.audit.events import Advised, Event, Execed, Exited, Forked, Lost
from cowcatcher.audit.live.order import Order, text_of
from cowcatcher.audit.strace import events


def printed(text: str) -> str:
    return json.dumps({"type": "printf", "data": text + "\n"})


def told(*texts: str, task: int = 10) -> list[str]:
    """strace's lines, without tasks' times."""
    order = Order(task, 1000.0)
    lines = [line for text in texts for line in order.feed(text if text.startswith("{") else printed(text))]
    return [line.rstrip("\n") for line in lines]


def happened(*texts: str) -> list[Event]:
    return list(events(told(*texts)))


def test_text() -> None:
    assert text_of(printed("M 12")) == "M 12"
    assert text_of('{"type": "printf", "data": "E 1 2 2 /a\\"b\\\\c\\n"}') == 'E 1 2 2 /a"b\\c'
    assert text_of('{"type": "printf", "data": "\\uffffffc3\\uffffffa4\\n"}') == "\u00e4"
    assert text_of('{"type": "attached_probes", "data": {"probes": 25}}') == ""


def test_lines_wait_for_those_of_other_processors() -> None:
    assert told("L 5 10 a() = 5", "M 10", "L 3 11 b() = 3", "L 20 10 c() = 20", "M 11") == [
        "11 1000.000000 b() = 3", "10 1000.000000 a() = 5",
    ]  # fmt: skip


def test_a_call_that_nobody_comes_between_is_one_line() -> None:
    lines = told(
        "U 1 10 process_vm_readv(7, 0x10, 1", "R 2 10 , [{iov_base=0x20, iov_len=4}, ], 1, 0) = 4", "M 3", "M 4"
    )
    assert lines == ["10 1000.000000 process_vm_readv(7, 0x10, 1, [{iov_base=0x20, iov_len=4}, ], 1, 0) = 4"]


def test_a_call_that_somebody_comes_between_is_two() -> None:
    lines = told(
        "F 1 10 clone(child_stack=NULL, flags=0x11", "L 2 11 madvise(0x1000, 4096, 4) = 0", "N 3 10 12 17", "M 4", "M 5"
    )
    assert [line.split(" ", 2)[2] for line in lines] == [
        "clone(child_stack=NULL, flags=0x11 <unfinished ...>",
        "madvise(0x1000, 4096, 4) = 0",
        "<... clone resumed>) = 12",
    ]


def test_a_fork_that_failed_is_told_when_its_task_goes_on() -> None:
    lines = told("F 1 10 fork(", "L 2 10 io_uring_setup() = 3", "M 3", "M 4")
    assert [line.split(" ", 2)[2] for line in lines] == ["fork() = -1 EAGAIN (no child)", "io_uring_setup() = 3"]


def test_parts_are_put_together() -> None:
    lines = told("W 1 10 /cowcatcher:lost why=a", 'V 2 10 b"c', "M 3", "M 4")
    assert lines == ['10 1000.000000 mq_unlink("/cowcatcher:lost why=ab\\042c") = -1 ENOENT (a word)']
    assert [event.reason for event in events(lines) if isinstance(event, Lost)] == ['ab"c']


def test_the_first_thread_may_end_before_its_process() -> None:
    found = happened(
        "F 1 10 clone3({flags=0x3d0f00}", "N 2 10 11 4001536", "X 3 10 0 0 0", "X 4 11 512 4 512", "M 5", "M 6"
    )
    assert [(type(event).__name__, event.task) for event in found] == [("Forked", 10), ("Exited", 11), ("Exited", 10)]
    assert [event.status for event in found if isinstance(event, Exited)] == [2, 2]
    assert isinstance(found[0], Forked)
    assert found[0].thread


def test_exec_by_another_thread() -> None:
    order = Order(10, 0.0)
    lines = [
        line
        for text in (
            "F 1 10 clone3({flags=0x3d0f00}",
            "N 2 10 11 4001536",
            "X 3 10 9 0 0",
            'E 4 10 11 /bin/"x"',
            "X 5 10 0 0 0",
            "M 6",
            "M 7",
        )
        for line in order.feed(printed(text))
    ]
    found = list(events(lines))
    assert [event.path for event in found if isinstance(event, Execed)] == ['/bin/"x"']
    assert [event.task for event in found if isinstance(event, Exited)] == [11, 10]
    assert order.groups == {}


def test_ends() -> None:
    found = happened(
        "F 1 10 fork(", "N 2 10 11 17", "X 3 11 139 0 0", "F 4 10 fork(", "N 5 10 12 17", "X 6 12 9 0 0",
        "X 7 10 768 0 0", "M 8", "M 9",
    )  # fmt: skip
    ends = [(event.task, event.status, event.signal) for event in found if isinstance(event, Exited)]
    assert ends == [(11, None, "SIGSEGV"), (12, None, "SIGKILL"), (10, 3, "")]


def test_advice_that_failed_half_way_has_its_name() -> None:
    text = "L 1 10 madvise(0x1000, 4096, 10) = -1 ENOMEM (Cannot allocate memory)"
    (advised,) = (event for event in happened(text, "M 2", "M 3") if isinstance(event, Advised))
    assert advised.advice == "DONTFORK"
    assert advised.partly


def test_losses_are_told() -> None:
    found = happened('{"type": "lost_events", "data": {"events": 7}}', "M 1", "M 2")
    assert [event.reason for event in found if isinstance(event, Lost)] == [
        "bpftrace lost 7 lines: its buffers were full"
    ]


def test_who_is_left_after_losses() -> None:
    order = Order(10, 0.0)
    order.keep(set())
    assert order.groups == {}
    list(order.rest("it has ended"))
