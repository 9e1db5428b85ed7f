"""Which backend a statement gets, by what the machine has."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cowcatcher.litmus.parser import parse
from cowcatcher.real.backends import BACKENDS, promised
from cowcatcher.real.lower import Facilities, NotApplicable, lower

EVERYTHING = dict.fromkeys(BACKENDS, "")


def backend_of(statement: str, backends: Mapping[str, str] = EVERYTHING, prefer: tuple[str, ...] = ()) -> str:
    test = parse(f"test t\nmemory {{ x = anon(1) }}\nprocess p {{ q = {statement} }}\nnever q == EIO")
    return lower(test, Facilities(backends=backends, prefer=prefer)).backends[0]


@pytest.mark.parametrize(
    ("statement", "backend"),
    [
        ("io_uring_register(x)", "uring"),
        ("vmsplice(x)", "pipe"),
        ("get(x, READ)", "pipe"),
        ("ibv_reg_mr(x)", "rxe"),
        ("ibv_reg_mr(x, READONLY)", "rxe"),
        ("odp_reg_mr(x)", "rxe_odp"),
        ("pin(x, WRITE|LONGTERM)", "uring"),
        ("pin(x, WRITE|FORCE|LONGTERM)", "rxe"),
        ("vfio_map(x)", "vfio"),
        ("vfio_map(x, READONLY)", "vfio"),
        ("pin(x, READ|LONGTERM)", "vfio"),
    ],
)
def test_own_backend_first(statement: str, backend: str) -> None:
    assert backend_of(statement) == backend


def test_another_of_the_class_stands_in() -> None:
    assert backend_of("ibv_reg_mr(x)", {"uring": ""}) == "uring"


def test_soft_roce_forces_and_stands_in_for_nothing_that_does_not() -> None:
    """It pins for writing, up to 6.1 also what is registered read-only."""
    for statement in ("pin(x, WRITE|LONGTERM)", "pin(x, READ|LONGTERM)"):
        with pytest.raises(NotApplicable):
            backend_of(statement, {"rxe": ""}, ("rxe",))


def test_the_reason_is_the_machines() -> None:
    with pytest.raises(NotApplicable, match="built without CONFIG_IO_URING"):
        backend_of("io_uring_register(x)", promised("CONFIG_SWAP=y", modules=True))


def test_modules_count_only_where_they_are() -> None:
    config = "\n".join(f"CONFIG_{option}=m" for b in BACKENDS.values() for option in b.config)
    assert not any(promised(config, modules=True).values())
    assert promised(config, modules=False)["rxe"]
