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
from cowcatcher.compiled import context, source
from cowcatcher.compiled import expand as expand_module
from cowcatcher.compiled.source import Shadows, answer_body
from cowcatcher.engine import words
from cowcatcher.explore import canonical, checks, commuting, steps
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
        if all(d.answer is not decision.answer for d in found[decision.question]):
            found[decision.question].append(decision)
    return found


class CannotCompile(Exception):
    """A decision that uses more than numbers; the message names it."""


def _ask(question: str, decisions: list[Decision]) -> Any:
    """``ask_QUESTION(m, facts)``: the answer whose number the machine's record has. It notes that it was asked."""
    names: dict[str, Any] = {}
    function = _function(["m", *_facts(decisions[0])], f"if not m.asked_{question}:\n    m.asked_{question} = 1")
    for number, decision in enumerate(decisions):
        test = ast.parse(f"if m.answer_{question} == {number}: pass").body[0]
        assert isinstance(test, ast.If)
        test.body = _answer(decision, number, names)
        function.body.append(test)
    return compile_function(_executed(function, f"<answers to {question}>", names))


def _facts(decision: Decision) -> list[str]:
    return [f"fact_{i}" for i in range(decision.answer.__code__.co_argcount)]


def _answer(decision: Decision, number: int, names: dict[str, Any]) -> list[ast.stmt]:
    """The statements of an answer; the numbers that its file names go to ``names``, under names of their own."""
    code = decision.answer.__code__
    known = {name: value for name, value in decision.answer.__globals__.items() if isinstance(value, int)}
    names |= {f"{name}_{number}": value for name, value in known.items()}
    own = {name: f"{name}_{number}" for name in (*known, *code.co_varnames)}
    return answer_body(
        cast(FunctionType, decision.answer), own | dict(zip(code.co_varnames, _facts(decision), strict=False))
    )


def _function(arguments: list[str], first: str) -> ast.FunctionDef:
    function = ast.parse(f"def ask({', '.join(arguments)}):\n    pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    function.body = ast.parse(first).body
    return function


def _executed(function: ast.FunctionDef, file: str, names: dict[str, Any]) -> Any:
    function.body.append(ast.Return(ast.Constant(0)))
    exec(compile(ast.fix_missing_locations(ast.Module([function], [])), file, "exec"), names)
    return names["ask"]


def require_compilable(decision: Decision) -> None:
    """Compile a user's decision alone, which takes a moment, so that what is wrong with it can be said by its name.

    Raises CannotCompile.
    """
    names: dict[str, Any] = {}
    try:
        function = _function(_facts(decision), "pass")
        function.body += _answer(decision, 0, names)
        alone = numba.njit(**OPTIONS)(_executed(function, f"<{decision.name}>", names))
        alone.compile((types.int64,) * len(_facts(decision)))
    except (numba.core.errors.NumbaError, NameError, AssertionError, SyntaxError, OSError, TypeError) as why:
        said = next((line.strip() for line in str(why).splitlines() if "rror" in line or "nsupported" in line), "")
        raise CannotCompile(
            f"the decision '{decision.name}' cannot be compiled{': ' + said if said else ''}; "
            "it may use numbers, comparisons, min, max and abs, and no other functions"
        ) from why


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


@intrinsic
def fetch_add(typingctx, address, more):  # type: ignore[no-untyped-def]
    """Add to the 64-bit number at an address, whichever threads do so at a time; what it was before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        more = context.cast(builder, args[1], signature.args[1], types.int64)
        return builder.atomic_rmw("add", builder.inttoptr(args[0], word.as_pointer()), more, "monotonic")

    return types.int64(types.int64, more), codegen


ENGINE = {
    "beyond": words.beyond, "copy_state": words.copy_state, "byte_at": byte_at, "bytes_at": words.bytes_at,
    "load_word": words.load_word, "fetch_add": fetch_add,
}  # fmt: skip


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
    shadows.add(commuting)
    shadows.add(checks, only=["broken_in_state", "promise_held", "left_over", "_leads_to", "_counts_left"])
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
    names["goes_alone"] = shadow(commuting.goes_alone)
    for check in (checks.broken_in_state, checks.promise_held, checks.left_over):
        names[check.__name__] = shadow(check)
    for name, function in vars(expand_module).items():
        if isinstance(function, FunctionType) and function.__module__ == expand_module.__name__:
            names[name] = compile_function(FunctionType(function.__code__, names))
    names["current_op"] = shadows.bindings["current_op"]
    return names["expand_pair" if pair else "expand"]


def source_of(decision: Decision) -> str:
    return inspect.getsource(decision.answer)


def numbers_of(decision: Decision) -> list[tuple[str, int]]:
    """What its file calls numbers: a part of what the compiled answer is made of."""
    names = decision.answer.__code__.co_names
    return [(n, v) for n in names if isinstance(v := decision.answer.__globals__.get(n), int)]


def sources() -> list[Path]:
    """Every file that compiled code depends on."""
    package = Path(state.__file__).parent
    rooms = [package / room for room in ("mm", "device", "kernels")]
    modules = (state, canonical, checks, commuting, steps, expand_module, context, source, sys.modules[__name__])
    return [
        *(Path(str(module.__file__)) for module in modules),
        *(path for room in rooms for path in sorted(room.glob("*.py"))),
    ]
