"""A machine as a record of fixed shape: what compiled code reads where the interpreter reads a ``Machine``.

The shape is the same for every test and kernel, so one compilation serves them all: the layout's offsets, the programs
as one table of integers, and per question the number of the answer that this kernel gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cowcatcher.compiled.expand import ALWAYS, CHILD_UNBORN, PIN_FREE, PIN_IS_HELD, PIN_MAY_WRITE
from cowcatcher.explore.steps import OPS
from cowcatcher.kernels import QUESTIONS, Decision, Kernel
from cowcatcher.state import OP_ARGS, Machine, Op

MAX_TASKS, MAX_OPS, MAX_CODE = 16, 128, 4096
MAX_PAGES, MAX_PFN_FIELDS = 32, 240

#: Tables by task and statement, with one more for the end of the program; see explore.effects.
_BY_STATEMENT = (
    "alone", "may_write", "may_reach", "may_hold", "may_unbind", "may_unpin", "may_count", "may_weigh", "waits",
)  # fmt: skip
_TABLES = {"k", "programs", "regions", "cached", "hugetlb", "pfn_fields", "born", *_BY_STATEMENT}
_OFFSETS = [name for name in Machine._fields if name not in _TABLES]

RECORD = np.dtype(
    [(name, "i8") for name in _OFFSETS]
    + [
        ("stride", "i8"),
        ("n_regs", "i8"),
        ("width", "i8"),
        ("hunts", "i8"),
        ("begins", "i8"),  # 0: nobody begins a statement any more
        ("stay", "i8"),
        ("chooses", "i8", (MAX_TASKS,)),
        ("is_kernel", "i8", (MAX_TASKS,)),
        ("n_ops", "i8", (MAX_TASKS,)),
        ("op_at", "i8", (MAX_TASKS, MAX_OPS)),
        ("code", "i8", (MAX_CODE,)),
        ("guards", "i8", (MAX_CODE,)),
        ("regions", "i8", (MAX_PAGES, 2)),
        ("cached", "i8", (MAX_PAGES,)),
        ("hugetlb", "i8", (MAX_PAGES,)),
        *((name, "i8", (MAX_TASKS, MAX_OPS + 1)) for name in _BY_STATEMENT),
        ("born", "i8", (MAX_TASKS,)),
        ("endings", "i8"),  # address of a count, and then of the states in which the test is over; 0 for none
        ("endings_room", "i8"),
        ("targets", "i8"),  # address of states that are looked for among those
        ("n_targets", "i8"),
        ("n_pfn_fields", "i8"),
        ("pfn_fields", "i8", (MAX_PFN_FIELDS,)),
    ]
    + [(f"answer_{question}", "i8") for question in QUESTIONS]
    + [(f"asked_{question}", "i8") for question in QUESTIONS],  # by what has been executed with this record
    align=True,
)

_TAKES_PIN = {
    "pin", "ibv_reg_mr", "io_uring_register", "vfio_map", "xdp_umem", "vmsplice", "dio_block", "dio_nfs", "dio_fuse",
    "odp_reg_mr",
}  # fmt: skip


class TooLarge(Exception):
    """The test does not fit into the tables of the compiled model; the message says which."""


def context(
    m: Machine, kernel: Kernel, answers: Mapping[str, Sequence[Decision]], kernel_tasks: frozenset[int], hunts: bool
) -> Any:
    """The record for this machine on this kernel.

    ``answers`` are the answers that were compiled, by question. The kernel's own tasks do any of their statements
    whenever they are idle; in a hunt everybody does, and only beginning a statement costs.
    """
    _require("tasks", m.n_tasks, MAX_TASKS)
    _require("pages", m.n_pages, MAX_PAGES)
    _require("fields that name a frame", len(m.pfn_fields), MAX_PFN_FIELDS)
    record = np.zeros(1, RECORD)[0]
    for name in _OFFSETS:
        record[name] = getattr(m, name)
    at = 0
    for task, program in enumerate(m.programs):
        _require("statements of one actor", len(program), MAX_OPS)
        record["chooses"][task] = hunts or task in kernel_tasks
        record["is_kernel"][task] = task in kernel_tasks
        record["n_ops"][task] = len(program)
        for pc, op in enumerate(program):
            _require("statements", at + len(op), MAX_CODE)
            record["op_at"][task, pc] = at
            record["code"][at : at + len(op)] = op
            record["guards"][at] = guard_of(op)
            at += len(op)
    record["regions"][: m.n_pages] = np.array(m.regions, dtype="i8").reshape(-1, 2)  # of no page, too
    record["cached"][: m.n_pages] = m.cached
    record["hugetlb"][: m.n_pages] = m.hugetlb
    record["n_pfn_fields"] = len(m.pfn_fields)
    record["pfn_fields"][: len(m.pfn_fields)] = m.pfn_fields
    for name in _BY_STATEMENT:
        for task, row in enumerate(getattr(m, name)):
            record[name][task, : len(row)] = row
    record["born"][: m.n_tasks] = m.born
    record["stride"] = stride(m)
    record["n_regs"] = m.inherited - m.regs
    record["width"] = width(m)
    record["hunts"] = hunts
    record["begins"] = 1
    record["stay"] = 128 if hunts else 0
    for question in QUESTIONS:
        known = [decision.answer for decision in answers[question]]
        record[f"answer_{question}"] = known.index(kernel.decisions[question].answer)
    return record


def asked(record: Any) -> frozenset[str]:
    """The questions that were put to the kernel so far."""
    return frozenset(question for question in QUESTIONS if record[f"asked_{question}"])


def stride(m: Machine) -> int:
    """Bytes that a state takes in the engine."""
    return -(-m.size // 8) * 8


def width(m: Machine) -> int:
    """The most successors that a state can have."""
    return sum(max(len(program), 1) for program in m.programs)


def guard_of(op: Op) -> int:
    """What a hunt asks before it begins this statement."""
    name = OPS[op[0]][0]
    if name in ("fork", "vfork"):
        return CHILD_UNBORN
    if name in _TAKES_PIN:
        return PIN_FREE
    if name == "dma":
        return PIN_MAY_WRITE if op[OP_ARGS + 4] else PIN_IS_HELD
    return PIN_IS_HELD if name == "unpin" else ALWAYS


def _require(what: str, found: int, most: int) -> None:
    if found > most:
        raise TooLarge(f"{found} {what}; the compiled model has room for {most}")
