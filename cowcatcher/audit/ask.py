"""What a question adds to the acts of a trace: the accesses that no tracer sees, and the claim about them.

Loads, stores and DMA do not pass through the kernel. Each one that is put in here is what a program of this kind does
anyway (the owner of a buffer uses it, the device does what it was given the memory for), or one more step that it may
take (a child reads). It goes where the most can come of it: right behind a fork, or as long as the pin is held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cowcatcher.audit.acts import CannotDerive
from cowcatcher.audit.draft import BUFFER, NEIGHBOUR, Body, Draft, Item, Pin
from cowcatcher.audit.finding import Question
from cowcatcher.litmus.ast import And, Claim, Compare, Cond, In, Name, Number, Register

_OWNER_STORES: Final = "the owner goes on storing to its buffer"
_ELSEWHERE: Final = "the owner stores to something else on the page"
_TOLD: Final = "the device is told to begin"
_WAITED: Final = "the owner waits until it is done"
_GONE: Final = ("munmap", "exec", "exit")
_STORED: Final = (2, 4, 6, 8, 9)
_FROM_DEVICE: Final = 3
_FROM_CHILD: Final = 7


def ask(draft: Draft, question: Question) -> tuple[Claim, ...]:
    """Puts into the draft what the question assumes; gives back what is claimed. Raises CannotDerive."""
    claims = _ASK[question](draft)
    return (Claim("always", claims[0] if len(claims) == 1 else And(tuple(claims))),)


# --- device and owner -------------------------------------------------------------------------------------------------


def _device_and_owner(draft: Draft) -> list[Cond]:
    pin = _pin_at_risk(draft)
    if pin.interface == "process_vm":
        return _copied_meanwhile(draft, pin)
    if _overwritten(draft, pin):
        return _overwritten_in_flight(draft, pin)
    body, start, end = _held(draft, pin)
    if not _shared_meanwhile(draft, body, start, end):
        _, end = draft.fork_assumed(body, end)
    stored, end = _owner_stores(draft, pin, body, start, end)
    device = draft.device(pin)
    claims: list[Cond] = []
    at = draft.add(body, end, "post", Name("doorbell"), note=_TOLD)
    at = draft.add(body, at, "await", Name("done"), note=_WAITED)
    end = draft.add(device, len(device.items), "await", Name("doorbell"), note="the device works")
    if pin.interface != "dio_read":
        end = draft.add(device, end, "dma_read", draft.through(pin), target="r0", note="the device reads")
        claims.append(_equals("r0", stored))
    if pin.writes:
        register = f"r{len(claims)}"
        end = draft.add(device, end, "dma_write", draft.through(pin), Number(_FROM_DEVICE), note="the device writes")
        if not _may_read(draft, body, at):
            raise CannotDerive("the buffer's owner may not read it at the time")
        draft.add(body, at, "load", draft.buffer, target=register, note="the owner looks at what has come")
        claims.append(_equals(register, _FROM_DEVICE))
    draft.add(device, end, "post", Name("done"), note="the device is done")
    return claims


def _owner_stores(draft: Draft, pin: Pin, body: Body, start: int, end: int) -> tuple[int, int]:
    """Behind every fork that the pin sees, or at once if the page was shared before. What the buffer holds then."""
    behind = [i + 1 for i in range(start, end) if body.items[i].op == "fork"] or [start]
    in_buffer, note = not pin.transfer, _OWNER_STORES if not pin.transfer else _ELSEWHERE
    stored = BUFFER
    if pin.transfer and draft.whole:
        if not pin.writes:
            return stored, end  # what is being sent is left alone until it is out
        in_buffer, note = True, "the owner stores to the page before the transfer is over"
        draft.further = True
    places = sorted({at for start in behind if (at := _where_writable(draft, body, start, end)) >= 0})
    for number, at in enumerate(places):
        value = _STORED[min(number, len(_STORED) - 1)]
        place = draft.buffer if in_buffer else draft.neighbour
        draft.add(body, at + number, "store", place, Number(value), note=note)
        end += 1
        stored = value if in_buffer else stored
    return stored, end


def _where_writable(draft: Draft, body: Body, at: int, end: int) -> int:
    """There, or the first place behind it where the page may be written; -1 for none while the pin is held."""
    return next((i for i in range(at, end + 1) if _writable(draft, body, i)), -1)


def _overwritten(draft: Draft, pin: Pin) -> bool:
    return any(i.op == "overwritten" and i.act and i.act.word == pin.act.word for i in _all_items(draft))


def _overwritten_in_flight(draft: Draft, pin: Pin) -> list[Cond]:
    """Seen by comparing: the bytes of a transfer changed before it was over, with or without a fork."""
    body, at = next(
        (b, i) for b in draft.bodies.values() for i, item in enumerate(b.items)
        if item.op == "overwritten" and item.act and item.act.word == pin.act.word
    )  # fmt: skip
    event = body.items[at].event
    at = draft.add(body, at, "store", draft.buffer, Number(2), note="the bytes changed here", event=event)
    at = draft.add(body, at, "post", Name("doorbell"), note="the transfer goes on")
    device = draft.device(pin)
    end = draft.add(device, len(device.items), "await", Name("doorbell"), note="the transfer goes on")
    draft.add(device, end, "dma_read", draft.through(pin), target="r0", note="what was to be sent is read")
    return [_equals("r0", BUFFER)]


def _copied_meanwhile(draft: Draft, pin: Pin) -> list[Cond]:
    """process_vm_readv() or process_vm_writev() by whoever it was, at any moment from when it was seen to begin.

    A thread of the process itself stands for the other one: what is pinned, and how, is the same.
    """
    body, start, end = _held(draft, pin)
    if not _shared_meanwhile(draft, body, start, end):
        _, end = draft.fork_assumed(body, end)
    _, end = _owner_stores(draft, pin, body, start, end)
    other = draft.bodies["copier"] = Body("thread", "copier", body.name)
    at = draft.add(other, 0, "await", Name("begun"), note="not before it was seen to begin")
    event = pin.act.event
    where = (Name(body.name), draft.buffer)
    if pin.writes:
        at = draft.add(other, at, "process_vm_writev", *where, Number(_FROM_DEVICE), note="by another", event=event)
        draft.add(other, at, "post", Name("done"), note="that is over")
        end = draft.add(body, end, "await", Name("done"), note=_WAITED)
        draft.add(body, end, "load", draft.buffer, target="r0", note="the owner looks at what has come")
    else:
        draft.add(other, at, "process_vm_readv", *where, target="r0", note="by another", event=event)
    draft.add(body, start, "post", Name("begun"), note="not before it was seen to begin")
    return [_equals("r0", _FROM_DEVICE if pin.writes else BUFFER)]


# --- device and others ------------------------------------------------------------------------------------------------


def _device_reads_foreign(draft: Draft) -> list[Cond]:
    _must_be_private(draft)
    pin = _pin_at_risk(draft)
    if pin.interface == "process_vm":
        return _copied_meanwhile(draft, pin)
    body, start, end = _held(draft, pin)
    child, at, end = _relative(draft, body, start, end)
    if not _writable(draft, body, at):
        raise CannotDerive("the owner may not store to the page at the time")
    device = draft.device(pin)
    there = _in_child(child, body, end)
    draft.further = True
    if draft.whole:
        at = draft.add(body, at, "store", draft.buffer, Number(2), note="the owner stores to it")
    else:
        at = draft.add(body, at, "store", draft.neighbour, Number(6), note=_ELSEWHERE)
    draft.add(body, at, "post", Name("moved"), note="that is over")
    draft.add(body, end + 2, "await", Name("done"), note=_WAITED)
    there = draft.add(child, there, "await", Name("moved"), note="the owner has stored")
    there = draft.add(child, there, "store", draft.buffer, Number(_FROM_CHILD), note="the child stores to its copy")
    draft.add(child, there, "post", Name("doorbell"), note="only then does the device read")
    end = draft.add(device, len(device.items), "await", Name("doorbell"), note="the device works")
    end = draft.add(device, end, "dma_read", draft.through(pin), target="r0", note="the device reads")
    draft.add(device, end, "post", Name("done"), note="the device is done")
    return [_equals("r0", BUFFER) if not draft.whole else In(Register("r0"), (Number(BUFFER), Number(2)))]


def _child_sees_device(draft: Draft) -> list[Cond]:
    _must_be_private(draft)
    pin = _pin_at_risk(draft)
    if not pin.writes:
        raise CannotDerive("the device only reads")
    if pin.interface == "process_vm":
        raise CannotDerive("process_vm_writev() is over when it returns, so nothing is written later")
    body, start, end = _held(draft, pin)
    child, at, end = _relative(draft, body, start, end)
    device = draft.device(pin)
    there = _in_child(child, body, end)
    draft.further = True
    draft.add(body, at, "post", Name("doorbell"), note=_TOLD)
    draft.add(body, end + 1, "await", Name("done"), note=_WAITED)
    at = draft.add(device, len(device.items), "await", Name("doorbell"), note="the device works")
    at = draft.add(device, at, "dma_write", draft.through(pin), Number(_FROM_DEVICE), note="the device writes")
    at = draft.add(device, at, "post", Name("written"), note="the device is done")
    draft.add(device, at, "post", Name("done"), note="the device is done")
    there = draft.add(child, there, "await", Name("written"), note="that is over")
    draft.add(child, there, "load", draft.buffer, target="r0", note="the child reads its copy")
    return [_equals("r0", BUFFER)]


def _must_be_private(draft: Draft) -> None:
    if not draft.private:
        raise CannotDerive("the memory is shared with other processes on purpose")


def _relative(draft: Draft, body: Body, start: int, end: int) -> tuple[Body, int, int]:
    """A process that shares the page while it is pinned, where in the owner's body that has begun, and the new end."""
    for i in range(start, end):
        if body.items[i].op == "fork":
            return draft.bodies[_word(body.items[i])], i + 1, end
    others = _sharing_at(draft, body, start)
    if others:
        return others[0], start, end
    child, at = draft.fork_assumed(body, end)
    return child, at, at


def _in_child(child: Body, owner: Body, end: int) -> int:
    """Where in the other process's body something can be done while the pin is held, as late as it can be.

    Before it ends or gives the page up, and before whatever the trace has after the pin was given back. Everything
    else that it does may come first.
    """
    last = next((item.event for item in owner.items[end:] if item.event >= 0 and item.op != "wait"), None)
    for i, item in enumerate(child.items):
        if _gives_up(item) or (last is not None and item.event > last):
            return _with_its_order(child, i, 0)
    return len(child.items)


# --- the child alone --------------------------------------------------------------------------------------------------


def _child_reads_neighbour(draft: Draft) -> list[Cond]:
    if draft.whole:
        raise CannotDerive("the buffer takes the whole page: nothing else lies on it")
    _child_reads(draft, "neighbour")
    return [_equals("r0", NEIGHBOUR)]


def _child_reads_buffer(draft: Draft) -> list[Cond]:
    _child_reads(draft, "pinned")
    return [_equals("r0", BUFFER)]


def _child_reads(draft: Draft, part: str) -> None:
    place = draft.neighbour if part == "neighbour" else draft.buffer
    body, at, item = _touched(draft, part) or (None, 0, None)
    if body is not None and item is not None:
        draft.add(body, at, "load", place, target="r0", note="it was killed here", event=item.event)
        return
    draft.further = True
    child = _child_without(draft)
    if child is None:
        owner = draft.owner()
        ends = next((i for i, item in enumerate(owner.items) if item.op in _GONE), len(owner.items))
        child, _ = draft.fork_assumed(owner, ends)
    at = next((i for i, item in enumerate(child.items) if _gives_up(item)), len(child.items))
    draft.add(child, at, "load", place, target="r0", note="the child reads")


def _touched(draft: Draft, part: str) -> tuple[Body, int, Item] | None:
    """Where the trace shows that a child was killed for it."""
    for body in draft.bodies.values():
        for i, item in enumerate(body.items):
            if item.op == "touch" and item.act is not None and item.act.word == part and body.name in draft.forked_by:
                return body, i, item
    return None


def _child_without(draft: Draft) -> Body | None:
    """The first child that was forked while the page was kept from children; else the first."""
    children = []
    for body in draft.bodies.values():
        kept = False
        for item in body.items:
            if item.op == "madvise" and _word(item, 1) in ("DONTFORK", "DOFORK"):
                kept = _word(item, 1) == "DONTFORK"
            elif item.op == "fork":
                children.append((not kept, draft.bodies[_word(item)]))
    return min(children, key=lambda found: found[0])[1] if children else None


# --- given back too early ---------------------------------------------------------------------------------------------


def _freed_under_device(draft: Draft) -> list[Cond]:
    body, at, pin = _freed(draft)
    item = body.items[at]
    at += 1
    device = draft.device(pin)
    if item.op == "freed":
        draft.further = True
        at = draft.add(body, at, "store", draft.buffer, Number(2), note="the allocator hands it out again")
    elif not pin.writes:
        raise CannotDerive("the device only reads memory that nobody has any more")
    at = draft.add(body, at, "post", Name("doorbell"), note=_TOLD)
    at = draft.add(body, at, "await", Name("done"), note="it is done")
    draft.add(body, at, "load", draft.buffer, target="r0", note="what does the program find?")
    end = draft.add(device, len(device.items), "await", Name("doorbell"), note="the device works")
    if pin.writes:
        end = draft.add(device, end, "dma_write", draft.through(pin), Number(_FROM_DEVICE), note="the device writes")
    draft.add(device, end, "post", Name("done"), note="the device is done")
    return [_equals("r0", 2 if item.op == "freed" else _FROM_DEVICE)]


def _freed(draft: Draft) -> tuple[Body, int, Pin]:
    """The first time that memory is given back while a pin of the owner's is held; what gives it back, and the pin."""
    body = draft.owner()
    held: dict[str, Pin] = {}
    for i, item in enumerate(body.items):
        if item.act is not None and item.act.pinned is not None and item.target is not None:
            held[item.target] = draft.pins[item.act.word]
        elif item.op == "unpin" and item.act is not None:
            held.pop(draft.pins[item.act.word].name, None)
        elif held and (
            item.op in ("munmap", "freed") or (item.op == "madvise" and _word(item, 1) in ("DONTNEED", "FREE"))
        ):
            return body, i, next(iter(held.values()))
    raise CannotDerive("nothing of the trace gives the page back while it is pinned")


# --- looking at the draft ---------------------------------------------------------------------------------------------


def _pin_at_risk(draft: Draft) -> Pin:
    """The pin that the case is about: on exactly those bytes if there is one, seen by a fork if there is one."""
    pins = list(draft.pins.values())
    if not pins:
        raise CannotDerive("the page is never pinned")
    case = draft.case
    same = [
        p for p in pins
        if p.act.pinned is not None and any(r.overlap(case.page) == case.pinned for r in p.act.pinned.ranges)
    ]  # fmt: skip
    pins = same or pins
    shared = [p for p in pins if _is_shared(draft, p)]
    return (shared or pins)[0]


def _is_shared(draft: Draft, pin: Pin) -> bool:
    try:
        body, start, end = _held(draft, pin)
    except CannotDerive:
        return False
    return _shared_meanwhile(draft, body, start, end)


def _held(draft: Draft, pin: Pin) -> tuple[Body, int, int]:
    """The body of the pin's process, and from where to where in it the pin is held and the page is there."""
    actor = draft.bodies[pin.owner]
    body = draft.bodies[actor.process]
    taken = next(i for i, item in enumerate(actor.items) if item.act is pin.act)
    start = taken + 1 if actor is body else _joined(actor, body)
    for i in range(start, len(body.items)):
        item = body.items[i]
        if _ends(item, pin):
            return body, start, _with_its_order(body, i, start)
    if any(_ends_pin(item, pin) for item in _all_items(draft)):
        raise CannotDerive("the pin is given back by another process, or while somebody forks")
    return body, start, len(body.items)


def _joined(worker: Body, body: Body) -> int:
    """Behind the fork beside which a thread worked: the fork itself is where the two meet."""
    step = next(_word(item) for item in reversed(worker.items) if item.op == "post")
    return next(i for i, item in enumerate(body.items) if item.op == "await" and _word(item) == step) + 1


def _ends(item: Item, pin: Pin) -> bool:
    return _gives_up(item) or _ends_pin(item, pin)


def _gives_up(item: Item) -> bool:
    """From here on the process has other contents there than others have, or none, by its own doing."""
    return item.op in _GONE or (item.op == "madvise" and _word(item, 1) in ("DONTNEED", "FREE"))


def _with_its_order(body: Body, at: int, start: int) -> int:
    """What the trace's order wants of a statement comes with it: the place before that."""
    while at > start and body.items[at - 1].order and body.items[at - 1].event == body.items[at].event:
        at -= 1
    return at


def _ends_pin(item: Item, pin: Pin) -> bool:
    return item.op in ("unpin", "over") and item.act is not None and item.act.word == pin.act.word


def _shared_meanwhile(draft: Draft, body: Body, start: int, end: int) -> bool:
    return any(i.op == "fork" for i in body.items[start:end]) or bool(_sharing_at(draft, body, start))


def _sharing_at(draft: Draft, body: Body, at: int) -> list[Body]:
    """Children that were forked before, with the page, and are not known to have ended."""
    found: list[Body] = []
    kept = False
    for item in body.items[:at]:
        if item.op == "madvise" and _word(item, 1) in ("DONTFORK", "DOFORK"):
            kept = _word(item, 1) == "DONTFORK"
        elif item.op == "fork" and not kept:
            found.append(draft.bodies[_word(item)])
        elif item.op == "wait":
            found = [b for b in found if b.name != _word(item)]
    now = next((i.event for i in reversed(body.items[:at]) if i.event >= 0), -1)
    return [b for b in found if not any(i.op in _GONE and 0 <= i.event < now for i in b.items)]


def _writable(draft: Draft, body: Body, at: int) -> bool:
    return _protection(draft, body, at) == "RW"


def _may_read(draft: Draft, body: Body, at: int) -> bool:
    return _protection(draft, body, at) != "NONE"


def _protection(draft: Draft, body: Body, at: int) -> str:
    """What the page allows there, by what its process and those that it descends from have said."""
    found = next((_word(i, 1) for i in reversed(body.items[:at]) if i.op == "mprotect"), None)
    if found is not None:
        return found
    parent = draft.forked_by.get(body.name)
    if parent is None:
        return draft.memory.prot
    above = draft.bodies[parent]
    fork = next((i for i, item in enumerate(above.items) if item.op == "fork" and _word(item) == body.name), 0)
    return _protection(draft, above, fork)


def _all_items(draft: Draft) -> list[Item]:
    return [item for body in draft.bodies.values() for item in body.items]


def _word(item: Item, position: int = 0) -> str:
    if len(item.args) <= position:
        return ""
    arg = item.args[position]
    return arg.text if isinstance(arg, Name) else ""


def _equals(register: str, value: int) -> Compare:
    return Compare(Register(register), "==", Number(value))


_ASK: Final[dict[Question, Callable[[Draft], list[Cond]]]] = {
    Question.DEVICE_AND_OWNER: _device_and_owner,
    Question.DEVICE_READS_FOREIGN: _device_reads_foreign,
    Question.CHILD_READS_NEIGHBOUR: _child_reads_neighbour,
    Question.CHILD_READS_BUFFER: _child_reads_buffer,
    Question.CHILD_SEES_DEVICE: _child_sees_device,
    Question.FREED_UNDER_DEVICE: _freed_under_device,
}
