"""A long story made short: what happened again and again, and changed nothing, is told once.

A program that registers a buffer and then starts ten thousand helpers does the same thing ten thousand times. Where
the page is as it was before (the same processes share it, the same pins are held, the same advice is in force), what
lay in between was a round trip, and a second round trip of the same kind teaches nothing. What is left out is counted.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from cowcatcher.audit.acts import Act, flattened

_UNTOUCHED = ("RW", False, False)


@dataclass(slots=True)
class _State:
    """What can be known of the page from the acts alone. ``marked``: something has write-protected it, once."""

    shared_by: dict[str, tuple[str, bool, bool]] = field(default_factory=dict)  # process -> prot, dontfork, wipe
    pins: dict[str, str] = field(default_factory=dict)  # -> what took it
    marked: bool = False

    def key(self) -> Hashable:
        return tuple(sorted(self.shared_by.items())), tuple(sorted(self.pins)), self.marked

    def kind(self, root: str) -> Hashable:
        """The same for states that differ only in who the children are and what the pins are called."""
        others = sorted(state for name, state in self.shared_by.items() if name != root)
        return self.shared_by.get(root), tuple(others), tuple(sorted(self.pins.values())), self.marked

    def follow(self, act: Act) -> None:
        prot, dontfork, wipe = self.shared_by.get(act.process, _UNTOUCHED)
        match act.op:
            case "fork":
                self.shared_by[act.word] = (prot, dontfork, wipe)
                self.marked |= not dontfork
            case "exit" | "exec":
                self.shared_by.pop(act.process, None)
            case "munmap":
                self.shared_by[act.process] = ("gone", dontfork, wipe)
            case "mprotect":
                self.shared_by[act.process] = (act.word, dontfork, wipe)
                self.marked = True
            case "madvise":
                dontfork = act.word == "DONTFORK" or (dontfork and act.word != "DOFORK")
                wipe = act.word == "WIPEONFORK" or (wipe and act.word != "KEEPONFORK")
                self.shared_by[act.process] = (prot, dontfork, wipe)
            case "unpin":
                self.pins.pop(act.word, None)
            case _ if act.pinned is not None:
                self.pins[act.word] = f"{act.op} {act.filesystem} {act.pinned.writes} {act.pinned.ranges}"


#: Children that are alike in everything: more of them make a search longer, and tell nothing more.
ALIKE = 2


def folded(acts: Sequence[Act], root: str) -> tuple[list[Act], int]:
    """The acts without repetitions, and how many were left out."""
    kept = _fewer_alike(_without_round_trips(acts, root), root)
    return kept, len(acts) - len(kept)


def _without_round_trips(acts: Sequence[Act], root: str) -> list[Act]:
    state = _State({root: _UNTOUCHED})
    kept: list[Act] = []
    keys: list[Hashable] = [state.key()]  # before each act that is kept, and after the last
    at: dict[Hashable, int] = {keys[0]: 0}
    told: set[Hashable] = set()
    for act in acts:
        for single in flattened([act]):
            state.follow(single)
        kept.append(act)
        key = state.key()
        start = at.get(key)
        if start is not None:
            trip = state.kind(root), _signature(kept[start:])
            if trip in told:
                del kept[start:]
                for gone in keys[start + 1 :]:
                    at.pop(gone, None)
                del keys[start + 1 :]
                at[key] = start
                continue
            told.add(trip)
        keys.append(key)
        at[key] = len(kept)
    return kept


def _signature(acts: Sequence[Act]) -> Hashable:
    """The same for acts that differ in nothing but who the children were and what the pins were called."""
    names: dict[str, str] = {}
    born = {act.word for act in flattened(acts) if act.op == "fork"}

    def plain(name: str, is_new: bool) -> str:
        return names.setdefault(name, f"#{len(names)}") if is_new else name

    def one(act: Act) -> Hashable:
        pin = act.pinned is not None or act.op in ("unpin", "overwritten")
        word = plain(act.word, True) if pin else plain(act.word, act.word in born)
        what = (act.pinned.writes, act.pinned.ranges) if act.pinned is not None else ()
        beside = tuple(map(one, act.beside))
        return plain(act.process, act.process in born), act.op, word, what, act.filesystem, beside

    return tuple(map(one, acts))


@dataclass(slots=True)
class _Life:
    """What a child did, and how its parent's page was each time. ``needed``: others hang on it, or it was killed."""

    parent: str
    did: list[Hashable] = field(default_factory=list)
    needed: bool = False


def _fewer_alike(acts: Sequence[Act], root: str) -> list[Act]:
    """Without those children that only do what others do, while the page is as it is for those."""
    alike: dict[Hashable, int] = {}
    gone = set[str]()
    for child, life in _lives(acts, root).items():
        kind = life.parent, tuple(life.did)
        alike[kind] = alike.get(kind, 0) + 1
        if alike[kind] > ALIKE and not life.needed:
            gone.add(child)
    return [act for act in acts if act.process not in gone and not (act.op == "fork" and act.word in gone)]


def _lives(acts: Sequence[Act], root: str) -> dict[str, _Life]:
    state = _State({root: _UNTOUCHED})
    lives: dict[str, _Life] = {}
    for act in flattened(acts):
        own = lives.get(act.process)
        if act.op == "fork":
            if own is not None:
                own.needed = True
            own = lives[act.word] = _Life(act.process, needed=bool(act.beside))
        if own is not None:
            word = "" if act.op == "fork" else act.word
            own.did.append((act.op, word, state.shared_by.get(own.parent), tuple(sorted(state.pins))))
            own.needed |= act.pinned is not None or act.op in ("unpin", "touch", "freed", "overwritten")
        state.follow(act)
    return lives
