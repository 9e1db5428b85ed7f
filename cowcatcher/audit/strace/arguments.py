"""What strace writes between the parentheses of a call: ``{name=value}``, ``[a, b, ...]``, "strings", names with |.

Read in one pass without recursion, in time linear in the text, whatever the text is. With ``-X verbose`` and ``-y`` a
value carries a comment or a path (``0x4 /* MADV_DONTNEED */``, ``3</data/file>``): both stay in the scalar's text, and
the functions here look past them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

from cowcatcher.audit.events import Range

Value: TypeAlias = "str | list[Value] | dict[str, Value]"

#: strace's mark for what it left out: of a list after 32 entries, of a structure without ``-v``.
LEFT_OUT = "..."

#: A path, a socket, a device behind a number: ``3</dev/null<char 1:3>>``, ``7<TCP:[a->b]>``, ``3</tmp/x>(deleted)``.
#: Pieces are counted so that a text of nothing but beginnings is not searched to its end from each of them.
DECORATION = r"<(?:(?:[^<>-]++|-(?!>))++|->|<[^<>]*+>){0,16}+>(?:\(deleted\))?"

_SPECIAL = re.compile(r'["/<\[\](){},]')
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"(?:\.\.\.)?', re.DOTALL)
_DECORATION = re.compile(DECORATION)
_NUMBER = re.compile(r"\s*(-?)(?:0x([0-9a-fA-F]{1,16})|(\d{1,20})|(NULL))(?![\w.])")
_COMMENT = re.compile(r"/\*[^*]*+\*/")
_BITS = re.compile(r"(?<![\w.])(?:0x([0-9a-fA-F]{1,16})|(\d{1,20}))(?![\w.]|<<)")
_OPENS = {"]": "[", "}": "{"}
_DEEPEST = 32


class Garbled(Exception):
    """The text is not what strace would write there."""


class _Frame:
    """A list, a structure or the arguments themselves, while they are being read."""

    __slots__ = ("items", "key", "kind", "parentheses", "since", "value")

    def __init__(self, kind: str, since: int) -> None:
        self.kind = kind  # "(", "[", "{"
        self.since = since  # where the current item's text starts
        self.items: list[tuple[str, Value]] = []
        self.key = ""
        self.value: Value | None = None  # a list or structure that the current item is
        self.parentheses = 0

    def opened(self, text: str, at: int) -> None:
        """The current item is a list or structure, whose name is the text before it."""
        if self.value is None:
            self.key = text[self.since : at].strip().removesuffix("=")

    def end_item(self, text: str, at: int) -> None:
        if self.value is not None:
            self.items.append((self.key, self.value))
        else:
            scalar = text[self.since : at].strip()
            if scalar and self.kind == "{":
                key, equals, rest = scalar.partition("=")
                self.items.append((key, rest) if equals else (scalar, ""))
            elif scalar:
                self.items.append(("", scalar))
        self.value, self.key, self.since = None, "", at + 1

    def done(self) -> Value:
        if self.kind == "{":
            return dict(self.items)
        return [value for _, value in self.items]


def parse(text: str) -> tuple[list[Value], str | None]:
    """(the arguments, what follows the closing parenthesis); None where the text ends before it.

    Raises Garbled. What a structure became (``=> {…}``) is left out. A named argument keeps its name if it is a scalar.
    """
    frames = [_Frame("(", 0)]
    at, comments = 0, True
    while found := _SPECIAL.search(text, at):
        at = found.start()
        character, frame = text[at], frames[-1]
        if character == '"':
            string = _STRING.match(text, at)
            if not string:
                raise Garbled("a string does not end")
            at = string.end()
            continue
        if character == "/":
            end = text.find("*/", at + 2) if comments and text.startswith("/*", at) else -1
            comments = comments and (end >= 0 or not text.startswith("/*", at))
            at = end + 2 if end >= 0 else at + 1
            continue
        if character == "<":
            decoration = None if text.startswith("<<", at) else _DECORATION.match(text, at)
            at = decoration.end() if decoration else at + 1 + text.startswith("<<", at)
            continue
        if character == "(":
            frame.parentheses += 1
        elif character in "[{" and not frame.parentheses:
            if len(frames) == _DEEPEST:
                raise Garbled("nested too deeply")
            frame.opened(text, at)
            frames.append(_Frame(character, at + 1))
        elif character == "," and not frame.parentheses:
            frame.end_item(text, at)
        elif character == ")":
            if frame.parentheses:
                frame.parentheses -= 1
            elif frame.kind == "(":
                frame.end_item(text, at)
                return _arguments(frame), text[at + 1 :]
            else:
                raise Garbled("brackets do not match")
        elif character in "]}" and not frame.parentheses:
            if frame.kind != _OPENS[character]:
                raise Garbled("brackets do not match")
            frame.end_item(text, at)
            frames.pop()
            if frames[-1].value is None:
                frames[-1].value = frame.done()
        at += 1
    if len(frames) > 1:
        raise Garbled("brackets do not match")
    frames[0].end_item(text, len(text))
    return _arguments(frames[0]), None


def _arguments(frame: _Frame) -> list[Value]:
    return [value for _, value in frame.items]


def number(value: Value | None) -> int | None:
    """Decimal, 0x…, NULL; a comment or a path behind it does not matter. None for anything else."""
    found = _NUMBER.match(value) if isinstance(value, str) else None
    if not found:
        return None
    sign, hexadecimal, decimal, _ = found.groups()
    magnitude = int(hexadecimal, 16) if hexadecimal else int(decimal or 0)
    return -magnitude if sign else magnitude


def descriptor(value: Value | None) -> int | None:
    """A file descriptor; -1 as ``-e raw`` writes it is None, like everything that is none."""
    found = number(value)
    return found if found is not None and 0 <= found < 1 << 31 else None


def flag(value: Value | None, name: str, bit: int) -> bool:
    """Is this flag among them, written by name, in a comment, or as part of a number?"""
    if not isinstance(value, str):
        return False
    at = value.find(name)
    while at >= 0:
        after = value[at + len(name) : at + len(name) + 1]
        before = value[at - 1] if at else " "
        if not (after.isalnum() or after == "_" or before.isalnum() or before == "_"):
            return True
        at = value.find(name, at + 1)
    return any(int(h, 16) & bit if h else int(d) & bit for h, d in _BITS.findall(_COMMENT.sub("", value)))


def constant(value: Value | None, names: dict[int, str]) -> str:
    """The name of a constant, from its name, its comment or its number; what is written there if it has none."""
    if not isinstance(value, str):
        return ""
    comment = _COMMENT.search(value)
    written = comment.group()[2:-2].strip() if comment else value.strip()
    if re.fullmatch(r"[A-Z]\w*", written):
        return written
    found = number(value)
    return names.get(found, str(found)) if found is not None else written


_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|(.))", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "f": "\f"}


def _unescape(found: re.Match[str]) -> str:
    hexadecimal, octal, letter = found.groups()
    if hexadecimal:
        return chr(int(hexadecimal, 16))
    return chr(int(octal, 8) & 255) if octal else _LETTERS.get(letter, letter)


def data(value: Value | None) -> bytes | None:
    """The bytes of a string, as far as strace shows them; None if this is none."""
    if not isinstance(value, str):
        return None
    text = value.strip().removesuffix(LEFT_OUT)
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return None
    return _ESCAPE.sub(_unescape, text[1:-1]).encode("latin-1", "replace")


def string(value: Value | None) -> str | None:
    """A path or a name: its bytes, read as UTF-8."""
    if isinstance(value, str) and "\\" not in value:  # the usual case, and what is not ASCII stays as it was read
        text = value.strip().removesuffix(LEFT_OUT)
        return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else None
    found = data(value)
    return None if found is None else found.decode(errors="replace")


def decoration(value: Value | None) -> str:
    """What ``-y`` wrote behind a descriptor: "/data/file" of ``3</data/file>``."""
    if not isinstance(value, str):
        return ""
    found = _DECORATION.search(value)
    if not found:
        return ""
    inside = found.group().removesuffix("(deleted)")[1:-1]
    return _ESCAPE.sub(_unescape, inside) if "\\" in inside else inside


def vectors(value: Value | None) -> tuple[list[Range] | None, bool]:
    """(the ranges of a list of iovec, is the list complete?). None: strace shows the bytes there, not the addresses."""
    if not isinstance(value, list):
        return None, True
    ranges: list[Range] = []
    for entry in value:
        if not isinstance(entry, dict):
            return (ranges, False) if entry == LEFT_OUT else (None, True)
        base, length = number(entry.get("iov_base")), number(entry.get("iov_len"))
        if base is None or length is None:
            return None, True
        ranges.append(Range(base, base + length))
    return ranges, True


def structures(value: Value | None) -> Iterator[dict[str, Value]]:
    """The structures of a list, or the only one."""
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, dict):
            yield entry


_FIRST_STRING = re.compile(r'\s*("(?:[^"\\]|\\.)*+")', re.DOTALL)


def argument_string(text: str) -> str | None:
    """The first of a call's arguments, if it is a string: without reading the others."""
    found = _FIRST_STRING.match(text)
    return string(found[1]) if found else None
