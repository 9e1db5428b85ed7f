"""Small random tests over every statement that the model has, the same ones for the same seed.

Each is a syntax tree that ``litmus.check`` finds nothing wrong with. Statements are drawn so that they meet: few pages,
forks and pins more often than anything else, devices that use the pins that exist.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Literal

from cowcatcher.kernels import KERNELS, Kernel
from cowcatcher.litmus.ast import (
    Actor,
    And,
    Arg,
    Claim,
    Compare,
    Cond,
    ErrorName,
    Flags,
    In,
    KernelMay,
    Located,
    Mapping,
    Name,
    Not,
    Number,
    Or,
    Place,
    Query,
    Register,
    Statement,
    Test,
)
from cowcatcher.litmus.names import read_only_because

_KINDS = ("anon",) * 8 + ("shared_anon", "file_private", "file_private", "file_shared", "memfd")
_ADVICE = (
    "DONTFORK", "DOFORK", "WIPEONFORK", "KEEPONFORK", "DONTNEED", "DONTNEED", "FREE", "FREE", "PAGEOUT", "PAGEOUT",
    "POPULATE_READ", "POPULATE_WRITE", "MERGEABLE", "UNMERGEABLE", "HUGEPAGE",
)  # fmt: skip
#: (statement, weight) for processes and threads; forks, waits, exits and events are put in afterwards.
_STATEMENTS = (
    ("store", 7), ("load", 5), ("pin", 5), ("get", 2), ("interface", 5), ("unpin", 3), ("madvise", 5), ("mprotect", 2),
    ("munmap", 1), ("mremap", 1), ("mlock", 1), ("clear_refs", 1), ("uffd_wp", 0.5),
    ("uffd_wp_resolve", 0.7), ("remote", 2), ("exec", 0.3),
)  # fmt: skip
_INTERFACES = (
    "ibv_reg_mr", "ibv_reg_mr", "odp_reg_mr", "io_uring_register", "vfio_map", "xdp_umem", "vmsplice", "vmsplice",
    "dio_read", "dio_write",
)  # fmt: skip


def random_test(seed: int) -> Test:
    return _Author(random.Random(f"test {seed}")).test(f"random_{seed}")


def random_kernel(seed: int) -> Kernel:
    """Any modelled kernel, proposals and stable series included."""
    return random.Random(f"kernel {seed}").choice(list(KERNELS.values()))


@dataclass
class _Author:
    rng: random.Random
    memory: list[Mapping] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    owner: dict[str, str] = field(default_factory=dict)  # actor -> process
    bodies: dict[str, list[Statement]] = field(default_factory=dict)
    devices: list[str] = field(default_factory=list)
    pins: dict[str, Statement] = field(default_factory=dict)
    registers: list[str] = field(default_factory=list)
    reclaimed: bool = False

    def test(self, name: str) -> Test:
        rng = self.rng
        self.memory = self.some_memory()
        self.processes = ["p", "q", "s"][: rng.choices((1, 2, 3), (2, 6, 1))[0]]
        for process in self.processes:
            self.owner[process] = process
        if rng.random() < 0.3:
            self.owner["t"] = rng.choice(self.processes)
        self.bodies = {actor: [] for actor in self.owner}
        told = rng.random() < 0.4
        if told:
            self.a_story()
        for actor, body in self.bodies.items():
            most = 2 if told else 4 if actor == "p" else 2
            for _ in range(rng.randint(1 if actor == "p" and not told else 0, most)):
                body.insert(rng.randint(0, len(body)), self.statement(actor))
        self.forks()
        self.some_devices()
        self.events()
        kernel_may: tuple[KernelMay, ...] = ()
        if rng.random() < (0.8 if self.reclaimed else 0.2):
            kernel_may = (KernelMay("reclaim", self.page()),)
        return Test(
            name=name,
            memory=tuple(self.memory),
            actors=tuple(self.actor(a) for a in self.bodies),
            kernel_may=kernel_may,
            claims=tuple(self.claim() for _ in range(rng.choice((0, 1, 1, 2)))),
            unchecked=tuple(sorted(rng.sample(("coherent", "isolated", "balanced"), 1))) if rng.random() < 0.05 else (),
        )

    def a_story(self) -> None:
        """The beginning of something that once went wrong: a reference is taken, somebody writes. Forks come later."""
        taken = self.statement("p", self.rng.choice(("pin", "get", "interface")))
        self.bodies["p"] += [taken, self.statement("p", self.rng.choice(("store", "load")))]
        if self.rng.random() < 0.25:  # memory that the kernel may take away
            self.reclaimed = True
            advice = Statement("madvise", (self.page(), Name(self.rng.choice(("FREE", "FREE", "PAGEOUT")))))
            self.bodies["p"].insert(self.rng.randint(0, 1), advice)
            if self.rng.random() < 0.5:
                self.bodies["p"].insert(2, self.statement("p", "unpin"))
        if "q" in self.bodies and self.rng.random() < 0.7:
            if self.rng.random() < 0.5:
                self.bodies["q"].append(self.statement("q", self.rng.choice(("interface", "get"))))
            self.bodies["q"].append(self.statement("q", self.rng.choice(("munmap", "store", "store", "load"))))

    # --- memory and places --------------------------------------------------------------------------------------------

    def some_memory(self) -> list[Mapping]:
        rng = self.rng
        found: list[Mapping] = []
        pages = rng.choices((1, 2), (3, 1))[0]
        shapes = [pages] if rng.random() < 0.5 or pages == 1 else [1, 1]
        for name, size in zip("xy", shapes, strict=False):
            kind = rng.choice(_KINDS)
            cells: tuple[tuple[str, int], ...] = (("", rng.randint(1, 3)),)
            if rng.random() < 0.2:
                cells = (("a", rng.randint(0, 3)), ("b", rng.randint(0, 3)))
            elif rng.random() < 0.15:
                cells = ()
            if kind == "anon" and not cells and rng.random() < 0.5:
                kind = "anon_zero"
            flags: tuple[str, ...] = ()
            if kind == "anon" and cells and rng.random() < 0.15:
                flags = (rng.choice(("batched", "crowded")),)
            prot: Literal["R", "RW"] = "R" if rng.random() < 0.1 else "RW"
            found.append(Mapping(name, kind, cells, size, prot, flags))
        return found

    def page(self) -> Place:
        """A page, or a whole mapping."""
        mapping = self.rng.choice(self.memory)
        return Place(mapping.name, self.rng.randrange(mapping.pages) if self.rng.random() < 0.5 else None)

    def cell(self) -> Place:
        mapping = self.rng.choice(self.memory)
        return self.cell_of(
            Place(mapping.name, self.rng.randrange(mapping.pages) if mapping.pages > 1 else None), mapping
        )

    def cell_of(self, place: Place, mapping: Mapping) -> Place:
        names = [name for name, _ in mapping.cells if name]
        return replace(place, cell=self.rng.choice(names)) if names else place

    # --- statements ---------------------------------------------------------------------------------------------------

    def statement(self, actor: str, chosen: str = "") -> Statement:
        """Any statement, or one of the kind ``chosen``."""
        rng = self.rng
        chosen = chosen or rng.choices([s for s, _ in _STATEMENTS], [w for _, w in _STATEMENTS])[0]
        if chosen in ("pin", "get", "interface") and len(self.pins) >= 3:
            chosen = "store"
        if chosen == "unpin" and not self.pins:
            chosen = "load"
        match chosen:
            case "load":
                return Statement("load", (self.cell(),), self.register(actor))
            case "store":
                return self.perhaps_kept(actor, Statement("store", (self.cell(), self.value())))
            case "pin" | "get":
                return self.pinning(chosen, (self.page(), self.flags()))
            case "interface":
                op = rng.choice(_INTERFACES)
                args: tuple[Arg, ...] = (self.page(),)
                if op in ("ibv_reg_mr", "vfio_map") and rng.random() < 0.4:
                    args += (Name("READONLY"),)
                elif op.startswith("dio") and rng.random() < 0.4:
                    args += (Name(rng.choice(("BLOCK", "NFS", "FUSE"))),)
                return self.pinning(op, args)
            case "unpin":
                done = Statement("unpin", (Place(rng.choice(sorted(self.pins))),))
            case "madvise":
                done = Statement("madvise", (self.page(), Name(rng.choice(_ADVICE))))
            case "mprotect":
                done = Statement("mprotect", (self.page(), Name(rng.choice(("NONE", "R", "R", "RW", "RW")))))
            case "remote":
                return self.remote(actor)
            case "exec" | "clear_refs":
                done = Statement(chosen)
            case _:
                done = Statement(chosen, (self.page(),))
        return self.perhaps_kept(actor, done)

    def remote(self, actor: str) -> Statement:
        process = Name(self.rng.choice(self.processes))
        op = self.rng.choice(("process_vm_readv", "process_vm_writev", "peek", "poke"))
        if op in ("process_vm_readv", "peek"):
            return Statement(op, (process, self.cell()), self.register(actor))
        return self.perhaps_kept(actor, Statement(op, (process, self.cell(), self.value())))

    def pinning(self, op: str, args: tuple[Arg, ...]) -> Statement:
        pin = f"m{len(self.pins)}"
        self.pins[pin] = Statement(op, args, pin)
        return self.pins[pin]

    def perhaps_kept(self, actor: str, statement: Statement) -> Statement:
        return replace(statement, target=self.register(actor)) if self.rng.random() < 0.3 else statement

    def register(self, actor: str) -> str:
        self.registers.append(f"{actor}{len(self.registers)}")
        return self.registers[-1]

    def value(self) -> Number:
        return Number(self.rng.randint(4, 9))

    def flags(self) -> Flags:
        rng = self.rng
        names = [rng.choice(("READ", "WRITE"))]
        names += [f for f, p in (("FORCE", 0.15), ("LONGTERM", 0.4), ("FAST", 0.4)) if rng.random() < p]
        return Flags(tuple(names))

    # --- what ties the actors together --------------------------------------------------------------------------------

    def forks(self) -> None:
        rng = self.rng
        for i, child in enumerate(self.processes[1:], start=1):
            parent = rng.choice(self.processes[:i])
            forker = rng.choice([a for a, owner in self.owner.items() if owner == parent])
            body = self.bodies[forker]
            at = rng.randint(0, len(body))
            op = "vfork" if rng.random() < 0.12 else "fork"
            body.insert(at, self.perhaps_kept(forker, Statement(op, (Name(child),))))
            if rng.random() < 0.4:
                body.insert(rng.randint(at + 1, len(body)), Statement("wait", (Name(child),)))
        for actor, body in self.bodies.items():
            if rng.random() < (0.2 if actor == "p" else 0.6):
                body.append(Statement("exit"))

    def some_devices(self) -> None:
        rng = self.rng
        if not self.pins or rng.random() < 0.25:
            return
        for device in ("d", "e")[: rng.choices((1, 2), (6, 1))[0]]:
            self.devices.append(device)
            self.bodies[device] = []
            for _ in range(rng.randint(1, 2)):
                self.bodies[device].append(self.device_statement(device))

    def device_statement(self, device: str) -> Statement:
        rng = self.rng
        pin = rng.choice(sorted(self.pins))
        if rng.random() < 0.1:
            return Statement("unpin", (Place(pin),))
        taken = self.pins[pin].args[0]
        assert isinstance(taken, Place)
        mapping = next(m for m in self.memory if m.name == taken.name)
        pages = mapping.pages if taken.index is None else 1
        place = self.cell_of(Place(pin, rng.randrange(pages) if pages > 1 else None), mapping)
        if read_only_because(self.pins[pin]) is None and rng.random() < 0.6:
            return self.perhaps_kept(device, Statement("dma_write", (place, self.value())))
        return Statement("dma_read", (place,), self.register(device))

    def events(self) -> None:
        rng = self.rng
        for event in ("go", "done"):
            if len(self.bodies) < 2 or rng.random() < 0.5:
                continue
            poster, waiter = rng.sample(sorted(self.bodies), 2)
            for actor, op in ((poster, "post"), (waiter, "await")):
                body = self.bodies[actor]
                last = len(body) - (1 if body and body[-1].op == "exit" else 0)
                body.insert(rng.randint(0, last), Statement(op, (Name(event),)))

    def actor(self, name: str) -> Actor:
        body = tuple(self.bodies[name])
        if name in self.devices:
            return Actor("device", name, "", body, self.rng.random() < 0.3)
        return Actor("process" if name in self.processes else "thread", name, self.owner[name], body)

    # --- claims -------------------------------------------------------------------------------------------------------

    def claim(self) -> Claim:
        kind: Literal["always", "never", "sometimes"] = self.rng.choice(("always", "never", "sometimes"))
        return Claim(kind, self.cond(2))

    def cond(self, depth: int) -> Cond:
        rng = self.rng
        choice = rng.random()
        if depth and choice < 0.15:
            return Not(self.atom())
        if depth and choice < 0.4:
            joined = And if rng.random() < 0.5 else Or
            return joined((self.atom(), self.atom()))
        return self.atom()

    def atom(self) -> Cond:
        rng = self.rng
        if self.registers and rng.random() < 0.6:
            register = Register(rng.choice(self.registers))
            if rng.random() < 0.2:
                return In(
                    register, (Number(rng.randint(0, 9)), ErrorName("SIGSEGV"), Register(rng.choice(self.registers)))
                )
            right = Number(rng.randint(0, 9)) if rng.random() < 0.8 else ErrorName(rng.choice(("SIGSEGV", "EFAULT")))
            return Compare(register, "==" if rng.random() < 0.5 else "!=", right)
        if rng.random() < 0.2:
            return Query("mapped", (self.located(pins=False),))
        if rng.random() < 0.3:
            return Query("maybe_pinned", (self.located(),))
        return Query("same_page", (self.located(), self.located()))

    def located(self, pins: bool = True) -> Located:
        rng = self.rng
        if pins and self.pins and rng.random() < 0.5:
            pin = rng.choice(sorted(self.pins))
            taken = self.pins[pin].args[0]
            assert isinstance(taken, Place)
            mapping = next(m for m in self.memory if m.name == taken.name)
            pages = mapping.pages if taken.index is None else 1
            return Located(None, self.cell_of(Place(pin, rng.randrange(pages) if pages > 1 else None), mapping))
        return Located(rng.choice(self.processes), self.cell())
