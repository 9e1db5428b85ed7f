"""What the trace shows too late, and the shim says in time; forks that failed."""

from __future__ import annotations

from cowcatcher.audit.events import Advised, Forked, ForkFailed, Lost, Pinned, Range, Unpinned
from tests.audit.strace.text import lost, told

HELLO = """\
100 execve("./f", ["./f"], 0x7ffc /* 35 vars */) = 0
100 mq_unlink("/cowcatcher:hello version=1") = -1 ENOENT (No such file or directory)
100 clone3({flags=CLONE_VM|CLONE_THREAD|CLONE_FILES}, 88) = 101
"""
FORK = "100 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD) = {}\n"


def test_what_another_process_copies_while_it_forks() -> None:
    text = f"""\
{HELLO}101 mq_unlink("/cowcatcher:site call=process_vm_readv addr=0x7f00 len=256 stack=f!copy+0x1") = -1 ENOENT
101 process_vm_readv(100,  <unfinished ...>
{FORK.format(102)}\
101 <... process_vm_readv resumed>[{{iov_base="aaa", iov_len=256}}], 1, [{{iov_base=0x7f00, iov_len=256}}], 1, 0) = 256
"""
    happened = told(text)
    assert not lost(happened)
    assert [type(e) for e in happened[-3:]] == [Pinned, Forked, Unpinned]
    pin = happened[-3]
    assert isinstance(pin, Pinned)
    assert (pin.task, pin.interface, pin.ranges, pin.writes) == (100, "process_vm", (Range(0x7F00, 0x8000),), False)


def test_a_copy_that_is_cut_short_is_over() -> None:
    text = f"""\
{HELLO}101 mq_unlink("/cowcatcher:site call=process_vm_writev addr=0x7f00 len=256 stack=") = -1 ENOENT (No such…)
101 process_vm_writev(100,  <unfinished ...>
101 +++ exited with 0 +++
{FORK.format(102)}"""
    assert not [e for e in told(text) if isinstance(e, Pinned)]


def test_a_fork_that_failed() -> None:
    failed = FORK.replace("{}", "-1 ENOMEM (Cannot allocate memory)")
    happened = told(HELLO + failed + failed.replace("ENOMEM", "EAGAIN") + failed.replace("flags=", "flags=CLONE_VM|"))
    assert [(e.task, e.call, e.error) for e in happened if isinstance(e, ForkFailed)] == [(100, "clone", "ENOMEM")]
    assert not lost(happened)


def test_registrations_that_no_trace_shows() -> None:
    opened = '100 openat(AT_FDCWD, "/dev/infiniband/uverbs0", O_RDWR|O_CLOEXEC) = 5\n'
    execve, hello, _ = HELLO.splitlines(keepends=True)
    assert [e.matters for e in told(execve + opened + opened) if isinstance(e, Lost)] == [True]
    assert not lost(told(execve + hello + opened))


def test_advice_past_a_hole() -> None:
    (advised,) = told("100 madvise(0x7f0000000000, 8192, MADV_DONTFORK) = -1 ENOMEM (Cannot allocate memory)")
    assert isinstance(advised, Advised)
    assert (advised.advice, advised.partly) == ("DONTFORK", True)
    assert not told("100 madvise(0x7f0000000000, 8192, MADV_POPULATE_READ) = -1 ENOMEM (Cannot allocate memory)")
    assert not told("100 madvise(0x7f0000000000, 8192, MADV_DONTFORK) = -1 EAGAIN (Resource temporarily unavailable)")
