"""Calls that make a task or give it a new memory: fork, vfork, clone, clone3, execve.

Children are followed from the first sight of them, which often comes before the call that made them has returned.
"""

from __future__ import annotations

import re

from cowcatcher.audit.events import Execed, Exited, Forked, ForkFailed
from cowcatcher.audit.strace.arguments import Garbled, Value, flag, parse, string
from cowcatcher.audit.strace.lines import Call
from cowcatcher.audit.strace.state import Files, Fork, Memory, Task, World, argument, result, succeeded

#: The variables that an audit asks for: fork protection, and what RDMA libraries and allocators are told.
_ASKED_FOR = re.compile(
    r"(?:RDMAV|IBV|FI|UCX|MLX[45]|NCCL|PSM[23]?|HUGETLB|MALLOC|OMPI_MCA|MPIR|GLIBC_TUNABLES)(?:_\w*)?="
)

#: Names under which the shim may have announced where a fork comes from, the innermost last.
SITES = ("fork", "vfork", "posix_spawn", "clone", "clone3")

_NO_MEMORY = " = -1 ENOMEM"

#: Of a program that runs without the shim in a trace where others have it: it is static, or started with a clean
#: environment.
UNSEEN = "ibv_reg_mr(), O_DIRECT transfers in flight at a fork and free() of pinned memory are not seen there"


def _flags(name: str, arguments: list[Value]) -> Value:
    if name == "clone3":
        first = argument(arguments, 0)
        return first.get("flags", "") if isinstance(first, dict) else ""
    for value in arguments:  # clone(child_stack=NULL, flags=…); without names under -e raw
        if isinstance(value, str) and value.startswith("flags="):
            return value[6:]
    return argument(arguments, 0) or ""


def _fork(world: World, task: Task, call: Call, arguments: list[Value]) -> Fork:
    name = call.name
    if name in ("fork", "vfork"):
        return Fork(task, name, call.begun, name == "vfork", False, False, world.stack(task, *SITES))
    flags = _flags(name, arguments)
    if not flags:
        raise Garbled(f"{name}() without flags")
    shares_mm, thread = flag(flags, "CLONE_VM", 0x100), flag(flags, "CLONE_THREAD", 0x10000)
    stack = () if thread else world.stack(task, *SITES)  # the shim announces processes
    return Fork(task, name, call.begun, shares_mm, flag(flags, "CLONE_FILES", 0x400), thread, stack)


def enter_fork(world: World, task: Task, call: Call) -> None:
    """Entered, not returned: transfers in flight now, and until it returns, run beside it."""
    arguments, _ = parse(call.text)
    try:
        fork = _fork(world, task, call, arguments)
    except Garbled:  # cut off before the flags: nothing is known until it returns
        return
    world.forking_ends(task.pid)
    world.forking[task.pid] = world.childless[task.pid] = fork
    if not fork.shares_mm:
        task.memory.forks += 1
        world.tell(task.memory, fork=True)


def fork(world: World, task: Task, call: Call) -> None:
    """Returned."""
    arguments, rest = parse(call.text)
    child = result(rest)
    begun = world.forking_ends(task.pid)
    begun = begun or (_fork(world, task, call, arguments) if child else None)
    if child is None or child <= 0 or begun is None:
        if begun and not begun.shares_mm and _NO_MEMORY in (rest or ""):
            world.out.append(ForkFailed(world.time, world.line, task.pid, call.name, "ENOMEM", stack=begun.stack))
        task.sites.clear()
        return
    if begun.child == child:
        return
    if begun.child:
        # The task that was taken for its child is somebody else's, or the call's result is of another pid namespace.
        world.lost(task.pid, f"{call.name}() returned {child}, but the task that appeared meanwhile is {begun.child}")
    born(world, begun, child)


def born(world: World, fork: Fork, child: int) -> Task:
    """``fork`` made ``child``: known now, because it appears or because the call has returned."""
    parent = fork.task
    if not fork.shares_mm:
        world.tell(parent.memory, fork=True)
        parent.memory.forked += 1
        if world.shim and not parent.memory.shim:
            world.lost_once(parent, f"the shim is not in {parent.memory.path or 'this program'}: {UNSEEN}")
        if parent.memory.rings and any(f.direct for f in parent.files.table.values()):
            world.lost_once(
                parent, "what was asked of io_uring is not in the trace: direct I/O through it may be in flight"
            )
    fork.child = child
    world.childless.pop(parent.pid, None)
    world.out.append(
        Forked(
            world.time,
            world.line,
            parent.pid,
            child,
            fork.shares_mm,
            fork.thread,
            fork.call,
            fork.line,
            stack=fork.stack,
        )
    )
    memory = parent.memory if fork.shares_mm else _copy(parent.memory)
    files = parent.files if fork.shares_files else world.copy_files(parent.files)
    task = world.add_task(child, memory, files)
    if not fork.thread:
        world.silent.add(child)
    return task


_STATUS = re.compile(r"WEXITSTATUS\(s\) == (\d{1,3})|si_code=CLD_EXITED.*si_status=(\d{1,3})")
_SIGNAL = re.compile(r"WTERMSIG\(s\) == (SIG\w+)|si_code=CLD_(?:KILLED|DUMPED).*si_status=(SIG\w+)")
_CHILD = re.compile(r"si_code=CLD_(?:EXITED|KILLED|DUMPED).*si_pid=(\d{1,9})|si_pid=(\d{1,9}).*si_code=CLD_(?:E|K|D)")
#: Asked to be told of children that go on, and not told what became of this one.
_PERHAPS = re.compile(r"NULL.*\b(?:WUNTRACED|WCONTINUED|WSTOPPED)\b")


def waited(world: World, task: Task, call: Call) -> None:
    """A child that is in no line of the trace, as without -f, has ended if its parent was told so."""
    if not world.silent:
        return
    _, rest = parse(call.text)
    child = result(rest)
    text = call.text
    if call.name == "waitid":
        found = _CHILD.search(text)
        child = int(found[1] or found[2]) if found and child == 0 else None
    elif "WIFSTOPPED" in text or "WIFCONTINUED" in text or _PERHAPS.search(text):
        return
    if child is None or child not in world.silent:
        return
    status, signal = _STATUS.search(text), _SIGNAL.search(text)
    world.remove_task(world.tasks[child])
    code = int(status[1] or status[2]) if status else None
    world.out.append(Exited(world.time, world.line, child, code, (signal[1] or signal[2]) if signal else ""))


def _copy(memory: Memory) -> Memory:
    return Memory(
        brk=memory.brk,
        shim=memory.shim,
        rings=memory.rings,
        path=memory.path,
        env=memory.env,
        looked_at=memory.looked_at,
        libraries=set(memory.libraries),
        attached=dict(memory.attached),
    )


def execve(world: World, task: Task, call: Call) -> None:
    if " = -1 E" in call.text[-120:] and succeeded(call) is None:
        return
    arguments, rest = parse(call.text)
    if result(rest) != 0:
        return
    at = call.name == "execveat"
    path = string(argument(arguments, at))
    if path is None:
        raise Garbled("execve() of something that is no path")
    variables = argument(arguments, 2 + at)
    env: list[tuple[str, str]] = []
    for entry in variables if isinstance(variables, list) else ():
        text = string(entry)
        if text and _ASKED_FOR.match(text):
            name, _, value = text.partition("=")
            env.append((name, value))
    _new_memory(world, task, tuple(env))
    task.memory.path = path
    world.out.append(Execed(world.time, world.line, task.pid, path, tuple(env)))


def _new_memory(world: World, task: Task, env: tuple[tuple[str, str], ...]) -> None:
    """A new memory, a table of descriptors of its own, without those that are closed on exec."""
    if task.files.users > 1:
        files = world.copy_files(task.files)
        world.drop_files(task)
        files.users = 1
        task.files = files
    world.close_on_exec(task)
    world.drop_memory(task.memory)
    task.memory = Memory(users=1, env=env)
    task.sites.clear()
    task.seen_by_shim.clear()


def stranger(world: World, pid: int) -> Task:
    """A task of which only this is known: that it runs."""
    return world.add_task(pid, Memory(), Files())


CALLS = {
    "fork": fork, "vfork": fork, "clone": fork, "clone2": fork, "clone3": fork, "execve": execve, "execveat": execve,
    "wait4": waited, "waitpid": waited, "waitid": waited,
}  # fmt: skip
ENTERED = {"fork": enter_fork, "vfork": enter_fork, "clone": enter_fork, "clone2": enter_fork, "clone3": enter_fork}
