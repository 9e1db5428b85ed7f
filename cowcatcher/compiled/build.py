"""The model compiled: shadows of its modules, one function for all answers to a question, dispatch by number."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType
from typing import Any, cast

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from cowcatcher import state
from cowcatcher.compiled import expand as expand_module
from cowcatcher.compiled.source import Shadows, answer_body
from cowcatcher.engine import words
from cowcatcher.explore import canonical, checks, steps
from cowcatcher.kernels import QUESTIONS, Decision, all_decisions

#: In the order of their imports.
MODEL = (
    "mm.phases", "mm.page", "mm.swap", "mm.task", "mm.fault", "mm.zap", "mm.fork", "mm.gup", "mm.mlock", "mm.madvise",
    "mm.mprotect", "mm.reclaim", "device.dma", "device.interfaces", "explore.steps",
)  # fmt: skip

OPTIONS: Any = {
    "nogil": True,
    "boundscheck": False,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


def compile_function(function: Any) -> Any:
    """For functions that only compiled code calls. All integers are one type, so that each is compiled once.

    numba would make one version for ``finish(m, s, t, EFAULT)``, one for ``EINVAL``, one for a byte, and so on.
    """
    dispatcher: Any = numba.njit(**OPTIONS)(function)
    resolve = dispatcher.get_call_template

    def resolve_plainly(args: Any, keywords: Any) -> Any:
        return resolve(tuple(_plain(a) for a in args), keywords)

    dispatcher.get_call_template = resolve_plainly
    return dispatcher


def _plain(kind: Any) -> Any:
    return types.int64 if isinstance(kind, types.Integer | types.IntegerLiteral | types.Boolean) else kind


def answers(extra: Iterable[Decision] = ()) -> dict[str, list[Decision]]:
    """Every known answer to each question, and a user's own: what a compiled model can choose from."""
    found: dict[str, list[Decision]] = {question: [] for question in QUESTIONS}
    for decision in [*all_decisions(), *extra]:
        if decision.name not in [d.name for d in found[decision.question]]:
            found[decision.question].append(decision)
    return found


def _ask(question: str, decisions: list[Decision]) -> Any:
    """``ask_QUESTION(m, facts)``: the answer whose number the machine's record has."""
    facts: list[str] = []
    names: dict[str, Any] = {}
    tests = []
    for number, decision in enumerate(decisions):
        answer = decision.answer
        code = answer.__code__
        facts = [f"fact_{i}" for i in range(code.co_argcount)]
        names |= {f"{name}_{number}": value for name, value in answer.__globals__.items() if isinstance(value, int)}
        body = answer_body(cast(FunctionType, answer), dict(zip(code.co_varnames, facts, strict=False)), f"_{number}")
        test = ast.parse(f"if m.answer_{question} == {number}: pass").body[0]
        assert isinstance(test, ast.If)
        test.body = body
        tests.append(test)
    function = ast.parse(f"def ask({', '.join(['m', *facts])}):\n    return 0").body[0]
    assert isinstance(function, ast.FunctionDef)
    function.body = [*tests, *function.body]
    exec(compile(ast.fix_missing_locations(ast.Module([function], [])), f"<answers to {question}>", "exec"), names)
    return compile_function(names["ask"])


def _dispatch(name: str, numbered: Iterable[tuple[int, Any]]) -> Any:
    """``NAME(m, s, t, number)``: the step of that number."""
    names: dict[str, Any] = {}
    lines = [f"def {name}(m, s, t, number):"]
    for number, step in numbered:
        names[f"step_{number}"] = step
        lines.append(f"    if number == {number}:\n        return step_{number}(m, s, t)")
    exec("\n".join([*lines, "    return 0"]), names)
    return compile_function(names[name])


@intrinsic
def byte_at(typingctx, pointer, place):  # type: ignore[no-untyped-def]
    """A field of a state, as an integer of the usual size."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = context.cast(builder, args[1], signature.args[1], types.int64)
        return builder.zext(builder.load(builder.gep(args[0], [at])), ir.IntType(64))

    return types.int64(types.CPointer(types.uint8), place), codegen


ENGINE = {"beyond": words.beyond, "copy_state": words.copy_state, "byte_at": byte_at}


def shadows_of_model(extra: Iterable[Decision] = ()) -> Shadows:
    """Every module of the model, compiled on demand, and the answers to every question."""
    asks = {f"ask_{q}": _ask(q, decisions) for q, decisions in answers(extra).items()}
    bindings = asks | ENGINE
    bindings["current_op"] = compile_function(
        FunctionType(expand_module.current_op.__code__, vars(expand_module) | bindings)
    )
    shadows = Shadows(compile_function, bindings)
    shadows.add(state)
    for name in MODEL:
        module = sys.modules[f"cowcatcher.{name}"]
        shadows.add(module, only=["wait_process"] if name == "explore.steps" else None)
    shadows.add(canonical)
    shadows.add(checks, only=["broken_in_state", "promise_held", "_leads_to"])
    return shadows


def expand_of_model(extra: Iterable[Decision] = (), pair: bool = False) -> Any:
    """``expand`` (or ``expand_pair``) of the whole model, ready to be compiled into an engine."""
    shadows = shadows_of_model(extra)

    def shadow(step: Any) -> Any:
        return getattr(shadows.modules[step.__module__], step.__name__)

    names = vars(expand_module).copy()
    names |= shadows.bindings
    names["op_step"] = _dispatch("op_step", ((i, shadow(f)) for i, (_, f) in enumerate(steps.OPS)))
    names["phase_step"] = _dispatch(
        "phase_step",
        ((i, shadow(f)) for i, f in enumerate(steps.PHASE_STEPS) if f is not steps._not_a_phase),
    )
    names["canonicalize"] = shadow(canonical.canonicalize)
    names["broken_in_state"] = shadow(checks.broken_in_state)
    for name, function in vars(expand_module).items():
        if isinstance(function, FunctionType) and function.__module__ == expand_module.__name__:
            names[name] = compile_function(FunctionType(function.__code__, names))
    names["current_op"] = shadows.bindings["current_op"]
    return names["expand_pair" if pair else "expand"]


def source_of(decision: Decision) -> str:
    return inspect.getsource(decision.answer)


def sources() -> list[Path]:
    """Every file that compiled code depends on."""
    package = Path(state.__file__).parent
    rooms = [package / room for room in ("mm", "device", "kernels", "explore", "compiled")]
    return [package / "state.py", *(path for room in rooms for path in sorted(room.glob("*.py")))]
