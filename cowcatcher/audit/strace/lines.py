"""One line of strace's output: a call, its second half, a signal, an end, a frame of a stack.

The beginning of a line depends on the options strace was given: ``123  `` (-f -o), ``[pid 123] `` (-f on a terminal),
nothing (one task); a time (-t, -tt, -ttt, -r); the call's number (-n); the instruction pointer (-i). The order is that
of strace's printleader(). All of it is optional here, and may change within a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, TypeAlias

_COMM = r"(?:<[^>]*+>)?"  # --decode-pids=comm
_LINE = re.compile(
    rf"""(?: \[pid\s+(?P<pid>\d{{1,10}}){_COMM}\]\s | (?P<number>\d{{1,8}}){_COMM}\s+ )?
    (?: (?P<clock>\d\d?:\d\d:\d\d(?:\.\d{{1,9}})?) \s+ | (?P<epoch>\d{{9,12}}(?:\.\d{{1,9}})?) \s+ )?
    (?: \(\+ \s* (?P<after>\d{{1,12}}(?:\.\d{{1,9}})?)\)\s+ | \s* (?P<since>\d{{1,8}}\.\d{{1,9}})\s+ )?
    (?: \[\s*\d{{1,5}}\]\s+ )?
    (?: \[[0-9a-f?]{{8,16}}\]\s+ )?
    (?: (?P<call>[a-z_]\w*)\( | <\.\.\.\s(?P<resumed>\w+)\sresumed> | (?P<other>---\s|\+\+\+\s) | (?P<odd>) )""",
    re.VERBOSE,
)
_EPOCH = re.compile(r"\d{9,12}\.\d{1,9}")
_EPOCH = re.compile(r"\d{9,12}\.\d{1,9}")
_UNFINISHED = "<unfinished ...>"
_ATTACHED = re.compile(r"strace: Process (\d{1,10}) (?:attached(?: with \d+ threads)?|detached)\s*$")
_SIGNAL = re.compile(r"(SIG\w+) \{(.*)\} ---$")
_EXITED = re.compile(r"exited with (\d{1,3})(?: \(core dumped\))? \+\+\+$")
_KILLED = re.compile(r"killed by (SIG\w+)(?: \(core dumped\))? \+\+\+$")
_SUPERSEDED = re.compile(r"superseded by execve in pid (\d{1,10})")
#: `` > /lib/x86_64-linux-gnu/libc.so.6(fork+0x54) [0xd9a54]``, with -k; without a symbol: ``/tmp/f() [0x25ee]``.
_FRAME = re.compile(r" > (?P<path>.*?)\((?P<symbol>[^()]*)\) \[0x(?P<at>[0-9a-f]+)\]")
_REMARKS = (" | ", "strace: ", "[ Process PID=", "????", "???", " > ")

#: At most so many calls wait for their second half, and so many characters of them are kept.
MOST_UNFINISHED = 1 << 16
MOST_CHARACTERS = 1 << 26


class Call:
    """``text`` is what follows the opening parenthesis. ``begun`` is the line at which the call was entered.

    ``entered``: only the first half is known yet; the same call comes again, whole, when it is resumed.
    """

    __slots__ = ("begun", "entered", "line", "name", "task", "text", "time")

    def __init__(self, task: int, time: float, line: int, name: str, text: str) -> None:
        self.task, self.time, self.line, self.name, self.text = task, time, line, name, text
        self.begun = line
        self.entered = False


class Signal:
    __slots__ = ("line", "name", "task", "text", "time")

    def __init__(self, task: int, time: float, line: int, name: str, text: str) -> None:
        self.task, self.time, self.line, self.name, self.text = task, time, line, name, text


class End:
    """``superseded``: the task that called execve() goes on under this one's number."""

    __slots__ = ("line", "signal", "status", "superseded", "task", "time")

    def __init__(self, task: int, time: float, line: int) -> None:
        self.task, self.time, self.line = task, time, line
        self.status: int | None = None
        self.signal = ""
        self.superseded = 0


class Frame:
    """A line of a stack, of the call in the line before."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Damaged:
    __slots__ = ("line", "reason", "task", "time")

    def __init__(self, task: int, time: float, line: int, reason: str) -> None:
        self.task, self.time, self.line, self.reason = task, time, line, reason


Record: TypeAlias = Call | Signal | End | Frame | Damaged

#: What the first look does with a call of that name: nothing, take it, or ask about the line.
Looks: TypeAlias = "dict[str, Callable[[str], bool] | Literal[True] | None]"


class Lines:
    """Turns lines into records; ``looks`` says which calls are wanted, and learns the names of those that are not.

    ``alone`` is the task that lines without a number are of. ``broken`` are records of damage that came to light
    beside the one that was returned.
    """

    def __init__(self, looks: Looks, alone: int = 0) -> None:
        self.looks = looks
        self.alone = alone
        self.relative = False
        self.understood = 0
        self.broken: list[Damaged] = []
        self.unfinished: dict[int, Call] = {}
        self._characters = 0
        self._aliases: dict[int, int] = {}
        self._torn: tuple[int, str] | None = None
        self._heads: dict[str, int] = {}
        self._time = 0.0
        self._clock = 0.0
        self._days = 0

    def quick(self, number: int, line: str, start: int, at: int) -> Record | None:
        """parse() for a wanted call whose name is at ``start`` up to ``at``: much the same, in a third of the time."""
        head = line[:start]
        task = self._heads.get(head)
        if task is None:
            pid, _, clock = head.rstrip().rpartition(" ")
            task = self._heads.get(pid.rstrip() + " ")
            if task is None or not _EPOCH.fullmatch(clock):
                return self.parse(number, line)
            self._time = float(clock)
        text = line[at + 1 :].rstrip()
        if self._torn or text.endswith(("...>", "tached")):
            return self.parse(number, line)
        self.understood += 1
        return Call(task, self._time, number, line[start:at], text)

    def parse(self, number: int, line: str, before: str = "") -> Record | None:
        """The record of a line, which follows ``before``; None if there is nothing to say of it. Never raises."""
        line = line.rstrip()
        if line.startswith(" > "):
            return self._frame(line)
        if self._torn:
            number, line = self._mend(number, line)
        if line.endswith(("attached", "detached")) and (remark := _ATTACHED.search(line)):
            # On a terminal strace says so in the middle of the line of the call that made the process.
            if line[: remark.start()].strip():
                self._torn = (number, line[: remark.start()])
            return None
        found = _LINE.match(line)
        assert found is not None  # everything in it is optional
        task = self._task(found)
        time = self._when(found)
        kind = found.lastgroup
        if kind == "call":
            if found["number"]:
                self._learn(found, task)
            return self._call(number, task, time, found["call"], line[found.end() :])
        if kind == "resumed":
            return self._resumed(number, task, time, found["resumed"], line[found.end() :])
        if kind == "other":
            return self._other(number, task, time, line[found.end() :])
        rest = line[found.end() :]
        if not rest or rest.startswith(_REMARKS) or line.startswith(_REMARKS):
            return None
        if _ATTACHED.search(before):  # the rest of a call that nobody asked for, torn apart by strace's own remark
            return None
        return Damaged(task, time, number, f"not a line of strace: {_shown(line)}")

    def _learn(self, found: re.Match[str], task: int) -> None:
        """The beginning of this line, or the part of it that stays the same, for quick()."""
        head = found.string[: found.start("call")]
        if found["epoch"]:
            head = found["number"] + " "
        elif found.end("number") + 1 != found.start("call"):
            return
        if len(self._heads) < MOST_UNFINISHED:
            self._heads[head] = task

    def tick(self, line: str) -> None:
        """Times are differences (-r): every line moves the clock on."""
        found = _LINE.match(line)
        if found and (since := found["since"]):
            self._time += float(since)

    def forget(self, task: int) -> Call | None:
        """The task is gone; returns the call in which it was."""
        call = self.unfinished.pop(task, None)
        if call:
            self._characters -= len(call.text)
        return call

    def _mend(self, number: int, line: str) -> tuple[int, str]:
        """Puts together what a remark of strace tore apart; a line that starts like one stands for itself."""
        assert self._torn is not None
        began, text = self._torn
        self._torn = None
        found = _LINE.match(line)
        if found and found.lastgroup == "odd" and not (found["number"] or found["pid"]):
            return began, text + line
        self.broken.append(Damaged(self.alone, 0.0, began, f"the line breaks off: {_shown(text)}"))
        return number, line

    def _task(self, found: re.Match[str]) -> int:
        written = found["number"] or found["pid"]
        if not written:
            return self.alone
        task = int(written)
        return self._aliases.get(task, task) if self._aliases else task

    def _when(self, found: re.Match[str]) -> float:
        if epoch := found["epoch"]:
            self._time = float(epoch)
        elif clock := found["clock"]:
            hours, minutes, seconds = clock.split(":")
            of_day = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
            if of_day < self._clock - 43200:  # past midnight
                self._days += 1
            self._clock = of_day
            self._time = self._days * 86400 + of_day
        elif since := found["since"]:
            self.relative = True
            self._time += float(since)
        return self._time

    def _call(self, number: int, task: int, time: float, name: str, text: str) -> Record | None:
        look = self.looks.get(name)
        if look is None and len(self.looks) < 4096:
            self.looks[name] = None
        self.understood += 1
        if look is None:
            return None
        call = Call(task, time, number, name, text)
        if text.endswith("...>") and text.endswith((_UNFINISHED, "<detached ...>")):
            call.text = text[: text.rindex("<")].removesuffix(" ")
            call.entered = True
            self._keep(call)
        return call

    def _keep(self, call: Call) -> None:
        if before := self.forget(call.task):
            self._complain(before, "never resumed")
        while len(self.unfinished) >= MOST_UNFINISHED or self._characters + len(call.text) > MOST_CHARACTERS:
            if not self.unfinished:
                break
            oldest = self.forget(next(iter(self.unfinished)))
            assert oldest is not None
            self._complain(oldest, "given up waiting for the call's second half: too many are open")
        self.unfinished[call.task] = call
        self._characters += len(call.text)

    def _complain(self, call: Call, why: str) -> None:
        self.broken.append(Damaged(call.task, call.time, call.line, f"{call.name}(): {why}"))

    def _resumed(self, number: int, task: int, time: float, name: str, text: str) -> Record | None:
        self.understood += 1
        look = self.looks.get(name)
        if look is None and task not in self.unfinished:
            return None
        first = self.unfinished.get(task)
        if first is None and task != self.alone and self._same_task(task, name):
            task, first = self.alone, self.unfinished[self.alone]
        if first is None or first.name != name:
            if look is None or callable(look):
                return None
            return Damaged(task, time, number, f"{name}() is resumed, but where it was entered is not in the trace")
        self.forget(task)
        if first.text.endswith(" "):  # before 5.3 there was a space behind "resumed>"
            text = text.removeprefix(" ")
        call = Call(task, time, number, name, first.text + text)
        call.begun = first.line
        if text.endswith(_UNFINISHED):
            call.text, call.line, call.entered = call.text[: call.text.rindex("<")].removesuffix(" "), first.line, True
            self._keep(call)
            return None
        return call

    def _same_task(self, task: int, name: str) -> bool:
        """On a terminal strace writes numbers only while there are several tasks: this is the one it began with."""
        first = self.unfinished.get(self.alone)
        if first is None or first.name != name or len(self._aliases) >= 1024:
            return False
        self._aliases[task] = self.alone
        self._heads.clear()
        return True

    def _other(self, number: int, task: int, time: float, text: str) -> Record | None:
        self.understood += 1
        if signal := _SIGNAL.match(text):
            return Signal(task, time, number, signal[1], signal[2])
        end = End(task, time, number)
        if exited := _EXITED.match(text):
            end.status = int(exited[1])
        elif killed := _KILLED.match(text):
            end.signal = killed[1]
        elif superseded := _SUPERSEDED.match(text):
            end.superseded = int(superseded[1])
        elif text.startswith(("stopped by", "detached", "SIG")) and text.endswith("---"):
            return None
        else:
            return Damaged(task, time, number, f"neither a signal nor an end: {_shown(text)}")
        return end

    def _frame(self, line: str) -> Record | None:
        found = _FRAME.match(line)
        if not found:
            return None
        library = found["path"].rpartition("/")[2]
        return Frame(f"{library}!{found['symbol']}" if found["symbol"] else f"{library}+0x{found['at']}")


def _shown(text: str) -> str:
    """The beginning of a text that may hold anything."""
    return ascii(text[:60])[1:-1] + ("..." if len(text) > 60 else "")
