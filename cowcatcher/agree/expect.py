"""What the model says of a test's end, as far as a real kernel can be asked the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from cowcatcher import state as st
from cowcatcher.explore.claims import Value
from cowcatcher.explore.ordered import Prediction, predict
from cowcatcher.explore.program import NotModelled, Program, compile_test, initial_state
from cowcatcher.kernels import Kernel
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.order import NoOrder, argument, ordered


class ModelPage(NamedTuple):
    """A page as one process has it in the model. ``other``: none, the zero page, or the page cache's."""

    state: Literal["anon", "swapped", "other"]
    mapcount: int = 0
    swapcache: bool = False
    lazyfree: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """``deaths``: process -> "exit" or the signal's name; ``pages``: by process, mapping and index, the living only."""

    registers: dict[str, Value]
    queries: dict[str, bool]
    deaths: dict[str, str]
    pages: dict[tuple[str, str, int], ModelPage]


def expect(test: Test, on: Kernel) -> Expected | str:
    """How the ordered form of ``test`` ends on this modelled kernel, or why the model does not say."""
    try:
        program = compile_test(test)
        said = predict(test, on)
        if _dirtied_early(test):
            return "a direct read that has arrived in part has dirtied its page on a real kernel, not in the model"
    except (NotModelled, NoOrder) as e:
        return str(e)
    m = program.on(on.rules())
    last = said.steps[-1].state if said.steps else bytes(initial_state(program, m))
    return Expected(said.registers, said.queries, deaths(program, said), _pages(program, m, last))


#: File systems whose direct reads make pages dirty in the end only.
_END_ONLY: Final = {"FUSE", "NFS"}


def _dirtied_early(test: Test) -> bool:
    """Is memory given up by MADV_FREE that a direct read in flight has written to, and that fork may have shared?

    On a real kernel each dma_write is a request of its own, and its end makes the page dirty; in the model the whole
    read is one request, which ends with unpin. MADV_FREE leaves a page alone that is dirty and shared. Block devices
    make pages dirty at the beginning, too.
    """
    steps = [step.statement for step in ordered(test)]
    if not any(s.op == "fork" for s in steps):
        return False
    reads = {s.target: argument(s) for s in steps if s.op == "dio_read" and argument(s, len(s.args) - 1) in _END_ONLY}
    arrived: set[str] = set()
    for s in steps:
        if s.op in ("dma_write", "unpin") and argument(s) in reads:
            arrived = arrived | {argument(s)} if s.op == "dma_write" else arrived - {argument(s)}
        elif s.op == "madvise" and argument(s, 1) == "FREE" and argument(s) in {reads[pin] for pin in arrived}:
            return True
    return False


def deaths(program: Program, said: Prediction) -> dict[str, str]:
    """Who has ended in the model, and of what: "exit" or the signal's name, as a run on a kernel reports it."""
    m = program.layout
    found: dict[str, str] = {}
    for step in said.steps:
        for i, process in enumerate(program.names.processes):
            if process not in found and step.state[m.procs + i * st.PROC_SIZE + st.P_STATE] == st.EXITING:
                at = step.state[m.tasks + step.task * st.TASK_SIZE + st.T_PC]
                ended_by = program.tasks[step.task].statements[at]
                found[process] = "exit" if getattr(ended_by, "op", "") == "exit" else "SIGSEGV"
    return found


def _pages(program: Program, m: st.Machine, s: bytes) -> dict[tuple[str, str, int], ModelPage]:
    found: dict[tuple[str, str, int], ModelPage] = {}
    for i, process in enumerate(program.names.processes):
        at = m.procs + i * st.PROC_SIZE
        if s[at + st.P_STATE] != st.RUNNING or not s[at + st.P_MM]:
            continue
        for mapping in program.test.memory:
            for index in range(mapping.pages):
                page = program.names.page_of[mapping.name] + index
                found[process, mapping.name, index] = _page(m, s, st.pte_at(m, s[at + st.P_MM] - 1, page))
    return found


def _page(m: st.Machine, s: bytes, pte: int) -> ModelPage:
    if s[pte + st.PTE_SLOT]:
        return ModelPage("swapped")
    folio = st.folio_at(m, s[pte + st.PTE_PFN])
    if not s[pte + st.PTE_BITS] & st.PRESENT or s[folio + st.KIND] != st.ANON:
        return ModelPage("other")
    return ModelPage("anon", s[folio + st.MAPCOUNT], bool(s[folio + st.SWAPCACHE]), bool(s[folio + st.LAZYFREE]))
