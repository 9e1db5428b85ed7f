"""What is between the parentheses of a call."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowcatcher.audit.events import Range
from cowcatcher.audit.strace.arguments import (
    Garbled,
    constant,
    data,
    decoration,
    flag,
    number,
    parse,
    string,
    vectors,
)
from tests.audit.counting import calls


@pytest.mark.parametrize(
    ("text", "arguments", "rest"),
    [
        ("3, NULL) = 0", ["3", "NULL"], " = 0"),
        (") = 5", [], " = 5"),
        (r'"a\"),(b", 1) = 2', [r'"a\"),(b"', "1"], " = 2"),
        ('"cut"..., 9) = 9', ['"cut"...', "9"], " = 9"),
        ("[1, 2, ...], {a=1, b=[{c=2}]}) = 0", [["1", "2", "..."], {"a": "1", "b": [{"c": "2"}]}], " = 0"),
        ("{flags=CLONE_VM} => {parent_tid=[7]}, 88) = 7", [{"flags": "CLONE_VM"}, "88"], " = 7"),
        ("child_stack=NULL, flags=A|B) = 7", ["child_stack=NULL", "flags=A|B"], " = 7"),
        ("0x3 /* PROT_READ, (PROT_WRITE */, 1) = 0", ["0x3 /* PROT_READ, (PROT_WRITE */", "1"], " = 0"),
        ("3</a,b)c>, 7<TCP:[1->2]>) = 0", ["3</a,b)c>", "7<TCP:[1->2]>"], " = 0"),
        ("3</dev/null<char 1:3>>, 1) = 0", ["3</dev/null<char 1:3>>", "1"], " = 0"),
        ("{st_rdev=makedev(0x1, 0x3), ...}) = 0", [{"st_rdev": "makedev(0x1, 0x3)", "...": ""}], " = 0"),
        ("21<<MAP_HUGE_SHIFT, 1) = 0", ["21<<MAP_HUGE_SHIFT", "1"], " = 0"),
        ("3, ", ["3"], None),
    ],
)
def test_arguments_are_split_as_strace_joined_them(text: str, arguments: list[object], rest: str | None) -> None:
    assert parse(text) == (arguments, rest)


@pytest.mark.parametrize("text", ['"no end', "[1, 2) = 0", "{a=1] ) = 0", "[" * 40, "{" * 10**6])
def test_what_does_not_match_is_garbled(text: str) -> None:
    with pytest.raises(Garbled):
        parse(text)


@pytest.mark.parametrize("unit", ["/*", '"', "<", "(", ",", "\\", "=", "[{", "]", "->", "/* */", '"\\', "<->"])
def test_work_is_linear_in_the_text(unit: str) -> None:
    def read(size: int) -> None:
        with contextlib.suppress(Garbled):
            parse(unit * (size // len(unit)))

    assert calls(lambda: read(20_000)) <= 2.2 * calls(lambda: read(10_000)) + 100
    read(1_000_000)  # a quadratic step within a regular expression would take minutes


@given(st.text(alphabet='"\\/*<>[]{}(),=-.a1 |~', max_size=60))
def test_any_text_is_read_or_garbled(text: str) -> None:
    try:
        arguments, rest = parse(text)
    except Garbled:
        return
    assert rest is None or text.endswith(rest)
    for value in arguments:
        number(value), data(value), decoration(value), vectors(value), constant(value, {}), flag(value, "A", 1)


def test_scalars() -> None:
    assert [number(v) for v in ("NULL", "0x1f", "12", "-1", "3</x>", "0x4 /* A */", "x", None, [], "9" * 30)] == [
        0, 31, 12, -1, 3, 4, None, None, None, None,
    ]  # fmt: skip
    assert flag("O_RDWR|O_DIRECTORY", "O_DIRECT", 0o40000) is False
    assert flag("O_RDWR|O_DIRECT", "O_DIRECT", 0o40000)
    assert flag("0x4002 /* O_RDWR|O_DIRECT */", "O_DIRECT", 0o40000)
    assert flag("0x1200000|17", "CLONE_VM", 0x100) is False
    assert flag("21<<MAP_HUGE_SHIFT", "MAP_FIXED", 0x10) is False  # 21 is no flag there
    assert constant("0xa /* MADV_DONTFORK */", {}) == "MADV_DONTFORK"
    assert constant("0xa", {10: "MADV_DONTFORK"}) == "MADV_DONTFORK"
    assert constant("0x63 /* MADV_??? */", {}) == "99"
    assert data(r'"\0\260\236\366\'\177\x41\n"...') == b"\0\xb0\x9e\xf6'\x7fA\n"
    assert string('"/tmp/\\303\\244"') == "/tmp/ä"
    assert string('"/tmp/ä"') == "/tmp/ä"
    assert decoration("3</tmp/a\\76b>(deleted)") == "/tmp/a>b"


def test_iovec() -> None:
    def read(text: str) -> object:
        return vectors(parse(text)[0][0])

    assert read("[{iov_base=0x10, iov_len=2}, {iov_base=NULL, iov_len=0}]") == ([Range(16, 18), Range(0, 0)], True)
    assert read("[{iov_base=0x10, iov_len=2}, ...]") == ([Range(16, 18)], False)
    assert read('[{iov_base="abc", iov_len=3}]') == (None, True)
