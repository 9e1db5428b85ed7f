"""Files that are not what they seem: bytes, sizes, line ends, depth. Each is answered with an error that says why."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cowcatcher.litmus import LitmusError, parse, parse_file
from cowcatcher.litmus.lexer import MAX_BYTES, MAX_WORD

GOOD = "test t\nprocess p { ksm_scan() }\n"


def mistakes(text: str) -> str:
    with pytest.raises(LitmusError) as caught:
        parse(text, "t.cow")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("test t\0\n" + GOOD[7:], "t.cow:1:7: error: a NUL byte: a test is plain ASCII text"),
        ("\ufeff" + GOOD, "t.cow:1:1: error: character U+FEFF (ZERO WIDTH NO-BREAK SPACE)"),
        (GOOD + "# caf\u00e9\n", "t.cow:3:6: error: character U+00E9 (LATIN SMALL LETTER E WITH ACUTE)"),
        (GOOD.replace("\n", "\n\u201cdescription\u201d\n", 1), "write \" instead"),
        (GOOD.replace("p {", "p\u00a0{"), "write a plain space instead"),
        (GOOD + "\udc80\udcff", "t.cow:3:1: error: byte 0x80"),
        (GOOD.replace("\n", "\r"), "a carriage return without a line feed"),
        (GOOD + "\x1b[31m", "control character 0x1b"),
        (GOOD + '"\x07"', "control character 0x07"),
        (GOOD + "\u2028", "U+2028"),
        (GOOD + "\U0001f404", "U+1F404 (COW)"),
        (GOOD + "x" * (MAX_WORD + 1), f"a word of {MAX_WORD + 1} characters: the limit is {MAX_WORD}"),
        (GOOD + "always r == " + "9" * 6000, "a word of 6000 characters"),
        ("", "the file is empty"),
        ("\n\n# nothing\n", "the file is empty"),
    ],
)  # fmt: skip
def test_message(text: str, message: str) -> None:
    found = mistakes(text)
    assert message in found
    assert found.replace("\n", "").isascii()
    assert found.replace("\n", "").isprintable()


def test_size_limit() -> None:
    assert parse(GOOD + "#" * (MAX_BYTES - len(GOOD))).name == "t"
    assert mistakes(GOOD + "#" * MAX_BYTES) == "t.cow: error: the file is too long: the limit is 64 KiB"


@pytest.mark.parametrize(
    "piece", ["(", "not ", "{", "}", "[", '"', "always (", "process p {", "a=", "\0", "\u00e9 ", "$ a "]
)
def test_a_file_full_of_one_thing_is_answered_soon(piece: str) -> None:
    text = GOOD + "always " + piece * ((MAX_BYTES - 100) // len(piece.encode()))
    began = time.process_time()
    mistakes(text)
    mistakes(text.replace(piece, piece + "\n")[:MAX_BYTES])
    assert time.process_time() - began < 5


def test_a_file_with_thousands_of_mistakes_is_answered_soon() -> None:
    began = time.process_time()
    found = mistakes("test t\nprocess p {\n" + "r=lod(bfu)\n" * 5000 + "}\n")
    assert time.process_time() - began < 5
    assert "and 4980 more" in found or "more" in found.splitlines()[-1]


def test_depth_is_bounded_by_an_error() -> None:
    deep = "always " + "(" * 32 + "r == 1" + ")" * 32
    assert parse(f"test t\nprocess p {{ r = fork(q) }}\nprocess q {{ }}\n{deep}\n").claims
    assert "nested too deep: the limit is 32" in mistakes(GOOD + "always " + "(" * 20_000)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "t.cow"
    path.write_bytes(bytes(range(256)) * 64)
    with pytest.raises(LitmusError, match="plain ASCII"):
        parse_file(path)


def test_crlf_and_no_last_line_end(tmp_path: Path) -> None:
    path = tmp_path / "t.cow"
    path.write_bytes(b"test t\r\nprocess p {\r\n  ksm_scan()\r\n}")
    assert parse_file(path) == parse(GOOD)


@pytest.mark.parametrize("name", ["missing.cow", ".", "nul\0.cow"])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(LitmusError, match="cannot be read"):
        parse_file(f"{tmp_path}/{name}")


def test_a_huge_file_is_not_read_whole() -> None:
    with pytest.raises(LitmusError, match="too long"):
        parse_file("/dev/zero")


def test_an_error_survives_pickling() -> None:
    import pickle

    with pytest.raises(LitmusError) as caught:
        parse("nonsense")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
