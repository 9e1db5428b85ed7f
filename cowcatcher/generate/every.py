"""Every word up to a length: those that can happen, end with somebody reading, and do not all say the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cowcatcher.generate.ideal import READS
from cowcatcher.generate.word import PARALLEL, WordError, parse_letter
from cowcatcher.generate.write import BARE, Stage, happens, unnamed, write_test
from cowcatcher.litmus.ast import Test

#: What is spelt with if nothing is said.
USUAL = (
    "Pin[W|LONGTERM]", "Pin[R|LONGTERM]", "Vmsplice", "Vmsplice.c", "Fork", "ChildExit", "Store.p", "Store.c",
    "Load.p", "Load.c", "Dma.r", "Dma.w", "Swap.p", "Munmap.p", "Munmap.c",
)  # fmt: skip


def every_word(length: int, letters: Sequence[str] = USUAL, stage: Stage = BARE) -> Iterator[tuple[str, Test]]:
    """All words of at most ``length`` letters with their tests, the shortest first, in the order of the letters.

    A word that ends with anything but a read says nothing that a longer one does not. Words that differ only in how
    something is written down, such as a wait that stands there anyway, are one. Raises WordError for a letter that is
    none.
    """
    for letter in letters:
        if letter == PARALLEL:
            raise WordError("words that are made up have one part")
    reads = {letter for letter in letters if parse_letter(letter)[0].op in READS}
    told = set[Test]()
    begun = [""]
    for left in reversed(range(length)):
        longer = []
        for word in (f"{beginning} {letter}".strip() for beginning in begun for letter in letters):
            ends = word.rpartition(" ")[2] in reads
            if not (ends or left) or not happens(word, stage):
                continue
            longer.append(word)
            if ends:
                test = write_test(word, stage)
                if (alike := unnamed(test)) not in told:
                    told.add(alike)
                    yield word, test
        begun = longer
