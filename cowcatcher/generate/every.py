"""Every word up to a length: those that can happen, end with somebody reading, and do not all say the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cowcatcher.generate.ideal import READS
from cowcatcher.generate.word import PARALLEL, WordError, parse_letter
from cowcatcher.generate.write import BARE, Stage, renumbered, write_test
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.printer import to_text

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
        parse_letter(letter)
    told = set[str]()
    begun = [""]
    for _ in range(length):
        longer = []
        for beginning in begun:
            for letter in letters:
                word = f"{beginning} {letter}".strip()
                try:
                    test = write_test(word, stage)
                except WordError:
                    continue
                longer.append(word)
                text = to_text(renumbered(test))
                if parse_letter(letter)[0].op in READS and text not in told:
                    told.add(text)
                    yield word, test
        begun = longer
