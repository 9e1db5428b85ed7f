"""What the arguments name: tests, kernels, decisions, limits."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cowcatcher.cli.parser import Problem
from cowcatcher.explore.search import Limits
from cowcatcher.kernels import KERNELS, LINE, Decision, Kernel, UnknownKernel, kernel, load_decisions, select
from cowcatcher.litmus import catalogue
from cowcatcher.litmus.ast import Mapping, Test
from cowcatcher.litmus.errors import LitmusError
from cowcatcher.litmus.parser import parse, parse_file


def load_tests(words: Sequence[str]) -> list[Test]:
    """The tests that ``words`` name: files, directories, tests and groups of the catalogue, ``-`` for standard input.

    Every mistake in every file is reported at once.
    """
    tests: dict[tuple[str, str], Test] = {}
    mistakes: list[str] = []
    for word in words:
        for path in _files(word):
            try:
                test = _parse(path)
            except LitmusError as error:
                mistakes.append(str(error))
            else:
                tests[test.path, test.name] = test
    if mistakes:
        raise Problem("\n".join(["a test cannot be used, so nothing was done", *mistakes]))
    return list(tests.values())


def _files(word: str) -> list[Path | None]:
    """None stands for standard input."""
    if word == "-":
        return [None]
    try:
        return list(catalogue.resolve([word]))
    except catalogue.UnknownTest as error:
        raise Problem(str(error)) from error


def _parse(path: Path | None) -> Test:
    if path is None:
        return parse(sys.stdin.read(), "<stdin>")
    test = parse_file(path)
    if path.is_relative_to(catalogue.ROOT):  # called by its name, wherever it is installed
        return replace(test, path=str(path.relative_to(catalogue.ROOT).with_suffix("")))
    return test


def one_test(words: Sequence[str]) -> Test:
    tests = load_tests(words)
    if len(tests) != 1:
        raise Problem(f"one test is wanted here; {', '.join(words)} means {len(tests)}")
    return tests[0]


def backends(words: str) -> tuple[str, ...]:
    """The names in --device."""
    from cowcatcher.real.backends import BACKENDS

    names = tuple(filter(None, (word.strip() for word in words.split(","))))
    for name in names:
        if name not in BACKENDS:
            raise Problem(f"--device: there is no backend '{name}'; there are: {', '.join(BACKENDS)}")
    return names


def add_kernel_options(parser: argparse.ArgumentParser) -> None:
    """--kernel and --decision, for commands that look at several kernels."""
    parser.add_argument(
        "--kernel", "-k", metavar="RANGE",
        help="kernels: v5.9-rc4, 6.8, v5.7..v5.9, v5.19.., several joined by commas, 'line', 'proposals', 'all' "
        "(default: the line, and those beside it that the test speaks of)",
    )  # fmt: skip
    add_decision_option(parser)


def add_decision_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--decision", metavar="FILE", action="append", default=[],
        help="a Python file with decisions of your own; every selected kernel is also looked at with them",
    )  # fmt: skip


def kernels_for(test: Test, selection: str | None, decisions: Sequence[Decision]) -> tuple[Kernel, ...]:
    """The kernels on which ``test`` is wanted, each followed by its variant with the user's decisions."""
    chosen = select(selection) if selection else (*LINE, *_spoken_of(test))
    return tuple(k for base in chosen for k in (base, *([base.with_decisions(*decisions)] if decisions else [])))


def _spoken_of(test: Test) -> tuple[Kernel, ...]:
    """Kernels beside the line that the test names in what it expects."""
    named = {r.first for e in test.expects for r in e.ranges if r.single and r.first}
    found = set()
    for name in named:
        try:
            found.add(kernel(name).name)
        except UnknownKernel as error:
            raise Problem(f"{test.path or test.name}: in an 'expect' line: {error}") from error
    return tuple(k for k in KERNELS.values() if k.place is None and k.name in found)


def one_kernel(text: str, decisions: Sequence[Decision]) -> Kernel:
    """The kernel that is named, with the user's decisions if there are any."""
    found = select(text)
    if len(found) != 1:
        raise Problem(f"one kernel is wanted here; --kernel {text} means {len(found)}")
    return found[0].with_decisions(*decisions) if decisions else found[0]


def decisions_from(files: Sequence[str]) -> tuple[Decision, ...]:
    return tuple(d for file in files for d in load_decisions(file))


def limits_of(args: argparse.Namespace) -> Limits:
    default = Limits()
    return Limits(
        args.max_states or default.states, args.max_seconds or default.seconds, args.max_memory or default.memory,
        args.max_states,
    )  # fmt: skip


def in_order(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Each kernel once: along the line, then those beside it; a variant behind what it is a variant of."""
    position = {name: i for i, name in enumerate(KERNELS)}
    unique = {k.name: k for k in kernels}
    return sorted(unique.values(), key=lambda k: position.get(k.name, position.get(k.base or "", len(position)) + 0.5))


def mapping_of(text: str) -> Mapping:
    """What --memory names: one page with one value, called ``x``."""
    kind, bracket, _ = text.partition("(")
    value = "" if kind.strip() == "anon_zero" else "1"
    try:
        told = text if bracket else f"{text}({value})"
        mapping = parse(f"test t\nmemory {{ x = {told} }}\nprocess p {{ }}").memory[0]
    except LitmusError as error:
        raise Problem(f"--memory {text}: {error.diagnostics[0].message}") from error
    if mapping.pages > 1 or any(name for name, _ in mapping.cells):
        raise Problem(f"--memory {text}: one page with one value is wanted here")
    return mapping
