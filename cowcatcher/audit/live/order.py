"""What watch.bt prints, made into strace's lines: in order, in whole, and with the ends that a process has.

A buffer for each processor is printed after the other, so lines are sorted by their time; M lines say up to when there
is nothing more to come. What strace would print as one line is one line here: a call that ends before anybody else
says anything has no first and second half.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import quote

_THREAD: Final = 0x10000  # CLONE_THREAD
_GROUP_EXIT: Final = 4  # SIGNAL_GROUP_EXIT
_PRINTF: Final = '{"type": "printf", "data": "'
_MARK: Final = _PRINTF + "M "
_LOST: Final = re.compile(r'\{"type": "lost_events", "data": \{"events": (\d+)\}\}')
#: bpftrace 0.17 takes a byte for a signed number.
_BYTE: Final = re.compile(r"\\u(?:ffffff|00)([0-9a-f]{2})")
_ESCAPES: Final = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-f]{4})')
_LETTERS: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_NAMES: Final = {10: "MADV_DONTFORK", 11: "MADV_DOFORK", 18: "MADV_WIPEONFORK", 19: "MADV_KEEPONFORK"}
_FAILED_ADVICE: Final = re.compile(r"(madvise\(\w+, \d+, )(\d+)(\) = -1)")
_CONTROL: Final = re.compile(r'[\\"\x00-\x1f\x7f]')


class _Said(NamedTuple):
    """A line that may still have to wait. ``number`` keeps those of one time in order."""

    time: int
    number: int
    kind: str
    task: int
    text: str


def text_of(line: str) -> str:
    """The text in bpftrace's JSON line, "" if it is another one."""
    if not line.startswith(_PRINTF):
        return ""
    text = line[len(_PRINTF) : line.rindex('"')].removesuffix("\\n")
    if "\\" not in text:
        return text
    text = _BYTE.sub(lambda found: chr(int(found[1], 16)), text)
    text = _ESCAPES.sub(_unescape, text)
    try:
        return text.encode("latin-1").decode(errors="replace")
    except UnicodeEncodeError:
        return text


def _unescape(found: re.Match[str]) -> str:
    escape = found[0][1:]
    return chr(int(escape[1:], 16)) if escape[0] == "u" else _LETTERS.get(escape, escape)


def _quoted(text: str) -> str:
    return '"' + _CONTROL.sub(lambda found: f"\\{ord(found[0]):03o}", text) + '"'


class Order:
    """Fed with bpftrace's lines from when ``task`` has begun, it gives strace's; ``epoch`` is the time at nsecs 0.

    ``groups``: the processes that live, with their threads.
    """

    def __init__(self, task: int, epoch: float) -> None:
        self.epoch = epoch
        self.groups: dict[int, set[int]] = {task: {task}}
        self.lost = 0
        self._lost_untold = 0
        self._leaders = {task: task}
        self._ended: dict[int, int] = {}  # first threads that have ended before their processes: exit_code
        self._waiting: list[_Said] = []
        self._parts: dict[int, str] = {}
        self._mark = 0
        self._number = 0
        self._begun: tuple[int, str, str] | None = None  # task, head, text of a call that nobody came between yet
        self._open: dict[int, str] = {}  # names of the calls whose first half was printed

    def feed(self, line: str) -> Iterator[str]:
        """strace's lines that are known to be complete and in order now."""
        if line.startswith(_MARK):  # half of all lines, or more
            mark = int(line[len(_MARK) : line.index("\\")])
            if self._waiting or self._lost_untold:
                yield from self._release(mark)
            else:
                self._mark = mark
            return
        text = text_of(line)
        if not text:
            if found := _LOST.match(line):
                self.lost += int(found[1])
                self._lost_untold += int(found[1])
            return
        kind, time, task, rest = (*text.split(" ", 3), "")[:4]
        self._wait(kind, int(time), int(task), rest)

    def _wait(self, kind: str, time: int, task: int, text: str) -> None:
        if kind in ("P", "W"):
            self._parts[task] = self._parts.get(task, "") + text
            return
        if task in self._parts and kind in ("L", "R", "V"):
            text = self._parts.pop(task) + text
        self._number += 1
        self._waiting.append(_Said(time, self._number, kind, task, text))

    def _release(self, mark: int) -> Iterator[str]:
        self._mark, before = mark, self._mark
        if self._lost_untold:
            yield self._told_lost(f"bpftrace lost {self._lost_untold} lines: its buffers were full", before)
            self._lost_untold = 0
        self._waiting.sort()
        done = 0
        for said in self._waiting:
            if said.time > before:
                break
            done += 1
            yield from self._say(said)
        del self._waiting[:done]

    def rest(self, why: str) -> Iterator[str]:
        """bpftrace has ended, and should not have."""
        yield from self._release(self._mark)
        self._mark = 1 << 64
        yield from self._release(self._mark)
        yield self._told_lost(why, 0)

    def _told_lost(self, why: str, time: int) -> str:
        """As the shim says it."""
        task = next((t for threads in self.groups.values() for t in threads), next(iter(self._leaders), 0))
        return f'{self._head(task, time)}mq_unlink("/cowcatcher:lost why={quote(why)}") = -1 ENOENT (lost)\n'

    def keep(self, lives: set[int]) -> None:
        """After losses: only these processes are still there."""
        for leader in list(self.groups):
            if leader not in lives:
                for task in self.groups.pop(leader) | {leader}:
                    self._leaders.pop(task, None)
                self._ended.pop(leader, None)

    # --- one line -----------------------------------------------------------------------------------------------------

    def _head(self, task: int, time: int) -> str:
        return f"{task} {self.epoch + time / 1e9:.6f} "

    def _say(self, said: _Said) -> Iterator[str]:
        kind, task = said.kind, said.task
        if task not in self._leaders:  # the line that told of it is lost
            self._leaders[task] = task
            self.groups.setdefault(task, set()).add(task)
        head = self._head(task, said.time)
        ends = kind in ("R", "N")
        if ends:
            yield from self._second_half(said, head)
        else:
            yield from self._failed_fork(task, head)
            if self._begun:
                yield from self._first_half()
        if kind in ("F", "U"):
            self._begun = task, head, said.text
        elif kind == "L":
            yield f"{head}{self._named(said.text)}\n"
        elif kind == "V":
            yield f"{head}mq_unlink({_quoted(said.text)}) = -1 ENOENT (a word)\n"
        elif kind == "N":
            self._new(task, said.text)
        elif kind == "E":
            yield from self._exec(said, head)
        elif kind == "X":
            yield from self._exit(said, head)

    def _named(self, text: str) -> str:
        """What madvise() was to do where it failed: the reader goes by the name."""
        if not text.endswith("memory)"):
            return text
        return _FAILED_ADVICE.sub(lambda found: found[1] + _NAMES.get(int(found[2]), found[2]) + found[3], text)

    def _first_half(self) -> Iterator[str]:
        assert self._begun
        task, head, text = self._begun
        self._begun = None
        self._open[task] = text.partition("(")[0]
        yield f"{head}{text} <unfinished ...>\n"

    def _second_half(self, said: _Said, head: str) -> Iterator[str]:
        """Of a call that was begun, or all of it."""
        if self._begun and self._begun[0] != said.task:
            yield from self._first_half()
        if self._begun:
            _, began, text = self._begun
            self._begun = None
            yield f"{began}{text}{self._rest(text.partition('(')[0], said)}\n"
        elif name := self._open.pop(said.task, ""):
            yield f"{head}<... {name} resumed>{self._rest(name, said)}\n"

    def _rest(self, name: str, said: _Said) -> str:
        if said.kind == "R":
            return said.text
        return f"{', 88' if name == 'clone3' else ''}) = {said.text.partition(' ')[0]}"

    def _failed_fork(self, task: int, head: str) -> Iterator[str]:
        """It does something else, and no child has come of the fork that it had begun."""
        failed = ") = -1 EAGAIN (no child)\n"
        if self._begun and self._begun[0] == task:
            _, began, text = self._begun
            self._begun = None
            yield began + text + failed
        elif name := self._open.pop(task, ""):
            yield f"{head}<... {name} resumed>{failed}"

    # --- who lives ----------------------------------------------------------------------------------------------------

    def _new(self, task: int, text: str) -> None:
        child, flags = map(int, text.split(" "))
        leader = self._leaders[task] if flags & _THREAD else child
        self._leaders[child] = leader
        self.groups.setdefault(leader, set()).add(child)

    def _exec(self, said: _Said, head: str) -> Iterator[str]:
        old, _, path = said.text.partition(" ")
        if int(old) != said.task:
            self._leaders.pop(int(old), None)
            self._ended.pop(said.task, None)
            yield f"{head}+++ superseded by execve in pid {old} +++\n"
        self.groups[said.task] = {said.task}
        yield f"{head}execve({_quoted(path)}, [], 0) = 0\n"

    def _exit(self, said: _Said, head: str) -> Iterator[str]:
        """The first thread's end is the process's, when the last of the others has gone: as wait() has it."""
        task = said.task
        code, flags, of_group = map(int, said.text.split(" "))
        leader = self._leaders[task]
        threads = self.groups.get(leader, set())
        threads.discard(task)
        self._open.pop(task, None)
        self._parts.pop(task, None)
        if task == leader and threads:
            self._ended[task] = code
            return
        del self._leaders[task]
        yield f"{head}{_end(code)}\n"
        if threads:
            return
        self.groups.pop(leader, None)
        if task != leader and leader in self._ended:
            code = self._ended.pop(leader)
            self._leaders.pop(leader, None)
            yield f"{self._head(leader, said.time)}{_end(of_group if flags & _GROUP_EXIT else code)}\n"


def _end(code: int) -> str:
    """From task_struct's exit_code."""
    number = code & 0x7F
    if not number:
        return f"+++ exited with {code >> 8 & 0xFF} +++"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"SIGRT_{number - 32}"
    return f"+++ killed by {name}{' (core dumped)' if code & 0x80 else ''} +++"
