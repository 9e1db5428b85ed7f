"""Which backend a statement gets, by what the machine has."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cowcatcher.litmus.parser import parse
from cowcatcher.real.backends import BACKENDS, promised
from cowcatcher.real.lower import Facilities, Lowered, NotApplicable, lower

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


def of_vivid(memory: str, actors: str) -> Lowered:
    test = parse(f"test t\nmemory {{ {memory} }}\n{actors}\nnever r == EIO")
    return lower(test, Facilities(backends=EVERYTHING, prefer=("vivid",)))


def test_vivid_is_taken_when_asked_for_only() -> None:
    statement = "pin(x, WRITE|LONGTERM)"
    assert backend_of(statement, prefer=("vivid",)) == "vivid"
    with pytest.raises(NotApplicable, match="fixed buffer: not on this machine") as refused:
        backend_of(statement, {"vivid": ""})
    assert "vivid" not in str(refused.value)


def test_a_mapping_is_as_long_as_what_vivid_pins() -> None:
    lowered = of_vivid("x = anon(1); y = anon(2)", "process p { r = vfio_map(x[0]); mprotect(x[0], R); store(y, 3) }")
    span, headroom = BACKENDS["vivid"].span, BACKENDS["vivid"].headroom
    assert [line for line in lowered.lines if line.startswith(("map", "cell"))] == [
        f"map anon w 1 4096 {span} 3",
        f"cell 0 {headroom} 1",
        "map anon w 1 4096 4096 3",
        f"cell 1 {headroom} 2",
    ]
    assert [line for line in lowered.lines if line.startswith("step")] == [
        "step 0 pin 0 -1 0 0 0 0",
        "step 0 mprotect 0 -1 0 0 1 0",
        f"step 0 store 1 0 {headroom} 0 3 1",
    ]


@pytest.mark.parametrize(
    ("memory", "actors", "reason"),
    [
        (
            "x = anon(1)",
            "process p { q = vfio_map(x); post(e) }\ndevice d { await(e); r = dma_read(q) }",
            "reads no memory",
        ),
        ("x = anon(1, pages=2)", "process p { r = vfio_map(x) }", "more than the pages of a mapping"),
        ("x = anon(a=1, b=2)", "process p { r = vfio_map(x) }", "room for one cell"),
        ("x = anon(1, prot=R)", "process p { r = vfio_map(x) }", "some kernels let"),
        ("x = anon(1)", "process p { mprotect(x, R); mprotect(x, RW); r = vfio_map(x) }", "some kernels let"),
    ],
)
def test_not_by_vivid(memory: str, actors: str, reason: str) -> None:
    with pytest.raises(NotApplicable, match=reason):
        of_vivid(memory, actors)


def test_direct_io_begins_at_a_sector_beside_a_device_that_cannot_use_the_first_bytes() -> None:
    """AF_XDP leaves 256 bytes alone, and an unaligned direct read is EINVAL."""
    test = parse(
        "test t\nmemory { x = anon(a=1, b=2) }\n"
        "process p { m = dio_read(x, BLOCK); u = xdp_umem(x); r = load(x.a); s = load(x.b) }\nnever r == 9"
    )
    lines = lower(test, Facilities(backends=EVERYTHING)).lines
    offsets = [int(line.split()[2]) for line in lines if line.startswith("cell")]
    assert offsets == [512, 1024]
    assert [int(line.split()[5]) for line in lines if " load " in line] == offsets
