"""A verdict from compiled code is the interpreter's; what it could not tell, it says; it is used when it pays."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba", reason="numba is not installed")

from cowcatcher.cli import engines, main
from cowcatcher.compiled import expand
from cowcatcher.compiled.check import CompiledSearch
from cowcatcher.explore.program import compile_test, initial_state
from cowcatcher.explore.search import Limits, Subject, in_every_order, interpreted
from cowcatcher.explore.verdict import Checker, CheckResult, Verdict, kernel_tasks
from cowcatcher.kernels import KERNELS, LINE, kernel, load_decisions
from cowcatcher.litmus import parse, parse_file, to_text
from tests.catalogue.checked import PATHS, checker, name_of
from tests.random_tests import random_kernel, random_test

CASES = Path(__file__).parents[1] / "cli" / "cases"
NAMES = ("v5.7", "v5.9-rc4", "v5.10.y", "v5.19", "v6.12", LINE[-1].name)


def said(result: CheckResult) -> dict[str, Any]:
    """All that is found out, but for which of several ways of equal length."""
    return {
        "verdict": result.verdict,
        "violations": [(v.kind, v.name, v.text, len(v.witness)) for v in result.violations],
        "outcomes": result.outcomes,
        "vacuous": result.vacuous,
        "states": result.states,
        "transitions": result.transitions,
        "depth": result.depth,
        "finals": result.finals,
    }


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_catalogue(path: Path) -> None:
    compiled = Checker(parse_file(str(path)), search=CompiledSearch())
    for name in NAMES:
        result = compiled.check(kernel(name))
        assert said(result) == said(checker(path).check(kernel(name))), name
        assert result.verdict is Verdict.NOT_APPLICABLE or result.engine == "compiled"


@pytest.mark.parametrize("batch", range(4))
def test_random_tests(batch: int) -> None:
    compared = 0
    for seed in range(batch * 25, (batch + 1) * 25):
        test, on = random_test(seed), random_kernel(seed)
        wanted = Checker(test, Limits(states=2000)).check(on)
        if wanted.verdict is Verdict.UNKNOWN or wanted.reason:
            continue
        compared += 1
        found = Checker(test, search=CompiledSearch(threads=1, exact=seed % 2 == 0)).check(on)
        assert said(found) == said(wanted), f"seed {seed} on {on.name}\n{to_text(test)}"
    assert compared >= 12


def test_what_is_shared_between_kernels() -> None:
    """Kernels with the very same answers to all that was asked get one search; with any other answer each its own."""
    checker = Checker(parse_file(str(CASES / "rdma_fork_write.cow")), search=CompiledSearch())
    results = {k.name: checker.check(k) for k in KERNELS.values()}
    assert any(r.same_as for r in results.values())
    assert not results["v5.9-rc4"].same_as
    for result in results.values():
        assert said(result) == said(Checker(result.test).check(result.kernel)), result.kernel.name
        if result.same_as:
            assert results[result.same_as].states == result.states


@pytest.mark.parametrize("seed", range(20))
def test_in_every_order_as_well(seed: int) -> None:
    test, on, limits = random_test(seed), random_kernel(seed), Limits(states=5_000)
    wanted = Checker(test, limits, in_every_order).check(on)
    if wanted.verdict in (Verdict.HOLDS, Verdict.VIOLATED) and not wanted.reason:
        found = Checker(test, search=CompiledSearch(reduces=False)).check(on)
        assert said(found) == said(wanted)
        assert not found.reduced


def test_a_search_stops_when_it_has_found_enough() -> None:
    test, on = parse_file(str(CASES / "rdma_fork_write.cow")), kernel("v5.9-rc4")
    program = compile_test(test)
    m = program.on(on.rules())
    subject = Subject(m, on, bytes(initial_state(program, m)), kernel_tasks(program))
    whole = CompiledSearch()(subject, Limits())
    assert "coherent" in whole.broken
    part = CompiledSearch()(subject, Limits(), lambda found: "coherent" in found.broken)
    assert part.n_states < whole.n_states
    assert part.broken.keys() >= {"coherent"}
    assert len(part.way_to_broken("coherent")) == len(whole.way_to_broken("coherent"))
    ended = CompiledSearch()(subject, Limits(), lambda found: any(True for _ in found.endings()))
    assert ended.n_states <= whole.n_states
    assert any(True for _ in ended.endings())


# --- limits -----------------------------------------------------------------------------------------------------------


def large(limits: Limits = Limits(), on: str = "v5.9", **settings: Any) -> CheckResult:  # noqa: B008
    return Checker(parse_file(str(CASES / "large.cow")), limits, CompiledSearch(**settings)).check(kernel(on))


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Limits(compiled_states=20_000), "the limit of 20,000 states"),
        (Limits(seconds=0.0), "the limit of 0 seconds"),
        (Limits(memory=96 << 20), "the limit of 96 MiB of memory"),
    ],
    ids=["states", "seconds", "memory"],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_stopped_is_no_verdict(limits: Limits, why: str, threads: int) -> None:
    result = large(limits, threads=threads)
    assert result.verdict is Verdict.UNKNOWN
    assert why in result.reason
    assert not result.violations
    assert not result.vacuous, "nothing is known to be vacuous"
    covered = int(result.reason.split("within ")[1].split()[0])
    assert result.depth - 2 <= covered < result.depth


def test_what_is_said_to_be_covered_was_searched() -> None:
    """As many states within the covered distance as the interpreter finds there."""
    test = parse_file(str(CASES / "large.cow"))
    found = large(Limits(compiled_states=5000))
    covered = int(found.reason.split("within ")[1].split()[0])
    whole = Checker(test, Limits(states=found.states + 1)).check(kernel("v5.9"))
    assert whole.depth >= covered + 1


def test_memory_is_bounded_and_found_to_be() -> None:
    result = large(Limits(memory=96 << 20, seconds=60.0))
    assert "memory" in result.reason
    # 24 MiB are kept for endings; a state takes its own bytes, a place in a table, and the way to it.
    assert 10_000 < result.states < (72 << 20) // (8 + 6)


def test_threads_and_exactness_change_nothing() -> None:
    """A test of some ten thousand states, by one thread and by two, by fingerprints and by whole states."""
    text = (CASES / "large.cow").read_text().replace("kernel may reclaim(b)", "")
    test = parse(text, "large.cow")
    on = kernel("v6.12")
    wanted = said(Checker(test).check(on))
    for threads in (1, 2):
        for exact in (False, True):
            found = Checker(test, search=CompiledSearch(threads, exact)).check(on)
            assert said(found) == wanted
            assert (found.chance_of_a_miss == 0) is exact
            assert found.chance_of_a_miss < 1e-9


def test_more_claims_than_there_are_targets_of_one_search() -> None:
    """Each violated claim has its way, found by searching again, so many at a time."""
    claims = "\n".join(f"never r == {i} or s == 1" for i in range(10)) + "\n"
    claims += "\n".join(f"always r != 1 or s == {i}" for i in range(10)) + "\n"
    text = "test many\nmemory { x = anon(1) }\nprocess p { store(x, 2); r = load(x) }\nthread t of p { s = load(x) }\n"
    test = parse(text + claims, "many.cow")
    on = kernel("v6.12")
    wanted, found = Checker(test).check(on), Checker(test, search=CompiledSearch()).check(on)
    assert said(found) == said(wanted)
    assert sum(1 for v in found.violations if v.witness) >= 10


def test_targets_fit_between_the_other_bits() -> None:
    assert expand.TARGET + expand.MOST_TARGETS == expand.KERNEL_ACTS
    assert expand.KERNEL_ACTS + 16 + 16 < 63


# --- decisions of a user's own ----------------------------------------------------------------------------------------


def test_a_users_decision() -> None:
    (own,) = load_decisions(CASES / "copy_pinned.py")
    on = kernel("v5.9-rc4").with_decisions(own)
    test = parse_file(str(CASES / "rdma_fork_write.cow"))
    found = Checker(test, search=CompiledSearch()).check(on)
    assert said(found) == said(Checker(test).check(on))
    assert found.verdict is not Checker(test).check(kernel("v5.9-rc4")).verdict, "it makes a difference"


UNCOMPILABLE = '''
from cowcatcher.kernels import decision

def asked_elsewhere(pinned: int) -> int:
    return pinned

@decision("fork_copies_now")
def by_another(has_pinned: int, pinned: int, exclusive: int) -> int:
    """Asks a function of its file's own."""
    return asked_elsewhere(pinned)
'''


def test_a_decision_that_cannot_be_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused by its name with the next step; where nobody asked for compiled code, interpreted."""
    (tmp_path / "mine.py").write_text(UNCOMPILABLE)
    words = ["check", str(CASES / "rdma_fork_write.cow"), "--kernel", "v5.9-rc4", "--engine", "compiled"]
    assert main([*words, "--decision", str(tmp_path / "mine.py")]) == 2
    err = capsys.readouterr().err
    assert "the decision 'by_another' cannot be compiled" in err
    assert "--engine interpreted" in err

    monkeypatch.setattr("cowcatcher.explore.search._LOOK_EVERY", 8)
    (own,) = load_decisions(tmp_path / "mine.py")
    test = parse_file(str(CASES / "rdma_fork_write.cow"))
    on = kernel("v5.9-rc4").with_decisions(own)
    auto = engines.Auto(engines.Compiled(), gives_way=8)
    found = Checker(test, search=auto).check(on)
    assert found.engine == "interpreted"
    assert said(found) == said(Checker(test).check(on))
    assert "'by_another'" in capsys.readouterr().err


# --- which engine -----------------------------------------------------------------------------------------------------


def test_a_small_check_imports_no_compiler() -> None:
    """In an interpreter of its own: neither numba nor numpy, whose imports take longer than the check."""
    code = (
        "import sys; from cowcatcher.cli import main; "
        f"status = main(['check', {str(CASES / 'rdma_fork_write.cow')!r}, '--kernel', 'v5.9']); "
        "print(status, [name for name in ('numba', 'numpy', 'llvmlite') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_auto_gives_way_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreted up to a number of states, compiled from the beginning after that, and at once on further kernels."""
    test = parse_file(str(CASES / "rdma_fork_write.cow"))
    searched: list[str] = []

    def counted(*args: Any) -> Any:
        searched.append("interpreted")
        return interpreted(*args)

    monkeypatch.setattr(engines, "interpreted", counted)
    monkeypatch.setattr("cowcatcher.explore.search._LOOK_EVERY", 8)
    auto = engines.Auto(engines.Compiled(), gives_way=8)
    checker = Checker(test, search=auto)
    for name in ("v5.9-rc4", "v6.12"):
        found = checker.check(kernel(name))
        assert found.engine == "compiled"
        assert said(found) == said(Checker(test).check(kernel(name)))
    assert searched == ["interpreted"]
    err = capsys.readouterr().err
    assert err.count("compiled code begins anew") == 1
    assert "MiB" in err

    small = Checker(test, search=engines.Auto(engines.Compiled())).check(kernel("v5.9-rc4"))
    assert small.engine == "interpreted"


def test_without_numba(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The old limit, and what to install."""
    monkeypatch.setattr(engines, "_installed", lambda: False)
    assert main(["check", str(CASES / "rdma_fork_write.cow"), "--engine", "compiled"]) == 2
    assert "pip install numba" in capsys.readouterr().err
    assert main(["check", str(CASES / "large.cow"), "--kernel", "v5.9,v6.12", "--max-states", "3000"]) == 3
    err = capsys.readouterr().err
    assert err.count("pip install numba") == 1
    assert main(["check", str(CASES / "rdma_fork_write.cow"), "--kernel", "v5.9"]) == 0
    assert not capsys.readouterr().err


def test_exact_is_for_compiled_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(CASES / "rdma_fork_write.cow"), "--engine", "interpreted", "--exact"]) == 2
    assert "--exact" in capsys.readouterr().err


def test_the_record_says_which(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", str(CASES / "rdma_fork_write.cow"), "--kernel", "v5.9", "--engine", "compiled"]
    assert main([*words, "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["tests"][0]["results"]
    assert result["engine"] == "compiled"
    assert 0 < result["chance_of_a_miss"] < 1e-12
    assert main(words) == 0
    assert "the probability that a state was missed is at most" in " ".join(capsys.readouterr().out.split())
    assert main([*words, "--exact"]) == 0
    assert "probability" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["explain", "bisect", "shrink"])
def test_other_commands(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same text, whichever engine found it out."""
    case = {"explain": "rdma_fork_write", "bisect": "rdma_fork_wait", "shrink": "rdma_fork_write"}[command]
    kernels = "v5.8..v5.9" if command == "bisect" else "v5.9-rc4"
    words = [command, str(CASES / f"{case}.cow"), "--kernel", kernels]
    texts = []
    for engine in (["--engine", "interpreted"], ["--engine", "compiled", "--exact"]):
        status = main([*words, *engine])
        texts.append((status, capsys.readouterr().out))
    assert texts[0] == texts[1]


def test_an_interrupt_ends_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    from cowcatcher.compiled import check
    from cowcatcher.engine.search import Found

    monkeypatch.setattr(check, "search_space", lambda *args, **kwargs: Found(stopped="interrupted"))
    with pytest.raises(KeyboardInterrupt):
        large(replace(Limits(), seconds=5.0))
