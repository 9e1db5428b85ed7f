"""How statements begin and end: locks taken, result stored, scratch cleared, a signal delivered."""

from __future__ import annotations

from cowcatcher.mm.phases import BLOCKED, EXIT_MMAP, RAN, START, VFORK_WAIT
from cowcatcher.state import *


def clear_scratch(s: State, t: int) -> None:
    """Back to the start of a statement: an idle task holds nothing, so idle tasks do not multiply states."""
    for field in range(t + T_PHASE, t + TASK_SIZE):
        s[field] = 0


def finish(m: Machine, s: State, t: int, result: int) -> int:
    """The statement is done: its result goes to its register, the task to the next statement."""
    register = current_op(m, s, t)[OP_REG]
    if register:
        s[m.regs + register - 1] = result
    s[t + T_PC] += 1
    clear_scratch(s, t)
    return RAN


def deliver_segv(m: Machine, s: State, t: int) -> int:
    """SIGSEGV: the statement's register has it, or the process dies of it."""
    if current_op(m, s, t)[OP_REG]:
        return finish(m, s, t, SIGSEGV)
    begin_exit(m, s, t)
    if m.k.core_dump_ends_sharers():
        end_sharers(m, s, t)
    return RAN


def end_sharers(m: Machine, s: State, t: int) -> None:
    """zap_threads(): other processes on the same memory die, too. One that waits in vfork() can be killed there.

    One whose tasks are all inside the kernel is left alone: it would die as they leave it, with nothing changed since.
    """
    mine = (s[t + T_PROC] - 1) * PROC_SIZE + m.procs
    for other in range(m.tasks, m.tasks + m.n_tasks * TASK_SIZE, TASK_SIZE):
        if s[other + T_PROC] == 0 or (s[other + T_PHASE] != START and s[other + T_PHASE] != VFORK_WAIT):
            continue
        process = (s[other + T_PROC] - 1) * PROC_SIZE + m.procs
        if s[process + P_STATE] == RUNNING and s[process + P_MM] == s[mine + P_MM]:
            begin_exit(m, s, other)


def begin_exit(m: Machine, s: State, t: int) -> None:
    """do_exit(): from here on this task tears its process down and nothing else."""
    s[m.procs + (s[t + T_PROC] - 1) * PROC_SIZE + P_STATE] = EXITING
    clear_scratch(s, t)
    s[t + T_PHASE] = EXIT_MMAP


def mmap_read_trylock(m: Machine, s: State, mm: int) -> int:
    lock = mm_at(m, mm) + MM_LOCK
    if s[lock] == MMAP_WRITER:
        return BLOCKED
    s[lock] += 1
    return RAN


def mmap_read_unlock(m: Machine, s: State, mm: int) -> None:
    s[mm_at(m, mm) + MM_LOCK] -= 1


def mmap_write_trylock(m: Machine, s: State, mm: int) -> int:
    lock = mm_at(m, mm) + MM_LOCK
    if s[lock]:
        return BLOCKED
    s[lock] = MMAP_WRITER
    return RAN


def mmap_unlock(m: Machine, s: State, mm: int) -> None:
    """Whichever way it is held."""
    lock = mm_at(m, mm) + MM_LOCK
    s[lock] = 0 if s[lock] == MMAP_WRITER else s[lock] - 1


def mmap_write_unlock(m: Machine, s: State, mm: int) -> None:
    s[mm_at(m, mm) + MM_LOCK] = 0


def begin_on_pages(s: State, t: int, mm: int, first: int, end: int, phase: int) -> None:
    """Set a statement up that works through pages ``first``..``end - 1`` of ``mm``, from ``phase`` on."""
    s[t + T_MM] = mm + 1
    s[t + T_PAGE] = first
    s[t + T_END] = end
    s[t + T_RET] = START
    s[t + T_PHASE] = phase
