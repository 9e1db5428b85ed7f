"""From the model's source to what a compiler understands, one rewriting rule at a time; and the model's answers."""

from __future__ import annotations

import ast
import itertools
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cowcatcher.compiled.source import Shadows, answer_body, functions_of, rewritten
from cowcatcher.kernels import decision
from cowcatcher.state import BROKEN


def rewrite(text: str) -> str:
    function = ast.parse(text).body[0]
    assert isinstance(function, ast.FunctionDef)
    return ast.unparse(ast.fix_missing_locations(rewritten(function)))


def body(text: str) -> str:
    """One statement of a function as it is compiled."""
    return "\n".join(line.strip() for line in rewrite(f"def f(m, s, t):\n    {text}").splitlines()[1:])


@pytest.mark.parametrize(
    ("written", "compiled"),
    [
        ("x = m.k.wp_can_reuse(a, b)", "x = ask_wp_can_reuse(m, a, b)"),
        ("return machine.k.foll_xdp()", "return ask_foll_xdp(machine)"),
        ("return m.k.f(m.k.g(s[1]))", "return ask_f(m, ask_g(m, byte_at(s, 1)))"),
        ("x = s[t + 1]", "x = byte_at(s, t + 1)"),
        ("x = s[s[t]]", "x = byte_at(s, byte_at(s, t))"),
        ("s[t] = 1", "s[t] = 1"),
        ("s[s[t]] = 1", "s[byte_at(s, t)] = 1"),
        ("s[t] += 1", "s[t] = byte_at(s, t) + 1"),
        ("s[t] |= s[u]", "s[t] = byte_at(s, t) | byte_at(s, u)"),
        ("table[t] += 1", "table[t] += 1"),
        ("x = table[t]", "x = table[t]"),
        ("n = len(m.programs[i])", "n = m.n_ops[i]"),
        ("n = len(other)", "n = len(other)"),
        ("return current_op(m, s, t)[2]", "return m.code[current_op(m, s, t) + 2]"),
        ("op = current_op(m, s, t)\n    return op[2]", "op = current_op(m, s, t)\nreturn m.code[op + 2]"),
        ("return op[2]", "return op[2]"),
        ("return m.cached[page]", "return m.cached[page]"),
    ],
)
def test_expressions(written: str, compiled: str) -> None:
    assert body(written) == compiled


def test_types_docstrings_and_decorators_go() -> None:
    text = '@cache\ndef f(m: Machine, s: State) -> int:\n    """What it does."""\n    return 1'
    assert rewrite(text) == "def f(m, s):\n    return 1"
    assert rewrite('def f(m):\n    """Nothing."""') == "def f(m):\n    pass"


def test_loops_over_tables_of_the_machine() -> None:
    """A record's tables are of fixed size: only so many entries of them mean anything."""
    text = "for a in m.pfn_fields:\n        for b in m.pfn_fields:\n            s[a] = b"
    assert body(text).splitlines() == [
        "for _pfn_fields_2 in range(m.n_pfn_fields):",
        "a = m.pfn_fields[_pfn_fields_2]",
        "for _pfn_fields_1 in range(m.n_pfn_fields):",
        "b = m.pfn_fields[_pfn_fields_1]",
        "s[a] = b",
    ]
    assert body("for a in range(3):\n        pass").startswith("for a in range(3):")


@decision("fork_copies_now")
def of_a_user(has_pinned: int, pinned: int, exclusive: int) -> int:
    """Some words."""
    both = min(has_pinned, pinned) + BROKEN
    return both + exclusive


def test_the_names_of_an_answer() -> None:
    """Facts and what is assigned get the names that are asked for; what Python has stays."""
    names = {f: f"fact_{i}" for i, f in enumerate(("has_pinned", "pinned", "exclusive"))}
    names |= {"both": "both_3", "BROKEN": "BROKEN_3"}
    found = answer_body(of_a_user.answer, names)  # type: ignore[arg-type]
    assert [ast.unparse(ast.fix_missing_locations(s)) for s in found] == [
        "both_3 = min(fact_0, fact_1) + BROKEN_3",
        "return both_3 + fact_2",
    ]


LOWER = """
LIMIT = 3
WORDS = {}

def low(m, s):
    return s[0] + LIMIT

def skipped():
    return [word for word in WORDS]
"""
UPPER = """
import lower as lw
from lower import low

def up(m, s):
    return low(m, s) + lw.low(m, s) + m.k.q(1)
"""


def test_shadows_call_one_another(tmp_path: Any) -> None:
    """A shadow's functions are the compiled ones, also where one module has them from another; the rest is bound."""
    (tmp_path / "lower.py").write_text(LOWER)
    (tmp_path / "upper.py").write_text(UPPER)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        import lower  # type: ignore[import-not-found]
        import upper  # type: ignore[import-not-found]

        compiled: list[str] = []

        def compile_function(function: Any) -> Any:
            compiled.append(function.__name__)
            return function

        shadows = Shadows(compile_function, {"byte_at": lambda s, i: 10 * s[i], "ask_q": lambda m, fact: 1000 * fact})
        shadows.add(lower, only=["low"])
        shadow: ModuleType = shadows.add(upper)
        assert functions_of(upper)[1].keys() == {"up"}
    assert compiled == ["low", "up"]
    assert shadow.up(SimpleNamespace(), [4]) == 2 * (40 + 3) + 1000
    assert not hasattr(shadows.modules["lower"], "WORDS")


# --- answers compiled -------------------------------------------------------------------------------------------------

FACTS = (0, 1, 2, 3, 1024, 1026)


def test_answers_are_those_of_the_model() -> None:
    """Every known answer to every question, on facts small and large."""
    numba = pytest.importorskip("numba", reason="numba is not installed")
    from cowcatcher.compiled import build

    for question, decisions in build.answers().items():
        for found in decisions:
            names: dict[str, Any] = {}
            function = build._function(build._facts(found), "pass")
            function.body += build._answer(found, 7, names)
            compiled = numba.njit(build._executed(function, "<answer>", names))
            facts = list(itertools.product(FACTS, repeat=len(build._facts(found))))
            for chosen in facts[:: max(1, len(facts) // 60)]:
                assert compiled(*chosen) == found.answer(*chosen), (question, found.name, chosen)
