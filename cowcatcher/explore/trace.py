"""A witness told step by step: which kernel function ran, what it was asked to decide, and what it changed.

The search keeps states under canonical frame numbers, which change from one state to the next. Here the same steps are
taken once more without renumbering, so that page A stays page A from beginning to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cowcatcher import state as st
from cowcatcher.explore.canonical import canonicalize
from cowcatcher.explore.claims import decode
from cowcatcher.explore.footprint import Asked as Record
from cowcatcher.explore.footprint import recording
from cowcatcher.explore.program import Program, initial_state
from cowcatcher.explore.steps import OP_STEPS, PHASE_STEPS
from cowcatcher.explore.verdict import Step
from cowcatcher.kernels import Kernel
from cowcatcher.litmus import statement_text
from cowcatcher.litmus.ast import KernelMay
from cowcatcher.mm import page as pg
from cowcatcher.mm import phases
from cowcatcher.state import Machine, State

#: What is shown of a state: subject -> field -> text.
Picture = dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Change:
    """One field that a step changed. ``before`` is empty for what did not exist, ``after`` for what is gone."""

    subject: str
    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A question put to the kernel in this step, and its answer."""

    question: str
    decision_name: str
    facts: dict[str, int]
    answer: int


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One step of a witness. ``result`` is what the statement's register got, when the step ended it."""

    number: int
    task: int
    actor: str
    statement: str
    step: str
    changes: tuple[Change, ...]
    asked: tuple[Asked, ...]
    result: str | None


class NotReplayed(Exception):
    """A witness that these decisions do not follow: it belongs to another kernel."""


def trace(program: Program, kernel: Kernel, witness: Sequence[Step]) -> list[TraceStep]:
    """Take the steps of ``witness`` again on ``kernel``. Raises NotReplayed."""
    rules, record = recording(kernel)
    m = program.on(rules)
    s = initial_state(program, m)
    letters = _Letters(m, s)
    before = picture(program, m, s, letters)
    steps = []
    for number, step in enumerate(witness, 1):
        record.clear()  # keep what is asked in this step only
        taken = _take(m, s, step)
        letters.update(taken)
        after = picture(program, m, taken, letters)
        steps.append(_describe(program, m, kernel, number, step.task, s, taken, _diff(before, after), record))
        s, before = taken, after
    return steps


def initial_picture(program: Program, kernel: Kernel) -> Picture:
    """What there is before the first step."""
    m = program.on(kernel.rules())
    s = initial_state(program, m)
    return picture(program, m, s, _Letters(m, s))


def _take(m: Machine, s: State, step: Step) -> State:
    """The task's step, without renumbering; of an idle kernel task's several, the one that the witness took."""
    t = m.tasks + step.task * st.TASK_SIZE
    phase = s[t + st.T_PHASE]
    starts = [s[t + st.T_PC]] if phase or s[t + st.T_PROC] else range(len(m.programs[step.task]))
    for pc in starts:
        taken = list(s)
        taken[t + st.T_PC] = pc
        run = PHASE_STEPS[phase] if phase else OP_STEPS[m.programs[step.task][pc][0]]
        if run(m, taken, t):
            taken[st.BROKEN] = 0
            for candidate in (taken, _rested(taken, t)):
                named = list(candidate)
                canonicalize(m, named)
                if bytes(named) == step.state:
                    return candidate
    raise NotReplayed(f"task {step.task} cannot take this step")


def _rested(s: State, t: int) -> State:
    """A kernel task between two actions forgets its program counter (see successors)."""
    rested = list(s)
    rested[t + st.T_PC] = 0
    return rested


class _Letters:
    """Page names: A, B, C … in the order in which frames come into use; a frame used again is another page."""

    def __init__(self, m: Machine, s: State) -> None:
        self._m = m
        self._names: dict[int, str] = {}
        self._count = 0
        self.update(s)

    def update(self, s: State) -> None:
        named = {s[field] for field in self._m.pfn_fields}
        for pfn in range(st.FIRST_PFN, self._m.n_pfns):
            used = s[st.folio_at(self._m, pfn) + st.KIND] != st.FREE
            if used and pfn not in self._names:
                self._names[pfn] = _letter(self._count)
                self._count += 1
            elif not used and pfn not in named:
                self._names.pop(pfn, None)

    def __call__(self, pfn: int) -> str:
        return "zero page" if pfn == st.ZERO_PFN else f"page {self._names.get(pfn, '?')}"


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"P{number}"


# --- a picture of a state ---------------------------------------------------------------------------------------------


def picture(program: Program, m: Machine, s: State, letters: _Letters) -> Picture:
    """Everything a reader may want to see of a state, in words."""
    shown: Picture = {}
    for index, process in enumerate(program.names.processes):
        _show_process(program, m, s, letters, shown, index, process)
    for pfn in range(st.FIRST_PFN, m.n_pfns):
        folio = st.folio_at(m, pfn)
        if s[folio + st.KIND] != st.FREE:
            shown[letters(pfn)] = _page_fields(program, m, s, pfn, folio)
    for pin, name in enumerate(program.names.pins):
        handle = st.pin_at(m, pin)
        held = ("", "being taken", "held", "released")[s[handle + st.PIN_HELD]]
        if held:
            first, end = program.names.pin_range[pin]
            pfns = [s[st.pin_page_at(m, pin, i) + st.PIN_PFN] for i in range(end - first)]
            where = ", ".join(letters(p) for p in pfns if p)
            shown[f"pin {name}"] = {"state": held} | ({"on": where} if where else {})
    for index, event in enumerate(program.names.events):
        if s[m.events + index]:
            shown[f"event {event}"] = {"count": str(s[m.events + index])}
    for index, register in enumerate(program.names.registers):
        value = decode(s[m.regs + index])
        if value is not None:
            shown[f"register {register}"] = {"value": str(value)}
    return shown


def _show_process(
    program: Program, m: Machine, s: State, letters: _Letters, shown: Picture, index: int, process: str
) -> None:
    at = m.procs + index * st.PROC_SIZE
    shown[process] = {"state": ("not started", "running", "exiting", "exited")[s[at + st.P_STATE]]}
    mm = st.mm_at(m, index)
    if s[mm + st.MM_HAS_PINNED]:
        shown[process]["has_pinned"] = "1"
    if s[mm + st.MM_WP_SEQ]:
        shown[process]["write_protect_seq"] = str(s[mm + st.MM_WP_SEQ])
    if s[mm + st.MM_LOCK]:
        lock = s[mm + st.MM_LOCK]
        shown[process]["mmap_lock"] = "write" if lock == st.MMAP_WRITER else f"read x{lock}"
    for page, name in enumerate(program.names.pages):
        vma = s[st.vma_at(m, index, page)]
        if vma & st.VM_MAPPED:
            shown[f"{process}:{name}"] = {"vma": _vma_text(vma), "pte": _pte_text(m, s, index, page, letters)}


def _vma_text(vma: int) -> str:
    words = ["rw" if vma & st.VM_WRITE else "r" if vma & st.VM_READ else "none"]
    flags = (
        (st.VM_SHARED, "shared"),
        (st.VM_DONTCOPY, "dontfork"),
        (st.VM_WIPEONFORK, "wipeonfork"),
        (st.VM_LOCKED, "locked"),
    )
    return " ".join(words + [word for flag, word in flags if vma & flag])


def _pte_text(m: Machine, s: State, mm: int, page: int, letters: _Letters) -> str:
    pte = st.pte_at(m, mm, page)
    bits = s[pte + st.PTE_BITS]
    if s[pte + st.PTE_SLOT]:
        return f"swap {s[pte + st.PTE_SLOT]}" + (" exclusive" if bits & st.SWP_EXCLUSIVE else "")
    if not bits & st.PRESENT:
        return "none"
    protected = " uffd-wp" if bits & st.UFFD_WP else ""
    return f"{letters(s[pte + st.PTE_PFN])} {'rw' if bits & st.WRITE else 'r'}{protected}"


def _page_fields(program: Program, m: Machine, s: State, pfn: int, folio: int) -> dict[str, str]:
    fields = {
        "refcount": str(pg.folio_ref_count(s, folio)),
        "mapcount": str(pg.folio_mapcount(s, folio)),
        "holds": _contents(program, m, s, pfn, folio),
    }
    flags = (
        (st.PINS, "pins"),
        (st.EXCLUSIVE, "exclusive"),
        (st.SWAPCACHE, "swapcache"),
        (st.LRU_BATCH, "lru batch"),
        (st.LOCKED, "locked"),
        (st.LAZYFREE, "lazyfree"),
    )
    fields |= {word: str(s[folio + flag]) for flag, word in flags if s[folio + flag]}
    if s[folio + st.LOCKED]:
        fields["locked"] = f"by {program.tasks[s[folio + st.LOCKED] - 1].name}"
    return fields


def _contents(program: Program, m: Machine, s: State, pfn: int, folio: int) -> str:
    """Cell values; with names, if the mapping names its cells."""
    names = next((program.names.cells[p] for p in _pages_of(program, m, s, pfn)), ("",))
    values = [s[folio + st.DATA + 2 * i] for i in range(len(names))]
    return ",".join(f"{n}={v}" if n else str(v) for n, v in zip(names, values, strict=True))


def _pages_of(program: Program, m: Machine, s: State, pfn: int) -> list[int]:
    """Virtual pages at which a frame is or was known: by a page table, the page cache, a pin."""
    found = [p for p in range(m.n_pages) if s[m.cache + p] == pfn]
    found += [p for mm in range(m.n_procs) for p in range(m.n_pages) if s[st.pte_at(m, mm, p) + st.PTE_PFN] == pfn]
    for pin, (first, end) in enumerate(program.names.pin_range):
        found += [first + i for i in range(end - first) if s[st.pin_page_at(m, pin, i) + st.PIN_PFN] == pfn]
    tasks = range(m.tasks, m.tasks + m.n_tasks * st.TASK_SIZE, st.TASK_SIZE)
    found += [
        s[t + st.T_PAGE] for t in tasks if pfn in (s[t + st.T_NEW], s[t + st.T_OLD]) and s[t + st.T_PAGE] < m.n_pages
    ]
    return found


def _diff(before: Picture, after: Picture) -> tuple[Change, ...]:
    changes = []
    for subject in [*before, *(name for name in after if name not in before)]:
        old, new = before.get(subject, {}), after.get(subject, {})
        for field in [*old, *(f for f in new if f not in old)]:
            if old.get(field, "") != new.get(field, ""):
                changes.append(Change(subject, field, old.get(field, ""), new.get(field, "")))
    return tuple(changes)


# --- a step in words --------------------------------------------------------------------------------------------------


def _describe(
    program: Program, m: Machine, kernel: Kernel, number: int, task: int, before: State, after: State,
    changes: tuple[Change, ...], record: Record,
) -> TraceStep:  # fmt: skip
    t = m.tasks + task * st.TASK_SIZE
    info = program.tasks[task]
    pc = before[t + st.T_PC] if before[t + st.T_PHASE] or info.kind != "kernel" else after[t + st.T_PC]
    statement = info.statements[pc] if pc < len(info.statements) else None
    if statement is None:
        text = "(killed)"
    elif isinstance(statement, KernelMay):
        text = f"kernel may {statement.action}"
    else:
        text = statement_text(statement)
    asked = tuple(
        Asked(
            question, kernel.decisions[question].name, dict(zip(_facts(kernel, question), facts, strict=True)), answer
        )
        for (question, facts), answer in record.items()
    )
    ended = after[t + st.T_PC] != before[t + st.T_PC] and info.kind != "kernel"
    register = m.programs[task][pc][st.OP_REG] if ended else 0
    result = str(decode(after[m.regs + register - 1])) if register else None
    return TraceStep(number, task, info.name, text, _step_name(before, after, t, asked, text), changes, asked, result)


def _facts(kernel: Kernel, question: str) -> tuple[str, ...]:
    code = kernel.decisions[question].answer.__code__
    return code.co_varnames[: code.co_argcount]


def _step_name(before: State, after: State, t: int, asked: tuple[Asked, ...], text: str) -> str:
    """The kernel function(s) that this step stands for."""
    phase = before[t + st.T_PHASE]
    names = [phases.STEP_NAMES[phase]] if phase else []
    if not phase and after[t + st.T_PC] == before[t + st.T_PC]:
        is_access = text.startswith(("store(", "load(")) or " = load(" in text
        names.append("page fault" if is_access else _verb(text))
    if any(a.question.startswith("wp_") for a in asked) or after[t + st.T_PHASE] == phases.WP_PAGE_COPY:
        names.append("do_wp_page")
    if after[t + st.T_PHASE] == phases.DO_SWAP_PAGE_MAP and phase != phases.DO_SWAP_PAGE_MAP:
        names.append("do_swap_page")
    return ": ".join(names) or _verb(text)


def _verb(text: str) -> str:
    return text.split(" = ", 1)[-1].split("(", 1)[0]
