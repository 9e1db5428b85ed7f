"""Traces to test with, and what a test looks at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cowcatcher.audit.events import Event, Forked, Lost
from cowcatcher.audit.strace import events

#: Written by hand after strace 6.1: one process that pins, forks and ends. Task 100.
STORY = """\
100 execve("./f", ["./f"], 0x7ffc /* 35 vars */) = 0
100 brk(NULL)                         = 0x5000
100 brk(0x7000)                       = 0x7000
100 openat(AT_FDCWD, "/lib/libc.so.6", O_RDONLY|O_CLOEXEC) = 3
100 read(3, "\\177ELF (\\"mmap(", 832)  = 832
100 mmap(NULL, 5000, PROT_READ, MAP_PRIVATE|MAP_DENYWRITE, 3, 0) = 0x7f0000100000
100 close(3)                          = 0
100 mmap(NULL, 65536, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000
100 madvise(0x7f0000000000, 8192, MADV_DONTFORK) = 0
100 io_uring_setup(8, {flags=0, sq_entries=8, cq_entries=16}) = 4
100 io_uring_register(4, IORING_REGISTER_BUFFERS, [{iov_base=0x7f0000000000, iov_len=4096}, {iov_base=0x7f0000001000, iov_len=100}], 2) = 0
100 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7fa10) = 101
101 set_robust_list(0x7fa20, 24)      = 0
101 --- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=0x7f0000000010} ---
101 +++ killed by SIGSEGV (core dumped) +++
100 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_KILLED, si_pid=101, si_uid=0, si_status=SIGSEGV} ---
100 openat(AT_FDCWD, "/data", O_RDWR|O_DIRECT|O_CLOEXEC, 0600) = 3
100 mremap(0x7f0000004000, 4096, 65536, MREMAP_MAYMOVE) = 0x7f0000200000
100 mprotect(0x7f0000200000, 4096, PROT_READ) = 0
100 io_uring_register(4, IORING_UNREGISTER_BUFFERS, NULL, 0) = 0
100 madvise(0x7f0000000000, 8192, MADV_DOFORK) = 0
100 munmap(0x7f0000000000, 8192)      = 0
100 exit_group(3)                     = ?
100 +++ exited with 3 +++
"""  # noqa: E501


def told(text: str | Iterable[str]) -> list[Event]:
    return list(events(text.splitlines() if isinstance(text, str) else text))


def timeless(happened: Iterable[Event]) -> list[Event]:
    """Without when and where in the trace."""
    return [
        replace(event, time=0.0, line=0, **({"begun": 0} if isinstance(event, Forked) else {})) for event in happened
    ]


def names(happened: Iterable[Event]) -> list[str]:
    return [type(event).__name__ for event in happened]


def lost(happened: Iterable[Event]) -> list[str]:
    return [event.reason for event in happened if isinstance(event, Lost)]
