"""What the actors of a hunt may do: statements of the language by letter, letters by group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cowcatcher.litmus.ast import Actor, Arg, Flags, Mapping, Name, Number, Place, Statement

#: What a hunt calls its actors and its memory.
PROCESSES = ("p", "q", "r")
THREADS = ("t", "u")
MEMORY, DEVICE, PIN = "x", "d", "m"
#: Values that tell who stored them: memory begins as 1.
STORED = {"p": 2, "q": 3, "r": 4, "t": 5, "u": 6, DEVICE: 7}


class UnknownLetter(Exception):
    """No such letter or group; the message says which there are."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One thing that an actor may do. ``who``: "task" (any process or thread), "device", "kernel".

    ``takes_pin`` letters come once for each handle, and need pages to name: the whole of the memory.
    """

    name: str
    op: str
    args: tuple[str, ...] = ()
    who: str = "task"
    takes_pin: bool = False
    whole: bool = False  # on the whole mapping rather than on each page

    @property
    def text(self) -> str:
        return f"{self.op}({', '.join(self.args)})"


def _pin(name: str, op: str, *args: str) -> Letter:
    return Letter(name, op, ("x", *args), takes_pin=True)


LETTERS: tuple[Letter, ...] = (
    Letter("load", "load", ("x",)),
    Letter("store", "store", ("x", "VALUE")),
    Letter("fork", "fork", ("CHILD",)),
    Letter("vfork", "vfork", ("CHILD",)),
    Letter("exit", "exit"),
    Letter("exec", "exec"),
    _pin("pin", "pin", "WRITE|LONGTERM"),
    _pin("pin_short", "pin", "WRITE"),
    _pin("pin_fast", "pin", "WRITE|LONGTERM|FAST"),
    _pin("pin_read", "pin", "READ|LONGTERM"),
    _pin("pin_read_fast", "pin", "READ|LONGTERM|FAST"),
    _pin("get", "get", "WRITE"),
    _pin("get_read", "get", "READ"),
    _pin("reg_mr", "ibv_reg_mr"),
    _pin("fixed", "io_uring_register"),
    _pin("vfio", "vfio_map"),
    _pin("umem", "xdp_umem"),
    _pin("vmsplice", "vmsplice"),
    _pin("dio_read", "dio_read"),
    _pin("dio_write", "dio_write"),
    _pin("nfs_read", "dio_read", "NFS"),
    Letter("unpin", "unpin", ("m",)),
    Letter("dma_read", "dma_read", ("m",), "device"),
    Letter("dma_write", "dma_write", ("m", "VALUE"), "device"),
    Letter("munmap", "munmap", ("x",)),
    Letter("mremap", "mremap", ("x",), whole=True),
    Letter("mlock", "mlock", ("x",)),
    Letter("protect_none", "mprotect", ("x", "NONE")),
    Letter("protect", "mprotect", ("x", "R")),
    Letter("unprotect", "mprotect", ("x", "RW")),
    Letter("clear_refs", "clear_refs"),
    Letter("uffd_wp", "uffd_wp", ("x",)),
    Letter("uffd_wp_resolve", "uffd_wp_resolve", ("x",)),
    Letter("dontfork", "madvise", ("x", "DONTFORK")),
    Letter("dofork", "madvise", ("x", "DOFORK")),
    Letter("wipeonfork", "madvise", ("x", "WIPEONFORK")),
    Letter("dontneed", "madvise", ("x", "DONTNEED")),
    Letter("free", "madvise", ("x", "FREE")),
    Letter("pageout", "madvise", ("x", "PAGEOUT")),
    Letter("populate", "madvise", ("x", "POPULATE_WRITE")),
    Letter("peek", "peek", ("OTHER", "x")),
    Letter("poke", "poke", ("OTHER", "x", "VALUE")),
    Letter("vm_read", "process_vm_readv", ("OTHER", "x")),
    Letter("vm_write", "process_vm_writev", ("OTHER", "x", "VALUE")),
    Letter("reclaim", "reclaim", ("x",), "kernel"),
)

BY_NAME = {letter.name: letter for letter in LETTERS}

GROUPS: dict[str, tuple[str, ...]] = {
    "pins": ("load", "store", "fork", "exit", "pin", "unpin", "dma_read", "dma_write"),
    "reads": ("pin_read", "get_read"),
    "fast": ("pin_fast", "pin_read_fast"),
    "interfaces": ("reg_mr", "fixed", "vfio", "umem", "vmsplice", "dio_read", "dio_write", "nfs_read"),
    "swap": ("pageout", "reclaim"),
    "protection": ("protect", "unprotect", "clear_refs", "uffd_wp", "uffd_wp_resolve"),
    "advice": ("dontfork", "dofork", "wipeonfork", "dontneed", "free"),
    "mapping": ("munmap", "mremap", "mlock", "populate"),
    "remote": ("peek", "poke", "vm_read", "vm_write"),
    "more": ("vfork", "exec", "pin_short", "get", "protect_none"),
}


def letters_of(text: str) -> tuple[Letter, ...]:
    """The letters that ``text`` names: letters and groups, joined by commas, each once, ``-NAME`` to leave one out.

    ``all`` is every letter. Raises UnknownLetter.
    """
    wanted: dict[str, Letter] = {}
    for word in filter(None, (w.strip() for w in text.split(","))):
        name = word.removeprefix("-")
        names = GROUPS.get(name, (name,)) if name != "all" else tuple(BY_NAME)
        for one in names:
            if one not in BY_NAME:
                raise UnknownLetter(_unknown(one))
            if word.startswith("-"):
                wanted.pop(one, None)
            else:
                wanted[one] = BY_NAME[one]
    if not wanted:
        raise UnknownLetter("an alphabet needs at least one letter")
    return tuple(letter for letter in LETTERS if letter.name in wanted)


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, [*BY_NAME, *GROUPS], 1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"there is no letter or group '{name}'{hint}\ngroups: {', '.join(GROUPS)}\nletters: {', '.join(BY_NAME)}"


# --- letters become statements ----------------------------------------------------------------------------------------


ANON = Mapping(MEMORY, "anon", (("", 1),))


@dataclass(frozen=True, slots=True)
class Size:
    """How large a hunt's programs may be. ``depth`` is the number of statements of all actors together."""

    processes: int = 2
    pages: int = 1
    pins: int = 1
    threads: int = 0  # further threads of the first process
    depth: int = 5
    memory: Mapping = ANON


@dataclass(frozen=True, slots=True)
class Repertoire:
    """What one actor may do: its statements, and the letter that each stands for."""

    kind: Literal["process", "thread", "device", "kernel"]
    name: str
    process: str
    letters: tuple[Letter, ...]
    statements: tuple[Statement, ...]

    @property
    def actor(self) -> Actor:
        assert self.kind != "kernel"
        return Actor(self.kind, self.name, self.process, self.statements)


def repertoires(letters: Sequence[Letter], size: Size) -> tuple[Repertoire, ...]:
    """Everybody of a hunt, in the order of the model's tasks: processes, threads, device, and the kernel's own."""
    names = PROCESSES[: size.processes]
    found = [_repertoire("process", n, n, letters, size, names) for n in names]
    found += [_repertoire("thread", n, names[0], letters, size, names) for n in THREADS[: size.threads]]
    device = _repertoire("device", DEVICE, "", letters, size, names)
    if device.statements:
        found.append(device)
    found += [
        Repertoire("kernel", f"kernel {letter.op}", "", (letter,) * size.processes * size.pages, ())
        for letter in letters
        if letter.who == "kernel"
    ]
    return tuple(found)


def _repertoire(
    kind: Literal["process", "thread", "device"],
    name: str,
    process: str,
    letters: Sequence[Letter],
    size: Size,
    names: Sequence[str],
) -> Repertoire:
    both = list(_statements(letters, size, name, names))
    return Repertoire(kind, name, process, tuple(letter for letter, _ in both), tuple(s for _, s in both))


def memory_of(size: Size) -> tuple[Mapping, ...]:
    return (replace(size.memory, pages=size.pages),)


def _statements(
    letters: Iterable[Letter], size: Size, actor: str, names: Sequence[str]
) -> Iterable[tuple[Letter, Statement]]:
    for letter in letters:
        if (actor == DEVICE) != (letter.who == "device") or letter.who == "kernel":
            continue
        for handle in range(size.pins) if letter.takes_pin or "m" in letter.args else (0,):
            pin = PIN if size.pins == 1 else f"{PIN}{handle}"
            for place in _places(letter, size, pin):
                for other in _others(letter, actor, names):
                    args = tuple(_arg(a, place, pin, other, actor) for a in letter.args)
                    yield letter, Statement(letter.op, args, pin if letter.takes_pin else None)


def _places(letter: Letter, size: Size, pin: str) -> Iterable[Place | None]:
    """The pages that it is about: each, or the whole mapping for a pin and for what moves a mapping."""
    if letter.who == "device":
        return [Place(pin, i if size.pages > 1 else None) for i in range(size.pages)]
    if "x" not in letter.args:
        return [None]
    if size.pages == 1 or letter.takes_pin or letter.whole:
        return [Place(MEMORY)]
    return [Place(MEMORY, i) for i in range(size.pages)]


def _others(letter: Letter, actor: str, names: Sequence[str]) -> Iterable[str]:
    if "CHILD" in letter.args:
        return [n for n in names[1:] if n != actor]
    if "OTHER" in letter.args:
        return [n for n in names if n != actor]
    return [""]


def _arg(word: str, place: Place | None, pin: str, other: str, actor: str) -> Arg:
    if word in ("x", "m"):
        return place if place is not None else Place(pin)
    if word == "VALUE":
        return Number(STORED[actor])
    if word in ("CHILD", "OTHER"):
        return Name(other)
    return Flags(tuple(word.split("|"))) if word.split("|")[0] in ("READ", "WRITE") else Name(word)
