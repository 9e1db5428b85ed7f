"""How large the common model is made, and how many states it has then: whoever counts differently has another model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Counts(NamedTuple):
    """Reachable states, and steps out of them (steps that change nothing and steps to the same state included)."""

    states: int
    transitions: int


@dataclass(frozen=True)
class Size:
    """What README.md calls KP KV KF KD KW KS."""

    name: str
    processes: int
    pages: int
    frames: int
    pins: int
    values: int
    slots: int

    def defines(self, rule: int, canonical: bool) -> dict[str, int]:
        """The parameters as the C and the Promela version name them."""
        return {
            "KP": self.processes,
            "KV": self.pages,
            "KF": self.frames,
            "KD": self.pins,
            "KW": self.values,
            "KS": self.slots,
            "RULE": rule,
            "CANON": int(canonical),
        }


S = Size("S", processes=2, pages=1, frames=3, pins=1, values=2, slots=1)
M = Size("M", processes=2, pages=2, frames=4, pins=1, values=2, slots=1)
L = Size("L", processes=2, pages=2, frames=4, pins=1, values=3, slots=1)
SIZES = {size.name: size for size in (S, M, L)}

#: (size, rule, canonical) -> what there is to be found.
COUNTS = {
    ("S", 0, True): Counts(8_768, 78_548),
    ("S", 1, True): Counts(9_080, 81_720),
    ("S", 0, False): Counts(39_544, 361_528),
    ("M", 0, True): Counts(1_578_800, 21_654_304),
    ("M", 1, True): Counts(1_639_728, 22_519_808),
    ("M", 0, False): Counts(31_406_768, 434_627_200),
    ("L", 0, True): Counts(13_240_872, 224_456_208),
}

#: Size -> states on RULE 0, with canonical numbers, in which a living owner's page is not the one that it pinned.
INCOHERENT = {"S": 704, "M": 170_368, "L": 1_926_720}

#: Rule -> number of steps to the first of them.
FIRST_INCOHERENT = {0: 3, 1: 4}
