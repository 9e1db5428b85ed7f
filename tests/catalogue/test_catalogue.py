"""Every test of the catalogue: well-formed, canonical, complete, small, and right about every kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowcatcher.explore.verdict import Verdict, as_expected, expectations
from cowcatcher.kernels import KERNELS, LINE, is_known
from cowcatcher.litmus import check, format_source, parse_file
from cowcatcher.litmus.catalogue import ORDER, ROOT, UnknownTest, find, groups, resolve
from cowcatcher.litmus.order import ordered
from tests.catalogue.checked import PATHS, checker, name_of

MOST_STATES = 3000
every_test = pytest.mark.parametrize("path", PATHS, ids=name_of)


@every_test
def test_form(path: Path) -> None:
    text = path.read_text(encoding="ascii")
    test = parse_file(str(path))
    assert not check(test, is_known)
    assert test.name == path.stem
    assert format_source(text) == text
    assert test.description.endswith((".", "?"))
    assert test.sources
    assert test.claims or test.expects
    assert ordered(test)


@every_test
def test_every_kernel_of_the_line_is_spoken_of(path: Path) -> None:
    test = checker(path).test
    assert [k.name for k in LINE if not expectations(test, k)] == []


@every_test
def test_expectations_come_true(path: Path) -> None:
    results = [checker(path).check(k) for k in KERNELS.values()]
    wrong = {
        r.kernel.name: (r.verdict.value, [v.name for v in r.violations]) for r in results if as_expected(r) is False
    }
    assert not wrong
    assert all(r.verdict in (Verdict.HOLDS, Verdict.VIOLATED) for r in results)
    assert max(r.states for r in results) <= MOST_STATES


@every_test
def test_what_holds_was_put_to_the_test(path: Path) -> None:
    """Every claim is evaluated on values that exist, and every actor gets to its end."""
    for kernel in LINE:
        result = checker(path).check(kernel)
        if result.verdict is Verdict.HOLDS:
            assert result.vacuous == ()
            assert {o.stuck for o in result.outcomes} == {()}


@every_test
def test_checks_are_turned_off_for_a_reason(path: Path) -> None:
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("unchecked"):
            assert lines[number - 1].startswith("#")


def test_there_is_something_for_everybody() -> None:
    assert len(PATHS) >= 45
    assert set(groups()) == set(ORDER)
    assert all((ROOT / group / "README.md").is_file() for group in groups())


def test_names_are_unique() -> None:
    names = [p.stem for p in PATHS]
    assert len(names) == len(set(names))
    assert not set(names) & set(groups())


# --- finding tests ------------------------------------------------------------------------------------------------


def test_find() -> None:
    path = ROOT / "seed" / "rdma_fork_wait.cow"
    assert find("rdma_fork_wait") == find("seed/rdma_fork_wait") == find("seed/rdma_fork_wait.cow") == path
    assert find("fork/rdma_fork_wait") is None
    assert find("nothing") is None


def test_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own" / "mine.cow"
    own.parent.mkdir()
    own.write_text("test mine\n")
    assert resolve(["all"]) == list(PATHS)
    assert resolve(["seed", "rdma_fork_wait"]) == groups()["seed"]
    assert resolve(["rdma_fork_wait", "own"]) == [find("rdma_fork_wait"), Path("own/mine.cow")]
    assert resolve([str(own)]) == [own]
    assert resolve([]) == []


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("rdma_fork_wiat", "did you mean 'rdma_fork_wait'?"),
        ("seed/rdma_fork_wiat", "did you mean 'seed/rdma_fork_wait'?"),
        ("sede", "did you mean 'seed'?"),
        ("Seed", "did you mean 'seed'?"),
        ("gone.cow", "no such file"),
        ("qqqqqq", "the groups are: seed, fork"),
    ],
)
def test_resolve_explains(word: str, said: str) -> None:
    with pytest.raises(UnknownTest, match="'" + word) as caught:
        resolve([word])
    assert said in str(caught.value)


def test_resolve_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(UnknownTest, match=r"no \.cow file"):
        resolve([str(tmp_path)])
