"""Mutated tests thrown at the reader: whatever comes in, the answer is a test or a ``LitmusError``.

    python -m tests.litmus.fuzz --count 1000000 --jobs 2

Each input is made from ``(seed, index)`` alone, so that a failure is repeated by ``--first INDEX --count 1``. An input
that can be read is also printed, read back and laid out.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cowcatcher.litmus import LitmusError, format_source, parse, to_text
from cowcatcher.litmus.parser import parse_form

_HERE = Path(__file__).parent
_WORDS = (
    "test", "memory", "process", "thread", "of", "device", "iommu", "kernel", "may", "always", "never", "sometimes",
    "expect", "holds", "violated", "on", "unchecked", "source", "and", "or", "not", "in", "load", "store", "fork",
    "pin", "READ", "WRITE|LONGTERM", "same_page", "EFAULT", "buf", "heap.a", "buf[1]", "mr", "child", "parent",
    "v5.9-rc4", "v5.7..v5.9", "0", "15", "16", "anon", "thp", "pages=2", "prot=R",
)  # fmt: skip
_NASTY = (
    "\0", "\r", "\t", "\v", "\x7f", "\x85", "\u00a0", "\u2028", "\ufeff", "\udc80", "\U0001f404", "\u00e9",
    '"', "\\", "'", "(" * 100, "not " * 100, "{" * 50, "}" * 50, "x" * 300, "9" * 5000, "...", "..", "/*", "//",
    "&&", ";", ";;;", "#", "# c", "\r\n", "\n", "\n\n\n", "-", "=", "==", "|", ",", "[", "]", '""', '"a\\"b"',
    " " * 500, "= = =", "a.b.c", "a[1][2]",
)  # fmt: skip


def seeds() -> list[str]:
    """What the mutations start from: the tests of this folder, good ones as often as bad ones."""
    good, bad = sorted(_HERE.glob("good/*.cow")), sorted(_HERE.glob("bad/*.cow"))
    files = [*(good * (len(bad) // len(good))), *bad]
    return [f.read_bytes().decode("utf-8", "surrogateescape") for f in files]


# --- mutations ----------------------------------------------------------------------------------------------------

Mutation = Callable[[random.Random, str, Sequence[str]], str]


def _cut(rng: random.Random, text: str, _: Sequence[str]) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + text[at + rng.choice((1, 1, 2, 5, 40)) :]


def _insert(rng: random.Random, text: str, _: Sequence[str]) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(_NASTY if rng.random() < 0.5 else _WORDS) + text[at:]


def _replace(rng: random.Random, text: str, _: Sequence[str]) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + chr(rng.randrange(32, 127)) + text[at + 1 :]


def _truncate(rng: random.Random, text: str, _: Sequence[str]) -> str:
    return text[: rng.randrange(len(text) + 1)]


def _splice(rng: random.Random, text: str, corpus: Sequence[str]) -> str:
    other = rng.choice(corpus)
    return text[: rng.randrange(len(text) + 1)] + other[rng.randrange(len(other) + 1) :]


def _lines(rng: random.Random, text: str, _: Sequence[str]) -> str:
    lines = text.split("\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    choice = rng.randrange(4)
    if choice == 0:
        del lines[i]
    elif choice == 1:
        lines.insert(j, lines[i])
    elif choice == 2:
        lines[i], lines[j] = lines[j], lines[i]
    else:
        lines[i] = f"{lines[i]};{lines[j]}"
    return "\n".join(lines)


def _words(rng: random.Random, text: str, _: Sequence[str]) -> str:
    words = text.split(" ")
    i = rng.randrange(len(words))
    words[i] = rng.choice((rng.choice(_WORDS), rng.choice(words), ""))
    return " ".join(words)


def _repeat(rng: random.Random, text: str, _: Sequence[str]) -> str:
    at = rng.randrange(len(text) + 1)
    piece = text[at : at + rng.randrange(1, 60)]
    return text[:at] + piece * rng.choice((2, 2, 2, 3, 30)) + text[at:]


_MUTATIONS: tuple[Mutation, ...] = (
    _cut,
    _insert,
    _insert,
    _replace,
    _truncate,
    _splice,
    _lines,
    _words,
    _words,
    _repeat,
)


def mutated(seed: int, index: int, corpus: Sequence[str]) -> str:
    """Input number ``index``: a seed with one to six mutations, always the same."""
    rng = random.Random(seed * 1_000_003 + index)
    text = min(rng.choice(corpus), rng.choice(corpus), key=len)  # small ones more often: they are faster
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 6))):
        text = rng.choice(_MUTATIONS)(rng, text, corpus)
    return text


# --- what must hold -----------------------------------------------------------------------------------------------


def comments_of(text: str) -> list[str]:
    return sorted(c.text for c in parse_form(text).comments)


def try_one(text: str, index: int = 0) -> bool:
    """Read ``text`` and hold the reader to its promises; whether it was a test. Only a ``LitmusError`` is swallowed."""
    try:
        test = parse(text)
    except LitmusError as error:
        check_error(error)
        if index % 8 == 0:  # most of these have a good form all the same: laying out a part of them is enough
            check_layout(text)
        return False
    assert parse(to_text(test)) == test, "print and parse are not inverse"
    check_layout(text)
    return True


def check_error(error: LitmusError) -> None:
    lines = str(error).split("\n")
    assert error.diagnostics
    assert all(line.isascii() and line.isprintable() for line in lines), "not plain text"


def check_layout(text: str) -> None:
    try:
        laid_out = format_source(text)
    except LitmusError:
        return
    assert format_source(laid_out) == laid_out, "fmt is not idempotent"
    assert comments_of(laid_out) == comments_of(text), "fmt lost a comment"
    assert parse_form(laid_out).test == parse_form(text).test, "fmt changed the test"


@dataclass
class Tally:
    count: int = 0
    read: int = 0
    worst_s: float = 0.0
    worst_index: int = 0
    peak_kib: int = 0

    def add(self, other: Tally) -> None:
        self.count += other.count
        self.read += other.read
        self.peak_kib = max(self.peak_kib, other.peak_kib)
        if other.worst_s > self.worst_s:
            self.worst_s, self.worst_index = other.worst_s, other.worst_index


def run(seed: int, first: int, count: int) -> Tally:
    """Try ``count`` inputs from ``first`` on. One that breaks a promise ends the run with its index and its text."""
    corpus = seeds()
    tally = Tally(count)
    for index in range(first, first + count):
        text = mutated(seed, index, corpus)
        start = time.process_time()  # of this process alone: others may be at work
        try:
            tally.read += try_one(text, index)
        except Exception as problem:
            raise AssertionError(f"seed {seed}, index {index}: {problem!r}\n{text!r}") from problem
        spent = time.process_time() - start
        if spent > tally.worst_s:
            tally.worst_s, tally.worst_index = spent, index
    tally.peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return tally


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="throw mutated tests at the reader")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    chunk = min(5_000, args.count)
    starts = range(args.first, args.first + args.count, chunk)
    sizes = [min(chunk, args.first + args.count - s) for s in starts]
    total = Tally()
    began = time.perf_counter()
    with ProcessPoolExecutor(args.jobs) as pool:
        for tally in pool.map(run, [args.seed] * len(sizes), starts, sizes):
            total.add(tally)
    took = time.perf_counter() - began
    print(f"{total.count} inputs, {total.read} of them tests, in {took:.0f} s: {total.count / took:.0f} inputs/s")
    worst = f"{total.worst_s * 1000:.0f} ms (index {total.worst_index})"
    print(f"worst input {worst}, peak memory {total.peak_kib / 1024:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
