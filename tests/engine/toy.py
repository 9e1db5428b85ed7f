"""Graphs that are written out, as spaces: what the engine finds in them can be counted by hand.

The first part is compiled: a state is one word, the number of a node; ``m`` is the address of a table that has for each
node its number of steps, and for each step where it leads and its flags.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cowcatcher.engine.build import digest_of, instantiate
from cowcatcher.engine.search import Space
from cowcatcher.engine.words import load_word, longs_at, store_word

WIDTH = 6
ROW = 1 + 2 * WIDTH
STAY = 128
#: A state is longer than it must be, to have something to copy.
SIZE = 24


def expand(m, state, out, fps, labels, flags):
    table = longs_at(m)
    row = np.int64(load_word(state, 0)) * ROW
    n = table[row]
    for i in range(n):
        to = table[row + 1 + 2 * i]
        store_word(out, i * SIZE, np.uint64(to))
        store_word(out, i * SIZE + 8, np.uint64(to + 1) * np.uint64(0x9E3779B97F4A7C15))
        store_word(out, i * SIZE + 16, np.uint64(0))
        labels[i] = i
        flags[i] = table[row + 2 + 2 * i]
    return n


# --- interpreted --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Graph:
    """For each node its steps, as (where to, flags)."""

    steps: list[list[tuple[int, int]]]

    def table(self) -> np.ndarray:
        table = np.zeros((len(self.steps), ROW), dtype=np.int64)
        for node, steps in enumerate(self.steps):
            table[node, 0] = len(steps)
            for i, (to, flags) in enumerate(steps):
                table[node, 1 + 2 * i : 3 + 2 * i] = to, flags
        return table


def state(node: int) -> bytes:
    return node.to_bytes(8, "little") + ((node + 1) * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "little") + bytes(8)


def node_of(state: bytes) -> int:
    return int.from_bytes(state[:8], "little")


def space(graph: Graph, stays: bool, initial: tuple[int, ...] = (0,)) -> tuple[Space, np.ndarray]:
    """The space of a graph, and its table, which has to live as long."""
    path = Path(__file__)
    digest = digest_of([path])
    table = graph.table()
    code = instantiate(path, {}, digest)
    address = int(table.ctypes.data)
    return Space("toy", SIZE, WIDTH, code.expand, address, [state(n) for n in initial], digest, stays=stays), table


def random_graph(seed: int, nodes: int, stay: float, flagged: float = 0.0) -> Graph:
    """Steps go a little forward or far back, so that there are levels."""
    dice = random.Random(seed)
    steps: list[list[tuple[int, int]]] = []
    for node in range(nodes):
        steps.append([])
        for _ in range(dice.randrange(WIDTH + 1) if node else WIDTH):
            to = dice.randrange(max(nodes // 50, 2)) + node + 1 if dice.random() < 0.6 else dice.randrange(nodes)
            flags = STAY if dice.random() < stay else 0
            flags |= (dice.random() < flagged) << dice.randrange(2)
            steps[-1].append((to % nodes, flags))
    return Graph(steps)


def distances(graph: Graph, stays: bool, initial: tuple[int, ...] = (0,)) -> dict[int, int]:
    """Costed steps to each node that can be reached: Bellman and Ford, for who trusts nothing cleverer."""
    found = dict.fromkeys(initial, 0)
    changed = True
    while changed:
        changed = False
        for node in list(found):
            for to, flags in graph.steps[node]:
                far = found[node] + (not (stays and flags & STAY))
                if far < found.get(to, 1 << 30):
                    found[to] = far
                    changed = True
    return found
