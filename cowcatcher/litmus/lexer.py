"""Text to tokens.

The lexer knows no context. A kernel's name such as ``v5.9-rc4`` comes out as the pieces ``v5 . 9 - rc4``; the parser
puts adjacent pieces together where a kernel's name may stand. Comments are kept beside the tokens, for ``fmt``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias, cast

from cowcatcher.litmus.ast import Span
from cowcatcher.litmus.errors import Report, printable, quoted

MAX_BYTES: Final = 64 * 1024
MAX_WORD: Final = 64

#: "word" is one that is neither a name nor a number (``9rc``), "eol" a line's end or ``;``.
Kind: TypeAlias = Literal["name", "number", "word", "string", "punct", "eol", "end"]


class Token(NamedTuple):
    """``start`` and ``stop`` are offsets into the text; ``value`` is a string's content, else the text itself."""

    kind: Kind
    text: str
    line: int
    col: int
    start: int
    stop: int
    value: str

    @property
    def span(self) -> Span:
        return Span(self.line, self.col, self.col + max(1, self.stop - self.start))


class Comment(NamedTuple):
    """A ``#`` comment from ``#`` on, without trailing blanks."""

    text: str
    line: int
    start: int


@dataclass(frozen=True, slots=True)
class Lexed:
    """``tokens`` ends with an "end" token, and every line with an "eol" one."""

    tokens: list[Token]
    comments: list[Comment]


#: One token, with the blanks before it. The groups are named after kinds, so that the group that matched is the kind.
_TOKEN = re.compile(
    r"""[ \t]*(?:
        (?P<name>    [A-Za-z_][A-Za-z0-9_]* )
      | (?P<number>  [0-9]+ (?![A-Za-z0-9_]) )
      | (?P<word>    [0-9][A-Za-z0-9_]* )
      | (?P<punct>   == | != | \.\. | [{}()\[\],=|:.\-] )
      | (?P<eol>     [\n;] )
      | (?P<comment> \#[^\n]* )
      | (?P<string>  "(?:[^"\\\n]|\\.)*" )
      | (?P<blank>   \Z )
    )""",
    re.VERBOSE,
)
#: What no token can start with: reported once a run, however long. Compiled when needed: most files have none.
_JUNK = r'[^ \t\n;#"A-Za-z0-9_{}()\[\],=|:.\-]+'
_FOREIGN = r"[^\t\n\x20-\x7e]"

#: Marks from C, herd and mail, and how the same thing is written here.
_INSTEAD = {
    "&&": "'and' joins conditions",
    "&": "'and' joins conditions",
    "/\\": "'and' joins conditions",
    "\\/": "'or' joins conditions",
    "~": "'not' denies a condition",
    "!": "'not' denies a condition",
    "//": "a comment starts with '#'",
    "/*": "a comment starts with '#'",
    "*": "a comment starts with '#'; a place is named without '*'",
    "<": "only == and != compare",
    ">": "only == and != compare",
    "'": 'a text stands between double quotes: "like this"',
}
_TYPESET = {
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-", "\u2026": "..",
    "\u00a0": "a plain space", "\u200b": "nothing", "\ufeff": "nothing", "\u2260": "!=", "\u2227": "and",
    "\u2228": "or",
}  # fmt: skip


def normal(text: str) -> str:
    """``text`` with the line ends of this house."""
    return text.replace("\r\n", "\n")


def lex(text: str, report: Report) -> Lexed:
    """Cut ``text`` (as ``normal`` gives it) into tokens; what cannot be one is reported and left out."""
    return _Lexer(text, report).run()


class _Lexer:
    def __init__(self, text: str, report: Report) -> None:
        self.text = text
        self.report = report
        self.pos = 0
        self.line = 1
        self.line_start = 0
        self.tokens: list[Token] = []
        self.comments: list[Comment] = []

    def run(self) -> Lexed:
        match, text, size = _TOKEN.match, self.text, len(self.text)
        while self.pos < size:
            found = match(text, self.pos)
            if found is None:
                self._no_token()
                continue
            kind = found.lastgroup
            start, stop = found.span(kind or 0)
            self.pos = start
            if kind == "punct" or (kind in ("name", "number", "word") and stop - start <= MAX_WORD):
                self._add(cast(Kind, kind), text[start:stop])
            else:
                self._token(kind, text[start:stop])
            self.pos = stop
        self._add("eol", "")
        self._add("end", "")
        return Lexed(self.tokens, self.comments)

    def _token(self, kind: str | None, text: str) -> None:
        """A token that needs more than being noted."""
        stop = self.pos + len(text)
        if kind == "eol":
            self._add("eol", text)
            if text == "\n":
                self.line += 1
                self.line_start = stop
        elif kind == "comment":
            self._foreign(self.pos, stop)
            self.comments.append(Comment(text.rstrip(), self.line, self.pos))
        elif kind == "string":
            self._foreign(self.pos, stop)
            self._add("string", text, self._unescaped(text[1:-1]))
        elif kind != "blank":
            span = self._span(self.pos, stop)
            self._error(span, f"a word of {len(text)} characters: the limit is {MAX_WORD}")

    def _no_token(self) -> None:
        """Report what stands here and step over it: a text without an end, or characters that mean nothing."""
        while self.text[self.pos] in " \t":
            self.pos += 1
        if self.text[self.pos] != '"':
            self._junk()
            return
        end = self.text.find("\n", self.pos)
        end = len(self.text) if end < 0 else end
        self._error(
            self._span(self.pos, end),
            "this text has no end",
            expected=["a closing '\"' on the same line"],
            hint="a long description is several texts, one a line",
        )
        self.pos = end

    def _add(self, kind: Kind, text: str, value: str | None = None) -> None:
        start = self.pos
        stop, col = start + len(text), start - self.line_start + 1
        self.tokens.append(Token(kind, text, self.line, col, start, stop, text if value is None else value))

    def _error(self, span: Span, message: str, *, expected: Iterable[str] = (), hint: str | None = None) -> None:
        """One mistake a line is enough: what follows is usually its consequence."""
        if span.line not in self.report.broken_lines:
            self.report.error(span, message, expected=expected, hint=hint)

    def _span(self, start: int, stop: int) -> Span:
        return Span(self.line, start - self.line_start + 1, stop - self.line_start + 1)

    def _unescaped(self, body: str) -> str:
        if "\\" not in body:
            return body
        for escape in re.finditer(r"\\(.)", body):
            if escape.group(1) not in '"\\':
                at = self.pos + 1 + escape.start()
                self._error(
                    self._span(at, at + 2),
                    f"{quoted(escape.group())} means nothing in a text",
                    expected=["'\\\"'", "'\\\\'"],
                )
        return re.sub(r"\\(.)", r"\1", body)

    def _foreign(self, start: int, stop: int) -> None:
        """Report the first character between the offsets that has no place in a plain ASCII file."""
        if found := re.compile(_FOREIGN).search(self.text, start, stop):
            self._foreign_at(found.start())

    def _foreign_at(self, at: int) -> None:
        char = self.text[at]
        span = self._span(at, at + 1)
        self._error(span, f"{_described(char)}: a test is plain ASCII text", hint=_foreign_hint(char))

    def _junk(self) -> None:
        found = re.compile(_JUNK).match(self.text, self.pos)
        assert found is not None  # every other character starts a token
        run = found.group()
        if foreign := re.search(_FOREIGN, run):
            self._foreign_at(self.pos + foreign.start())
        else:
            hint = next((_INSTEAD[run[:n]] for n in (2, 1) if run[:n] in _INSTEAD), None)
            self._error(self._span(self.pos, found.end()), f"{quoted(run)} has no meaning here", hint=hint)
        self.pos = found.end()


def _described(char: str) -> str:
    code = ord(char)
    if code == 0:
        return "a NUL byte"
    if code == 0x0D:
        return "a carriage return without a line feed"
    if 0xDC80 <= code <= 0xDCFF:  # how an undecodable byte comes out of surrogateescape
        return f"byte 0x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"control character 0x{code:02x}"
    from unicodedata import name

    return f"character U+{code:04X} ({printable(name(char, 'no name'))})"


def _foreign_hint(char: str) -> str | None:
    instead = _TYPESET.get(char)
    return None if instead is None else f"a mail program may have put it there; write {instead} instead"
