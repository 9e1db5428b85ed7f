"""Small pieces of text: ranges, columns, wrapping, prose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowcatcher.decision import Decisions
from cowcatcher.kernels import KERNELS, LINE, QUESTIONS, kernel
from cowcatcher.report.check_text import range_text
from cowcatcher.report.kernel_record import decision_record
from cowcatcher.report.prose import clause, facts_text, listed
from cowcatcher.report.record import Record, kernel_record
from cowcatcher.report.style import Style, columns, visible, wrapped

ALL = [kernel_record(k) for k in KERNELS.values()]


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["v5.7"], "v5.7"),
        (["v5.7", "v5.8", "v5.9-rc4"], "v5.7..v5.9-rc4"),
        (["v5.7", "v5.9-rc4", "v5.9"], "v5.7, v5.9-rc4..v5.9"),
        (["v5.7", "v5.8", "precop", "nocop"], "v5.7..v5.8, precop, nocop"),
    ],
)
def test_ranges(names: list[str], text: str) -> None:
    assert range_text(names, ALL) == text


def test_ranges_of_variants() -> None:
    decision = kernel("v5.9").decisions["fork_copies_now"]
    variants = [kernel(name).with_decisions(decision) for name in ("v5.7", "v5.8", "v6.0")]
    records = ALL + [kernel_record(v) for v in variants]
    names = ["v5.7", variants[0].name, "v5.8", variants[1].name, variants[2].name]
    assert range_text(names, records) == "v5.7..v5.8, (v5.7..v5.8)+fork_copies_pinned, v6.0+fork_copies_pinned"


@given(st.sets(st.sampled_from([k.name for k in LINE]), min_size=1))
def test_a_range_means_its_kernels(names: set[str]) -> None:
    """What is printed selects exactly what was meant."""
    from cowcatcher.kernels import select

    in_order = [k.name for k in LINE if k.name in names]
    assert [k.name for k in select(range_text(in_order, ALL))] == in_order


words = st.lists(st.text("abc.,'`-", min_size=1, max_size=12), max_size=30)


@given(words, st.integers(12, 40))
def test_wrapping_loses_nothing(given_words: list[str], width: int) -> None:
    lines = wrapped(" ".join(given_words), width)
    assert " ".join(lines).split() == given_words
    assert all(len(line) <= width for line in lines)


@given(st.text("abcdefg|_(", min_size=1, max_size=80), st.integers(16, 40))
def test_long_words_are_broken(word: str, width: int) -> None:
    lines = wrapped(word, width, "  ", "    ")
    assert "".join(line.strip() for line in lines) == word
    assert all(len(line) <= width for line in lines)


def test_colour_takes_no_room() -> None:
    style = Style(color=True)
    rows = [[style.good("yes"), "x"], ["no", "y"]]
    assert [visible(line) for line in columns(rows)] == [6, 6]
    assert style.good("  ") == "  "


def test_lists() -> None:
    assert [listed(list("abc")[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("answer", [0, 1])
def test_every_question_can_be_told(question: str, answer: int) -> None:
    """Whatever a kernel is asked, there is a sentence for it that names the decision."""
    code = getattr(Decisions, question).__code__
    facts = dict.fromkeys(code.co_varnames[1 : code.co_argcount], 1)
    decision = decision_record(kernel("v6.12").decisions[question])
    asked: Record = {"question": question, "facts": facts, "answer": answer, "decision": decision}
    assert f"`{decision['name']}`" in clause(asked)
    assert "{" not in clause(asked)


def test_facts() -> None:
    facts = {"exclusive": 0, "refcount": 1025, "mapcount": 1, "swapcount": 0, "pinned": 1}
    assert facts_text(facts) == "refcount 1025, mapcount 1, pinned"
    assert facts_text(facts, full=True) == "not exclusive, refcount 1025, mapcount 1, swapcount 0, pinned"
    assert facts_text({"foll": 9, "cow": 1}) == "FOLL_PIN|WRITE, cow"
