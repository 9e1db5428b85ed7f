"""Acts written down as actors of a test, in the order of the trace; each line remembers where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from cowcatcher.audit.acts import Act, CannotDerive, PageStory
from cowcatcher.audit.events import Interface, Pinned
from cowcatcher.audit.finding import Case
from cowcatcher.litmus.ast import Actor, Arg, Mapping, Name, Number, Place, Span, Statement

BUFFER: Final = 1  # what the page holds at first
NEIGHBOUR: Final = 5


@dataclass(slots=True)
class Item:
    """A statement in the making. ``event`` is its place in the case, -1 for what was added; ``note`` says why.

    ``order``: it is there only to keep the trace's order, with the event it stands before or behind.
    """

    op: str
    args: tuple[Arg, ...] = ()
    target: str | None = None
    event: int = -1
    note: str = ""
    order: bool = False
    act: Act | None = None

    @property
    def is_statement(self) -> bool:
        return self.op not in _ANCHORS


_SMALL_PAGES: Final = "MADV_HUGEPAGE is in force, and whether the pages are huge was not seen: taken for small ones"
SOME_FILE: Final = "the filesystem was not seen: taken for one on a block device"
#: Acts that no statement stands for: something is put in beside them.
_ANCHORS: Final = ("touch", "freed", "overwritten", "process_vm", "over")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a statement comes from: the place of its event in the case, or why it was added (or both)."""

    event: int | None
    note: str = ""


@dataclass(slots=True)
class Body:
    kind: str
    name: str
    process: str
    items: list[Item] = field(default_factory=list)
    iommu: bool = False


@dataclass(frozen=True, slots=True)
class Pin:
    """A pin as the test has it: who took it, what it is called, what it can do."""

    name: str
    owner: str
    interface: Interface
    writes: bool
    filesystem: str
    act: Act

    @property
    def device(self) -> str:
        if self.interface in ("dio_read", "dio_write"):
            return {"NFS": "server", "FUSE": "daemon"}.get(self.filesystem, "disk")
        return {"io_uring_register": "ring", "vfio_map": "pci", "vmsplice": "reader"}.get(self.interface, "nic")

    @property
    def transfer(self) -> bool:
        """It is over by itself; meanwhile the owner is to leave the buffer alone."""
        return self.interface in ("dio_read", "dio_write", "vmsplice", "process_vm")


_PIN_NAMES: Final = {
    "ibv_reg_mr": "mr", "odp_reg_mr": "mr", "io_uring_register": "fixed", "vfio_map": "iova", "xdp_umem": "umem",
    "vmsplice": "pipe", "dio_read": "io", "dio_write": "io", "process_vm": "copy",
}  # fmt: skip


class Draft:
    """Bodies of actors by name, the memory, and the pins; questions put in what they assume."""

    def __init__(self, case: Case, story: PageStory, acts: Sequence[Act], some_file: str = "") -> None:
        """``some_file``: the filesystem of those that nobody told of."""
        self.case, self.story = case, story
        self.some_file = some_file
        self.whole = case.pinned.start <= case.page.start and case.pinned.end >= case.page.end
        self.memory = self._mapping()
        self.bodies: dict[str, Body] = {}
        self.called: dict[str, str] = {}  # process of the case -> actor
        self.forked_by: dict[str, str] = {}
        self.pins: dict[str, Pin] = {}  # by the act's word
        self.held = set[str]()
        self.guessed: list[str] = []  # what nobody saw and the test has to say
        if story.perhaps_huge and not story.huge:
            self.guessed.append(_SMALL_PAGES)
        self.further = False  # does it take a step that the trace has not, and that is not what a pin is for?
        self.events = 0
        self.last: tuple[str, Item] | None = None
        self.ended: dict[str, list[str]] = {}  # parent -> children that have ended and were not waited for
        self._begin(story.root, "")
        for act in acts:
            self._write(act)

    def _mapping(self) -> Mapping:
        cells = (("", BUFFER),) if self.whole else (("buffer", BUFFER), ("neighbour", NEIGHBOUR))
        flags = ("thp",) if self.story.huge and not self.story.kind.startswith("hugetlb") else ()
        name = "buf" if self.whole else {"[heap]": "heap", "[stack]": "stack"}.get(self.story.place, "page")
        return Mapping(name, self.story.kind, cells, prot="R" if self.story.prot == "R" else "RW", flags=flags)

    # --- names ----------------------------------------------------------------------------------------------------

    @property
    def page(self) -> Place:
        return Place(self.memory.name)

    @property
    def buffer(self) -> Place:
        return self.page if self.whole else Place(self.memory.name, cell="buffer")

    @property
    def neighbour(self) -> Place:
        return Place(self.memory.name, cell="neighbour")

    def through(self, pin: Pin) -> Place:
        """The buffer, as the device reaches it."""
        return Place(pin.name) if self.whole else Place(pin.name, cell="buffer")

    @property
    def private(self) -> bool:
        return self.story.kind in ("anon", "file_private", "hugetlb_private")

    def owner(self) -> Body:
        found = self.called.get(self.case.owner)
        if found is None:
            raise CannotDerive(f"{self.case.owner} does nothing to the page that a test could show")
        return self.bodies[found]

    def _begin(self, process: str, parent: str) -> str:
        above = self.bodies[parent].name if parent else ""
        base = "parent" if not above else "child" if above == "parent" else "grandchild"
        number = sum(b.kind == "process" and b.name.rstrip("0123456789") == base for b in self.bodies.values())
        name = base if not number else f"{base}{number + 1}"
        self.bodies[name] = Body("process", name, name)
        self.called[process] = name
        if parent:
            self.forked_by[name] = parent
        return name

    # --- acts -----------------------------------------------------------------------------------------------------

    def _write(self, act: Act) -> None:
        body = self.bodies[self.called[act.process]]
        self._keep_order(body, act)
        if act.beside:
            self._beside(body, act)
            return
        item = self._item(body.name, act)
        body.items.append(item)
        if act.op == "madvise" and act.word in ("DONTNEED", "FREE") and not self.held:
            self._fill_again(body)
        self._after(body, act, body.items[-1])

    def _fill_again(self, body: Body) -> None:
        """A page that was given back and is pinned later has been filled again."""
        values = [(self.buffer, BUFFER)] if self.whole else [(self.buffer, BUFFER), (self.neighbour, NEIGHBOUR)]
        for place, value in values:
            body.items.append(Item("store", (place, Number(value)), note="the program uses the page again"))

    def _after(self, body: Body, act: Act, item: Item) -> None:
        self.last = body.name, item
        if act.op == "exit" and body.name in self.forked_by:
            self.ended.setdefault(self.forked_by[body.name], []).append(body.name)

    def _beside(self, body: Body, act: Act) -> None:
        """What another thread did meanwhile is in no order with the fork."""
        number = sum(b.kind == "thread" for b in self.bodies.values()) + 1
        name = "worker" if number == 1 else f"worker{number}"
        worker = self.bodies[name] = Body("thread", name, body.name)
        if body.items:
            self._signal(body, worker, act.event, "as in the trace")
        for other in act.beside:
            worker.items.append(self._item(worker.name, other))
        fork = self._item(body.name, act)
        body.items.append(fork)
        self._signal(worker, body, act.event, "as in the trace")
        self.last = body.name, body.items[-1]

    def _item(self, actor: str, act: Act) -> Item:
        place: tuple[Arg, ...] = (self.page,)
        item = Item(act.op, event=act.event, act=act)
        if act.pinned is not None:
            pin = self._pin(actor, act, act.pinned)
            if pin.interface == "process_vm":
                return item
            item.target = pin.name
            if pin.interface in ("dio_read", "dio_write") and not pin.filesystem:
                item.note = SOME_FILE
                if SOME_FILE not in self.guessed:
                    self.guessed.append(SOME_FILE)
            word = pin.filesystem if pin.filesystem not in ("", "BLOCK") else self._access(pin)
            item.args = (*place, Name(word)) if word else place
        elif act.op == "fork":
            item.args = (Name(self._begin(act.word, actor)),)
        elif act.op == "unpin":
            self.held.discard(act.word)
            if self.pins[act.word].interface == "process_vm":
                item.op = "over"
            item.args = (Place(self.pins[act.word].name),)
        elif act.op in ("munmap", "mremap"):
            item.args = place
        elif act.op in ("mprotect", "madvise"):
            item.args = (*place, Name(act.word))
        return item

    def _access(self, pin: Pin) -> str:
        return "READONLY" if pin.interface in ("ibv_reg_mr", "vfio_map") and not pin.writes else ""

    def _pin(self, actor: str, act: Act, event: Pinned) -> Pin:
        base = _PIN_NAMES[event.interface]
        number = sum(p.name.rstrip("0123456789") == base for p in self.pins.values())
        name = base if not number else f"{base}{number + 1}"
        writes = {"dio_read": True, "dio_write": False, "vmsplice": False}.get(event.interface, event.writes)
        writes |= event.interface in ("io_uring_register", "odp_reg_mr", "xdp_umem")
        filesystem = act.filesystem or (self.some_file if event.interface in ("dio_read", "dio_write") else "")
        self.held.add(act.word)
        found = self.pins[act.word] = Pin(name, actor, event.interface, writes, filesystem, act)
        return found

    # --- order ----------------------------------------------------------------------------------------------------

    def _keep_order(self, body: Body, act: Act) -> None:
        """Nothing of the trace comes before what it came after; but that a child lives long is not insisted on."""
        if act.op in ("exit", "exec"):
            return
        for child in self.ended.pop(body.name, ()):
            body.items.append(Item("wait", (Name(child),), event=act.event, note="it had ended", order=True))
        if self.last is None or self.last[0] == body.name:
            return
        other, item = self.last
        if item.op == "exit":  # its parent waits; nobody else can tell
            return
        if item.op == "fork" and not body.items and self.forked_by.get(body.name) == other:
            return
        self._signal(self.bodies[other], body, act.event, "as in the trace", behind=item)

    def _signal(self, first: Body, then: Body, event: int, note: str, behind: Item | None = None) -> None:
        self.events += 1
        name = Name(f"step{self.events}")
        post = Item("post", (name,), event=event if behind is None else behind.event, note=note, order=True)
        first.items.append(post)
        then.items.append(Item("await", (name,), event=event, note=note, order=True))

    # --- what a question puts in ----------------------------------------------------------------------------------

    def add(
        self, body: Body, at: int, op: str, *args: Arg, target: str | None = None, note: str, event: int = -1
    ) -> int:
        """Put an assumed statement in at ``at``; returns the place behind it."""
        body.items.insert(at, Item(op, args, target, event, note))
        return at + 1

    def device(self, pin: Pin) -> Body:
        name = pin.device
        if name not in self.bodies:
            self.bodies[name] = Body("device", name, "", iommu=pin.interface == "vfio_map")
        return self.bodies[name]

    def fork_assumed(self, body: Body, at: int) -> tuple[Body, int]:
        """A child that the trace has not, or not yet."""
        self.further = True
        child = self._begin(f"assumed {len(self.bodies)}", body.name)
        at = self.add(body, at, "fork", Name(child), note="a fork from here on")
        return self.bodies[child], at

    # --- the result -----------------------------------------------------------------------------------------------

    def actors(self) -> tuple[tuple[Actor, ...], tuple[Origin, ...]]:
        """The actors, and the origin of each statement: the one that a statement's span gives as its line."""
        origins: list[Origin] = []
        actors = []
        for body in self._in_order():
            statements = []
            for item in filter(lambda item: item.is_statement, body.items):
                origins.append(Origin(item.event if item.event >= 0 else None, item.note))
                statements.append(Statement(item.op, item.args, item.target, Span(len(origins), 0, 0)))
            actors.append(Actor(body.kind, body.name, body.process, tuple(statements), body.iommu))  # type: ignore[arg-type]
        return tuple(actors), tuple(origins)

    def _in_order(self) -> Iterator[Body]:
        for body in self.bodies.values():
            if body.kind == "process":
                yield body
                yield from (b for b in self.bodies.values() if b.kind == "thread" and b.process == body.name)
        yield from (b for b in self.bodies.values() if b.kind == "device")
