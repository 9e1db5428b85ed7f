"""What happened to one page: a case's events as acts of processes, told as the litmus language tells them.

Addresses, handles, threads and everything else that is not about the page end here. What the language has no word for
is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from cowcatcher.audit.events import (
    PAGE,
    Advised,
    Event,
    Execed,
    Exited,
    Forked,
    Freed,
    HugePages,
    Mapped,
    Moved,
    OpenedDirect,
    Overwritten,
    Pinned,
    Protected,
    Range,
    Signalled,
    Unmapped,
    Unpinned,
)
from cowcatcher.audit.finding import Case
from cowcatcher.litmus.statements import ADVICES


class CannotDerive(Exception):
    """No test can be made of the case; ``reason`` names what cannot be written down."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Act:
    """Something that ``process`` did to the page, or to itself.

    ``op`` is a statement's, or "touch" (an access that ended in a signal), "freed" (by the program's own allocator) or
    "overwritten". ``word`` is what it names: an advice, a protection, a child, a pin. ``event`` is the place among the
    case's events. ``beside`` is what another thread of the process did while this fork was under way.
    """

    process: str
    op: str
    event: int
    word: str = ""
    pinned: Pinned | None = None
    filesystem: str = ""
    beside: tuple[Act, ...] = ()


@dataclass(slots=True)
class PageStory:
    """The page's memory as it was when the story begins, the process that it begins in, and what happened then."""

    kind: str = "anon"
    place: str = ""  # as the kernel names it: [heap], [stack], a path
    prot: str = "RW"
    huge: bool = False
    perhaps_huge: bool = False  # MADV_HUGEPAGE was said, and nobody looked what came of it
    root: str = ""
    mapped: int | None = None  # the event that made it, if the case has that
    acts: list[Act] = field(default_factory=list)


def page_story(case: Case) -> PageStory:
    """Raises CannotDerive."""
    return _Reader(case).read()


#: Advice that changes nothing of what a test could ask for.
_HARMLESS: Final = frozenset(
    {"NORMAL", "RANDOM", "SEQUENTIAL", "WILLNEED", "COLD", "DODUMP", "DONTDUMP", "NOHUGEPAGE", "HUGEPAGE"}
)
_NFS: Final = ("nfs",)
_FUSE: Final = ("fuse", "virtiofs")
#: Direct I/O of these takes its references in code that is not modelled, or takes none.
_OTHER_WAYS: Final = ("ceph", "cifs", "smb", "9p", "v9fs", "afs", "tmpfs", "ramfs", "hugetlbfs")
#: Words of a pin's detail that are about how, not about where.
_MEANS: Final = ("libaio", "io_uring")
_BLOCK: Final = re.compile(
    r"/dev/(?:(?:sd|hd|vd|xvd)[a-z]|nvme\d+n\d|(?:dm-|md|loop|nbd|zram|ram|pmem|mmcblk|sr)\d|(?:mapper|disk)/[^/])"
)
_TRANSFERS: Final = ("dio_read", "dio_write")


@dataclass(slots=True)
class _Process:
    """One life of a process; a name may have several, as ids come again."""

    name: str
    page: int | None  # where the page is; None: it has not got it any more
    dontfork: bool = False


class _Reader:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.events = case.events
        self.story = PageStory(root=_root(case))
        self.alive: dict[str, _Process] = {self.story.root: _Process(self.story.root, case.page.start)}
        self.lives: dict[str, int] = {self.story.root: 1}
        self.pins: dict[str, str] = {}  # handle -> the name of the pin that is held
        self.taken = 0
        self.opened: dict[tuple[str, int], str] = {}
        self.out: list[Act] = self.story.acts
        self.done: set[int] = set()
        self.beside = {
            i: _during(case, i, event)
            for i, event in enumerate(self.events)
            if isinstance(event, Forked) and event.begun
        }
        self.coming: dict[str, list[int]] = {}
        for i, event in enumerate(self.events):
            if isinstance(event, Forked) and is_copy(event):
                self.coming.setdefault(self.name_of(event.child), []).append(i)
        self.last_words = _last_words(case)

    def name_of(self, task: int) -> str:
        return self.case.processes.get(task, f"task {task}")

    def read(self) -> PageStory:
        later = {i for during in self.beside.values() for i in during}
        for i, event in enumerate(self.events):
            if i in self.done or i in later:
                continue
            self.born(i, self.name_of(event.task))
            self.event(i, event)
        return self.story

    def born(self, now: int, name: str) -> None:
        """A child may be seen to act before its parent is seen to have come back from the fork."""
        ahead = [i for i in self.coming.get(name, ()) if i > now and i not in self.done]
        if name not in self.alive and ahead:
            fork = self.events[ahead[0]]
            self.done.add(ahead[0])  # whoever made it is not made by it
            self.born(now, self.name_of(fork.task))
            self.event(ahead[0], fork)

    # --- one event ------------------------------------------------------------------------------------------------

    def event(self, i: int, event: Event) -> None:
        self.done.add(i)
        if isinstance(event, OpenedDirect):
            self.opened[self.name_of(event.task), event.fd] = event.filesystem
            return
        if isinstance(event, HugePages):
            self.huge_pages(event)
            return
        who = self.alive.get(self.name_of(event.task))
        if who is None:
            return
        match event:
            case Forked():
                self.fork(i, event, who)
            case Execed():
                self.execed(i, who)
            case Exited():
                self.exited(i, who)
            case _:
                self.on_the_page(i, event, who)

    def on_the_page(self, i: int, event: Event, who: _Process) -> None:
        match event:
            case Mapped():
                self.mapped(i, event, who)
            case Unmapped() if self.meets(who, event.range):
                self.add(i, who, "munmap")
                who.page = None
            case Moved():
                self.moved(i, event, who)
            case Protected() if self.meets(who, event.range):
                self.add(i, who, "mprotect", _protection(event.prot))
            case Advised() if self.meets(who, event.range):
                self.advised(i, event, who)
            case Signalled() if self.meets(who, Range(event.address, event.address + 1), whole=False):
                self.add(i, who, "touch", self.part_at(event.address - (who.page or 0)))
            case Freed() if self.meets(who, event.range, whole=False):
                self.add(i, who, "freed")
            case Overwritten() if event.handle in self.pins:
                self.add(i, who, "overwritten", self.pins[event.handle])
            case Pinned() if any(self.meets(who, r, whole=False) for r in event.ranges):
                self.pinned(i, event, who)
            case Unpinned() if event.handle in self.pins:
                self.add(i, who, "unpin", self.pins.pop(event.handle))

    def add(self, i: int, who: _Process, op: str, word: str = "") -> None:
        self.out.append(Act(who.name, op, i, word))

    def meets(self, who: _Process, there: Range, whole: bool = True) -> bool:
        """Is the page touched? ``whole``: the kernel goes by pages here."""
        if who.page is None:
            return False
        there = there.pages() if whole else there
        return there.overlap(Range(who.page, who.page + self.case.page.size)) is not None

    def part_at(self, offset: int) -> str:
        pinned = self.case.pinned
        return "pinned" if pinned.start <= self.case.page.start + offset < pinned.end else "neighbour"

    # --- tasks ----------------------------------------------------------------------------------------------------

    def fork(self, i: int, event: Forked, who: _Process) -> None:
        name = self.name_of(event.child)
        if not is_copy(event) or who.page is None or name in (self.name_of(event.task), self.story.root):
            return
        self.lives[name] = self.lives.get(name, 0) + 1
        life = name if self.lives[name] == 1 else f"{name} #{self.lives[name]}"
        during = self.beside.get(i, ())
        ends = [other for other in during if isinstance(self.events[other], Unpinned)]
        before, self.out = self.out, []
        for other in during:
            if other not in ends:
                self.event(other, self.events[other])
        beside, self.out = tuple(self.out), before
        self.alive[name] = _Process(life, who.page, who.dontfork)
        self.out.append(Act(who.name, "fork", i, life, beside=beside))
        for other in ends:  # what was held while the fork began is held by it
            self.event(other, self.events[other])

    def execed(self, i: int, who: _Process) -> None:
        if who.name == self.story.root and not self.is_end(i):
            self.afresh()
        else:
            self.add(i, who, "exec")
            del self.alive[self.name_of(self.events[i].task)]  # nothing that it does from now on is about this page

    def is_end(self, i: int) -> bool:
        """Does the story end with this exec: something was pinned before it, or copied by fork, and nothing after?"""
        root = self.story.root
        later = any(isinstance(e, Pinned) and self.name_of(e.task) == root for e in self.events[i + 1 :])
        return not later and (self.taken > 0 or len(self.alive) > 1)

    def exited(self, i: int, who: _Process) -> None:
        """The end of a thread is no end of its process, as long as others of it are seen to go on."""
        if who.name == self.story.root or i not in self.last_words:
            return
        self.add(i, who, "exit")
        del self.alive[self.name_of(self.events[i].task)]

    def afresh(self) -> None:
        """Nothing of what was before is there any more: the story begins here."""
        self.out.clear()
        root = self.alive[self.story.root]
        self.alive = {self.story.root: root}
        root.page, root.dontfork = self.case.page.start, False
        self.pins.clear()

    # --- mappings -------------------------------------------------------------------------------------------------

    def mapped(self, i: int, event: Mapped, who: _Process) -> None:
        root = who.name == self.story.root
        home = who.page if who.page is not None or not root else self.case.page.start
        if home is None or event.range.overlap(Range(home, home + self.case.page.size)) is None:
            return
        if root and not self.pins:
            self.afresh()
            self.describe(i, event, who)
        elif who.page is not None and self.same_again(event) and root:
            if who.dontfork:
                self.add(i, who, "madvise", "DOFORK")
                who.dontfork = False
            self.add(i, who, "madvise", "DONTNEED")
        elif who.page is not None:
            self.add(i, who, "munmap")
            who.page = None

    def same_again(self, event: Mapped) -> bool:
        """New private anonymous memory in place of old is what MADV_DONTNEED leaves."""
        return self.story.kind == _kind(event) == "anon"

    def describe(self, i: int, event: Mapped, who: _Process) -> None:
        self.story.kind, self.story.place, self.story.prot = _kind(event), event.what, "RW"
        self.story.mapped = i
        protection = _protection(event.prot)
        if protection == "R":
            self.story.prot = "R"
        elif protection == "NONE":
            self.add(i, who, "mprotect", "NONE")

    def huge_pages(self, event: HugePages) -> None:
        if event.bytes and event.range.overlap(self.case.page) is not None:
            if not event.hugetlb:
                self.story.huge = True
            elif not self.story.kind.startswith("hugetlb"):
                self.story.kind = "hugetlb" if self.story.kind.startswith("shared") else "hugetlb_private"

    def moved(self, i: int, event: Moved, who: _Process) -> None:
        if self.meets(who, event.old):
            if event.keeps:
                raise CannotDerive("mremap() with MREMAP_DONTUNMAP")
            assert who.page is not None
            self.add(i, who, "mremap")
            who.page += event.new.start - event.old.start
        elif self.meets(who, event.new):
            self.add(i, who, "munmap")
            who.page = None

    def advised(self, i: int, event: Advised, who: _Process) -> None:
        advice = event.advice.removeprefix("MADV_")
        self.story.perhaps_huge |= advice == "HUGEPAGE"
        if advice in _HARMLESS:
            return
        if advice not in ADVICES:
            raise CannotDerive(f"madvise(MADV_{advice})")
        if advice in ("DONTFORK", "DOFORK"):
            who.dontfork = advice == "DONTFORK"
        self.add(i, who, "madvise", advice)

    # --- pins -----------------------------------------------------------------------------------------------------

    def pinned(self, i: int, event: Pinned, who: _Process) -> None:
        if event.interface == "msg_zerocopy":
            raise CannotDerive("send() with MSG_ZEROCOPY: the language has no sockets")
        self.taken += 1
        name = f"{event.handle} #{self.taken}"
        self.pins[event.handle] = name
        filesystem = self.filesystem_of(event) if event.interface in _TRANSFERS else ""
        self.out.append(Act(who.name, event.interface, i, name, pinned=event, filesystem=filesystem))

    def filesystem_of(self, event: Pinned) -> str:
        """As the language knows it; "" where nobody said, neither behind the path nor when the file was opened."""
        words = [word.strip().lower() for word in event.detail.split(",")]
        number = words[0].removeprefix("fd ")
        opened = self.opened.get((self.name_of(event.task), int(number)), "") if number.isdecimal() else ""
        known = [opened.lower(), *words[2:]]
        if other := next((word for word in known if word.startswith(_OTHER_WAYS)), None):
            raise CannotDerive(f"direct I/O of {other}")
        if any(word.startswith(_NFS) for word in known):
            return "NFS"
        if any(word.startswith(_FUSE) for word in known):
            return "FUSE"
        if len(words) > 1 and is_block_device(words[1]):
            return "BLOCK"
        return "BLOCK" if any(word and word not in _MEANS for word in known) else ""


def is_block_device(path: str) -> bool:
    """By its usual name: there is no filesystem between."""
    return _BLOCK.match(path) is not None


def is_copy(event: Forked) -> bool:
    """Does the child get memory of its own?"""
    return not event.shares_mm and not event.thread


def _root(case: Case) -> str:
    """The owner, or the first of its ancestors that the case has: the memory is there, in the test, from the start."""
    parent = {
        case.processes.get(e.child): case.processes.get(e.task)
        for e in case.events
        if isinstance(e, Forked) and is_copy(e)
    }
    name, seen = case.owner, {case.owner}
    while (above := parent.get(name)) is not None and above not in seen:
        name = above
        seen.add(name)
    return name


def _during(case: Case, fork: int, event: Forked) -> tuple[int, ...]:
    """What other threads of the process did to its memory while it forked."""
    process = case.processes.get(event.task)
    found = []
    for i in reversed(range(fork)):
        other = case.events[i]
        if 0 < other.line <= event.begun:
            break
        own = other.task != event.task and case.processes.get(other.task) == process
        if own and isinstance(other, Pinned | Unpinned | Advised | Protected) and other.line:
            found.append(i)
    return tuple(reversed(found))


def _last_words(case: Case) -> frozenset[int]:
    """The events behind which nothing more is heard of their process, in this life of it."""
    spoken = set[str]()
    found = set[int]()
    for i in reversed(range(len(case.events))):
        event = case.events[i]
        if isinstance(event, Forked) and is_copy(event):
            spoken.discard(case.processes.get(event.child, ""))
        name = case.processes.get(event.task, "")
        if name not in spoken:
            found.add(i)
            spoken.add(name)
    return frozenset(found)


def _kind(event: Mapped) -> str:
    if event.page > PAGE:
        return "hugetlb_private" if event.private else "hugetlb"
    if event.anonymous:
        return "anon" if event.private else "shared_anon"
    if event.private:
        return "file_private"
    return "memfd" if event.what.startswith(("memfd:", "/memfd:")) else "file_shared"


def _protection(prot: str) -> str:
    """On most machines what may be written may be read."""
    return "RW" if "w" in prot else "R" if "r" in prot or "x" in prot else "NONE"


def flattened(acts: Iterable[Act]) -> Iterator[Act]:
    for act in acts:
        yield replace(act, beside=()) if act.beside else act
        yield from act.beside
