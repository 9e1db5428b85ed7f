"""From the model's source to functions that a compiler understands. No rule of the model is restated here.

The functions of ``mm/`` and ``device/`` are written on plain integers, so little has to change:

- annotations and docstrings go;
- ``m.k.QUESTION(facts)`` becomes ``ask_QUESTION(m, facts)``: a kernel is data, and the code is the same for all;
- ``op[i]``, an operand of the statement at hand, becomes ``m.code[op + i]``; ``current_op()`` gives its place;
- ``s[i]``, where it is read, becomes ``byte_at(s, i)``, which gives an integer of the usual size: else every function
  would be compiled once for bytes and once more for integers;
- ``for x in m.NAME`` over one of the machine's tuples becomes a loop over its first ``m.n_NAME`` entries, since the
  record that stands for the machine holds tables of fixed size;
- ``len(m.programs[i])`` becomes ``m.n_ops[i]``.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from types import FunctionType, ModuleType
from typing import Any

_CURRENT_OP, _STATE = "current_op", "s"


class _Rewrite(ast.NodeTransformer):
    """One function."""

    def __init__(self, ops: set[str]) -> None:
        self.ops = ops  # names that hold the statement at hand
        self.loops = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        node.decorator_list = []
        for argument in node.args.args:
            argument.annotation = None
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        f = node.func
        if isinstance(f, ast.Attribute) and isinstance(f.value, ast.Attribute) and f.value.attr == "k":
            return ast.Call(ast.Name(f"ask_{f.attr}", ast.Load()), [f.value.value, *node.args], [])
        if isinstance(f, ast.Name) and f.id == "len" and _attribute(node.args[0], "programs"):
            programs = node.args[0]
            assert isinstance(programs, ast.Subscript)
            assert isinstance(programs.value, ast.Attribute)
            table = ast.Attribute(programs.value.value, "n_ops", ast.Load())
            return ast.Subscript(table, programs.slice, ast.Load())
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        value = node.value
        is_op = isinstance(value, ast.Name) and value.id in self.ops
        if is_op or (isinstance(value, ast.Call) and _is_current_op(value)):
            code = ast.Attribute(ast.Name("m", ast.Load()), "code", ast.Load())
            return ast.Subscript(code, ast.BinOp(value, ast.Add(), node.slice), node.ctx)
        if isinstance(value, ast.Name) and value.id == _STATE and isinstance(node.ctx, ast.Load):
            return ast.Call(ast.Name("byte_at", ast.Load()), [value, node.slice], [])
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        target = node.target
        if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name) and target.value.id == _STATE:
            read = ast.Call(ast.Name("byte_at", ast.Load()), [target.value, target.slice], [])
            return ast.Assign([target], ast.BinOp(read, node.op, node.value))
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        table = node.iter
        if isinstance(table, ast.Attribute) and isinstance(table.value, ast.Name) and table.value.id == "m":
            self.loops += 1
            i = f"_{table.attr}_{self.loops}"
            count = ast.Attribute(table.value, f"n_{table.attr}", ast.Load())
            entry = ast.Subscript(table, ast.Name(i, ast.Load()), ast.Load())
            return ast.For(
                ast.Name(i, ast.Store()),
                ast.Call(ast.Name("range", ast.Load()), [count], []),
                [ast.Assign([node.target], entry), *node.body],
                [],
            )
        return node


def _attribute(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == name


def _is_current_op(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == _CURRENT_OP


def _names_of_ops(function: ast.FunctionDef) -> set[str]:
    return {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _is_current_op(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def rewritten(function: ast.FunctionDef) -> ast.FunctionDef:
    """The function as it is compiled."""
    found = _Rewrite(_names_of_ops(function)).visit(function)
    assert isinstance(found, ast.FunctionDef)
    return found


def functions_of(module: ModuleType) -> tuple[str, dict[str, ast.FunctionDef]]:
    """The file of a module, and its top-level functions by name."""
    file = inspect.getsourcefile(module)
    assert file is not None
    tree = ast.parse(inspect.getsource(module))
    return file, {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


class _Rename(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)


def answer_body(answer: FunctionType, names: Mapping[str, str]) -> list[ast.stmt]:
    """The statements of a decision's function under other names.

    So the answers to one question can stand in one function, each under its own condition.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(answer))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    return [_Rename(names).visit(statement) for statement in body]


class Shadows:
    """Modules of the model again, under the same names, with ``compile_function`` applied to every function.

    Modules must be added in the order of their imports: what one takes from another is looked up among the shadows.
    ``bindings`` are names that every function sees beside its module's own.
    """

    def __init__(self, compile_function: Any, bindings: Mapping[str, Any]) -> None:
        self.compile_function = compile_function
        self.bindings = dict(bindings)
        self.modules: dict[str, ModuleType] = {}

    def add(self, module: ModuleType, only: Iterable[str] | None = None) -> ModuleType:
        """``only``: the functions wanted, if the module has others that cannot be compiled."""
        shadow = ModuleType(module.__name__)
        names = vars(shadow)
        for name, value in vars(module).items():
            if isinstance(value, int | type) or (isinstance(value, tuple) and name.isupper()):
                names[name] = value
            elif isinstance(value, ModuleType) and value.__name__ in self.modules:
                names[name] = self.modules[value.__name__]
            elif isinstance(value, FunctionType) and value.__module__ in self.modules:
                names[name] = vars(self.modules[value.__module__]).get(value.__name__)
        file, functions = functions_of(module)
        wanted = set(functions) if only is None else set(only)
        for name, function in functions.items():
            if name in wanted and name not in self.bindings:
                tree = ast.fix_missing_locations(ast.Module([rewritten(function)], []))
                exec(compile(tree, file, "exec"), names)
                names[name] = self.compile_function(names[name])
        names.update(self.bindings)
        self.modules[module.__name__] = shadow
        return shadow
