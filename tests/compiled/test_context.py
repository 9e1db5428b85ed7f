"""A machine as a record: what it says, and what is too large for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("numba", reason="numba is not installed")

from cowcatcher.compiled.build import answers
from cowcatcher.compiled.context import MAX_CODE, MAX_OPS, MAX_PAGES, MAX_TASKS, TooLarge, asked, context, stride
from cowcatcher.explore.program import compile_test
from cowcatcher.kernels import QUESTIONS, kernel
from cowcatcher.litmus import parse
from cowcatcher.litmus.ast import Test
from cowcatcher.state import Machine

SMALL = "test small\nmemory { x = anon(1, pages=2) }\nprocess p { store(x[1], 2); r = load(x[0]) }\n"


def record_of(test: Test, on: str = "v6.12") -> tuple[Machine, Any]:
    k = kernel(on)
    m = compile_test(test).on(k.rules())
    return m, context(m, k, answers(), frozenset(), False)


def test_offsets_and_programs() -> None:
    m, record = record_of(parse(SMALL, "t.cow"))
    assert all(record[name] == getattr(m, name) for name in ("size", "ptes", "folios", "regs", "n_pages", "folio_size"))
    at = record["op_at"][0]
    ops = [tuple(record["code"][at[i] : at[i] + len(op)]) for i, op in enumerate(m.programs[0])]
    assert tuple(ops) == m.programs[0]
    assert record["n_ops"][0] == len(m.programs[0])
    assert tuple(record["pfn_fields"][: record["n_pfn_fields"]]) == m.pfn_fields
    assert record["stride"] == stride(m)
    assert stride(m) % 8 == 0
    assert 0 <= stride(m) - m.size < 8
    assert record["n_regs"] == 1
    assert not asked(record)


def test_no_memory_at_all() -> None:
    """As the last things that shrinking tries have it."""
    m, record = record_of(replace(parse(SMALL, "t.cow"), memory=(), actors=()))
    assert (m.n_pages, record["n_pages"], record["n_tasks"]) == (0, 0, 0)


def test_answers_by_number() -> None:
    for name in ("v5.7", "v5.9-rc4", "v6.12"):
        _, record = record_of(parse(SMALL, "t.cow"), name)
        for question in QUESTIONS:
            assert answers()[question][record[f"answer_{question}"]] is kernel(name).decisions[question]


def larger(threads: int = 1, statements: int = 2, pages: int = 2) -> Test:
    """More than a test may have: the parser would not let it pass."""
    test = parse(SMALL, "t.cow")
    (process,) = test.actors
    body = process.body[:1] * statements
    actors = [replace(process, kind="thread" if i else "process", name=f"t{i}", process="t0", body=body)
              for i in range(threads)]  # fmt: skip
    return replace(test, memory=(replace(test.memory[0], pages=pages),), actors=tuple(actors))


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (larger(threads=MAX_TASKS + 1), f"{MAX_TASKS + 1} tasks; the compiled model has room for {MAX_TASKS}"),
        (larger(statements=MAX_OPS + 1), f"{MAX_OPS + 1} statements of one actor; the compiled model has room for"),
        (larger(threads=14, statements=MAX_OPS), f"statements; the compiled model has room for {MAX_CODE}"),
        (larger(pages=MAX_PAGES + 1), f"{MAX_PAGES + 1} pages; the compiled model has room for {MAX_PAGES}"),
    ],
    ids=["tasks", "statements of one", "statements", "pages"],
)
def test_too_large(test: Test, said: str) -> None:
    with pytest.raises(TooLarge) as error:
        record_of(test)
    assert said in str(error.value)
