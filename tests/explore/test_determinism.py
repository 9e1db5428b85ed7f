"""The same test gives the same answer, to the byte, whatever the interpreter hashes by."""

from __future__ import annotations

import os
import subprocess
import sys

_PROGRAM = """
from cowcatcher.explore.search import Limits
from cowcatcher.explore.verdict import check_all
from cowcatcher.kernels import KERNELS
from tests.random_tests import random_test
for seed in range(12):
    kernels = [KERNELS[k] for k in ("v5.7", "v5.9-rc4", "v5.18", "v7.3")]
    for result in check_all(random_test(seed), kernels, Limits(states=3000)):
        print(result.kernel.name, result.same_as, result.verdict.value, result.states, result.transitions, result.depth)
        print(result.violations, result.outcomes, result.vacuous, result.reason)
"""


def _printed(hash_seed: str) -> bytes:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, check=True, timeout=120
    ).stdout


def test_the_same_under_every_hash_seed() -> None:
    first = _printed("0")
    assert first.count(b"\n") == 2 * 48
    assert b"violated" in first
    assert b"holds" in first
    assert b"Outcome(" in first
    assert all(_printed(seed) == first for seed in ("1", "12345"))
