"""The ``.cow`` file of a finding: it reads back, ``fmt`` leaves it alone, and each statement has its line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cowcatcher.audit.emit import emit, file_name
from cowcatcher.audit.finding import Question
from cowcatcher.audit.judge import judge
from cowcatcher.cli import main
from cowcatcher.kernels import LINE
from cowcatcher.litmus import format_source, parse, parse_file
from cowcatcher.real.backends import BACKENDS
from cowcatcher.real.lower import Facilities, lower
from tests.audit.derive.test_judge import CASES, NEWEST, REGISTERED, judged
from tests.audit.derive.told import CHILD, Trace, finding, partial

WHOLE = """\
test python3_fork_shares_pinned
"fork() shares 4 KiB that are pinned"
"Does the device still see what its owner stores, and the owner what the device writes?"
source "recorded from /usr/bin/python3, pid 812, lines 1..5 of its trace"

memory {
    buf = anon(1)  # line 1, 22:13:21.000000, python3[812]: 0x7f0000001000-0x7f0000002000
}

process parent {
    mr = ibv_reg_mr(buf)  # line 2, 22:13:22.000000, python3[812], libibv_reg_mr.so.1!ibv_reg_mr
    fork(child)  # line 3, 22:13:23.000000, python3[812]
    store(buf, 2)  # assumed: not in the trace: the owner goes on storing to its buffer
    post(doorbell)  # assumed: not in the trace: the device is told to begin
    await(done)  # assumed: not in the trace: the owner waits until it is done
    r1 = load(buf)  # assumed: not in the trace: the owner looks at what has come
    wait(child)  # line 5, 22:13:25.000000, python3[812]: it had ended
    unpin(mr)  # line 5, 22:13:25.000000, python3[812]
}

process child {
    exit()  # line 4, 22:13:24.000000, child[820]
}
"""


def test_the_whole_file() -> None:
    assert emit(finding(REGISTERED), whole=True).startswith(WHOLE)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_it_reads_back(name: str, whole: bool) -> None:
    found = judge(finding(CASES[name]), NEWEST)
    text = emit(found, whole=whole)
    text.encode("ascii")
    test = parse(text)
    wanted = judged(found).test if whole else judged(found).small
    assert wanted is not None
    assert replace(test, name=wanted.name, description=wanted.description, sources=()) == wanted
    assert format_source(text) == text
    assert file_name(found) == f"{test.name}.cow"


@pytest.mark.parametrize("name", CASES)
def test_each_statement_has_its_line_or_is_marked(name: str) -> None:
    text = emit(judge(finding(CASES[name]), NEWEST))
    test = parse(text)
    lines = text.splitlines()
    for actor in test.actors:
        for statement in actor.body:
            comment = lines[statement.span.line - 1].partition("  # ")[2]
            assert comment.startswith(("line ", "assumed: not in the trace"))


def test_it_says_which_decision_made_the_difference() -> None:
    text = emit(judge(finding(REGISTERED), NEWEST))
    assert f'# v5.9..{LINE[-1].name}: fork_copies_pinned: 70e806e4e645 ("mm: Do early cow' in text
    assert f"# here ({NEWEST.name}): holds, fork_copies_pinned_exclusive" in text


def test_what_was_left_out_is_said() -> None:
    case = replace(REGISTERED, left_out=("3 more children that did the same",))
    assert "# left out: 3 more children that did the same\n" in emit(finding(case))


def test_words_of_a_program_harm_nothing() -> None:
    strange = replace(finding(REGISTERED), program='/srv/\N{SNOWMAN} "x"\n}', title='}\n"\\ \N{SNOWMAN}')
    strange = replace(strange, case=replace(REGISTERED, left_out=("}\nprocess x {",)))
    text = emit(strange)
    text.encode("ascii")
    assert format_source(text) == text
    assert parse(text).actors == parse(emit(finding(REGISTERED))).actors


def test_a_name_is_a_name() -> None:
    named = [file_name(replace(finding(REGISTERED), program=p)) for p in ("", "7z", "a" * 200, "/x/\N{SNOWMAN}")]
    assert all(len(name) <= 68 and parse(f"test {name.removesuffix('.cow')}\nprocess p {{ }}\n") for name in named)


def test_seen_live() -> None:
    trace = Trace().mapped().taken("ibv_reg_mr").forked()
    events = tuple(replace(e, line=0, time=0.0) for e in trace.events)
    case = replace(trace.case(Question.DEVICE_AND_OWNER), events=events)
    text = emit(finding(case))
    assert "fork(child)  # seen live, python3[812]\n" in text
    assert "pid 812, watched live" in text
    assert CHILD


@pytest.mark.parametrize("name", CASES)
def test_check_agrees_and_run_can_take_it(name: str, tmp_path: Path) -> None:
    found = judge(finding(CASES[name]), NEWEST)
    place = tmp_path / file_name(found)
    place.write_text(emit(found), encoding="ascii")
    assert main(["check", str(place)]) == 0
    lower(parse_file(str(place)), Facilities.of_virtual(dict.fromkeys(BACKENDS, "")))


def test_a_filesystem_that_nobody_saw_is_said_to_be_a_guess() -> None:
    case = partial().mapped().taken("dio_read", detail="fd 5, /data/file, libaio").forked()
    found = judge(finding(case.case(Question.DEVICE_AND_OWNER), "direct-io-across-fork"), NEWEST)
    assert "The filesystem was not seen: taken for one on a block device." in found.explanation
    assert "dio_read!dio_read: the filesystem was not seen" in emit(found, whole=True).replace(".so.1", "")
