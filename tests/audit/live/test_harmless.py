"""Ordinary programs that a preloaded library could hang, crash or kill: they end as they do without it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cowcatcher.audit.live.build import shim_path
from tests.audit.live.conftest import Run

Watch = Callable[..., Run]
Built = Callable[..., Path]

SECONDS = 60


def run(command: list[str | Path], **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, env={**os.environ, **environment}, check=False
    )
    return done.returncode, done.stdout, done.stderr


def same(*command: str | Path, preloaded: str = "", **environment: str) -> tuple[int, str, str]:
    """What ``command`` says alone and with the shim."""
    words = list(command)
    theirs: Mapping[str, str] = {"LD_PRELOAD": preloaded} if preloaded else {}
    alone = run(words, **environment, **theirs)
    if alone[0] == 77:
        pytest.skip("this kernel, or this user, has not what the program needs")
    shim = str(shim_path())
    with_shim = run(words, **environment, LD_PRELOAD=f"{shim}:{preloaded}" if preloaded else shim)
    assert with_shim == alone
    return alone


@pytest.mark.parametrize("name", ["handler_writes", "bare_fork", "realtime"])
def test_nobody_waits_for_a_lock(built: Built, name: str) -> None:
    assert same(built(name, "-pthread")) == (0, "done\n", "")


def test_the_child_of_vfork_changes_nothing(watch: Watch, built: Built) -> None:
    program = built("vfork_closes")
    assert same(program)[0] == 0
    told = watch(program)
    assert told.only("freed")["len"] == "8192"
    assert not told.words("closed")


def test_a_handler_asks_who_called(built: Built) -> None:
    assert same(built("handler_advises")) == (0, "done\n", "")


@pytest.mark.parametrize("size", ["65536", "4096"])
def test_the_stack_of_a_coroutine(watch: Watch, built: Built, size: str) -> None:
    program = built("coroutine")
    assert same(program, size) == (0, "done\n", "")
    assert watch(program, size).only("site")["stack"].startswith("coroutine!entry+0x")


def test_another_thread_loads_a_library(watch: Watch, built: Built) -> None:
    library = built("constructor", "-shared", "-fPIC", "-pthread", output="lib/constructor.so")
    program = built("loads", "-ldl", "-pthread")
    assert same(program, library) == (0, "done\n", "")
    stacks = [word["stack"] for word in watch(program, library).words("site")]
    assert any(stack.startswith("constructor.so!work+0x") for stack in stacks)


def test_an_allocator_that_does_not_say_how_long_its_blocks_are(watch: Watch, built: Built) -> None:
    library = built("allocator", "-shared", "-fPIC", output="lib/allocator.so")
    program = built("vfork_closes")
    assert same(program, preloaded=str(library)) == (0, "done\n", "")
    told = watch("env", f"LD_PRELOAD={library}", program).words("lost")
    assert any("how long its blocks are" in word["why"] for word in told)


@pytest.mark.parametrize("how", [[], ["exec"], ["bare"]])
def test_a_program_that_filters_its_calls(
    watch: Watch, built: Built, how: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    program = built("sandboxed")
    alone = run([program, *how])
    if alone[0] == 77:
        pytest.skip("no filters here")
    assert alone == (0, "done\n", "")
    told = watch(program, *how)
    assert told.status == 0
    assert capfd.readouterr() == ("done\n", "")
    assert len(told.words("hello")) == 1  # and not from what it starts
    if how != ["bare"]:
        assert same(program, *how) == alone
        assert "filters its own system calls" in told.only("lost")["why"]


def test_pointers_to_no_memory(built: Built, tmp_path: Path) -> None:
    status, said, _ = same(built("bad_pointers"), tmp_path / "data")
    assert status == 0
    assert "readv: -1 Bad address" in said
