"""Checks that the goldens do not show: kernels known or not, trees that no parser made, what is allowed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cowcatcher import litmus
from cowcatcher.litmus import check, nearest, parse
from cowcatcher.litmus.ast import (
    Actor,
    Claim,
    Compare,
    ErrorName,
    KernelMay,
    Mapping,
    Name,
    Number,
    Place,
    Statement,
    Test,
)
from cowcatcher.litmus.parser import parse_form
from cowcatcher.litmus.statements import SIGNATURES

EXPECTING = """test t
process p { ksm_scan() }
expect holds on v5.9..v6.1, v5.10.y
expect violated on ..v5.77
"""


def test_kernels_are_not_looked_at_unless_asked() -> None:
    assert check(parse(EXPECTING)) == []


def test_a_collection_of_known_kernels() -> None:
    (found,) = check(parse(EXPECTING), {"v5.7", "v5.9", "v6.1", "v5.10.y"})
    assert (found.span.line, found.span.col, found.nearest) == (4, 22, "v5.7")
    assert found.message == "no kernel is called 'v5.77'"


def test_a_rule_for_known_kernels() -> None:
    found = check(parse(EXPECTING), lambda name: name.startswith("v5"))
    assert [d.message for d in found] == ["no kernel is called 'v6.1'"]


def test_a_pin_as_a_register() -> None:
    text = "test t\nmemory {{ x = anon(1) }}\nprocess p {{ m = ibv_reg_mr(x) }}\nalways {}\n"
    for cond in ("m == EFAULT", "m != EFAULT", "m in {EFAULT, ENOMEM}", "not m == EIO"):
        parse(text.format(cond))
    assert "only an error's name" in str(check(parse_form(text.format("m == 1")).test)[0])


def process(*body: Statement) -> Test:
    return Test("t", actors=(Actor("process", "p", "p", body),))


PLAIN = process(Statement("exec"))


def forks_twice() -> Test:
    fork = Statement("fork", (Name("q"),))  # one record in two places: it is its place that counts
    return Test("t", actors=(Actor("process", "p", "p", (fork, fork)), Actor("process", "q", "q", ())))


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (process(Statement("nothing")), "no statement is called 'nothing'"),
        (process(Statement("load", (Name("x"),), "r")), "'x' cannot be the place of load"),
        (process(Statement("post", (Number(1),))), "the number 1 cannot be the event of post"),
        (process(Statement("store", (Place("x"), Number(99)))), "the value 99 is too large"),
        (
            process(Statement("exec"), Statement("exec", target="m"), Statement("vmsplice", target="m")),
            "'m' is a register",
        ),
        (replace(PLAIN, memory=(Mapping("x", "anon"), Mapping("x", "anon"))), "there is already a mapping called 'x'"),
        (replace(PLAIN, memory=(Mapping("x", "anon", pages=0),)), "pages=0: a mapping has 1..8 pages"),
        (replace(PLAIN, memory=(Mapping("x", "pipe", flags=("small",)),)), "no kind of mapping is called 'pipe'"),
        (replace(PLAIN, memory=(Mapping("x", "anon", (("a", 1), ("b", 77))),)), "b=77 is too large"),
        (forks_twice(), "process 'q' is forked twice"),
        (Test("t"), "a test needs a process"),
        (Test("t", unchecked=("all",)), "no standing check is called 'all'"),
        (Test("t", kernel_may=(KernelMay("merge", Place("x")),)), "is written 'kernel may merge'"),
        (Test("t", kernel_may=(KernelMay("reclaim"),)), "is written 'kernel may reclaim(x)'"),
        (Test("t", kernel_may=(KernelMay("panic"),)), "nothing the kernel may do is called 'panic'"),
        (Test("t", claims=(Claim("always", Compare(ErrorName("EOOPS"), "==", Number(1))),)), "no error is called"),
    ],
)
def test_trees_made_by_hand(test: Test, message: str) -> None:
    assert any(message in d.message for d in check(test))
    for diagnostic in check(test):
        assert diagnostic.render()


@pytest.mark.parametrize("op", sorted(SIGNATURES))
def test_every_statement_is_used_by_a_good_file(op: str) -> None:
    from tests.litmus.test_round_trip import GOOD

    assert any(f"{op}(" in path.read_text() for path in GOOD)


def test_a_word_skipped_with_a_mistake_is_not_called_unknown() -> None:
    text = "test t\nmemory {\n    x = anno(1)\n}\nprocess p {\n    store(x, 1)\n    r = laod x\n}\nalways r == 1\n"
    parsed = parse_form(text)
    assert [d.span.line for d in parsed.report] == [3, 7]
    with pytest.raises(litmus.LitmusError) as caught:
        parse(text)
    assert len(caught.value.diagnostics) == 2


def test_nearest() -> None:
    assert nearest("laod", SIGNATURES) == "load"
    assert nearest("coherent", ["COHERENT"]) == "COHERENT"
    assert nearest("load", ["load"]) is None
    assert nearest("zzz", SIGNATURES) is None
    assert nearest("x" * 10_000, SIGNATURES) is None


def test_exports_are_sorted_and_exist() -> None:
    assert litmus.__all__ == sorted(litmus.__all__)
    for name in litmus.__all__:
        assert getattr(litmus, name).__doc__, name
