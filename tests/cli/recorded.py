"""Recordings made up for what ``report`` prints: everything that a result can be, on nine kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cowcatcher.litmus import parse
from cowcatcher.litmus.ast import Test
from cowcatcher.real.host import OK, Done, Observation, Page
from cowcatcher.real.recording import HOST, Header, OnKernel, Options, Recorder


def _ending(r0: int, r1: int) -> dict[str, object]:
    return {"registers": {"mr": OK, "r0": r0, "r1": r1}, "queries": {}, "stuck": []}


TEXT = """
test {name}
memory {{ x = anon(1) }}
process p {{ mr = ibv_reg_mr(x); fork(c); store(x, 2); post(go); r0 = load(x) }}
process c {{ exit() }}
device nic {{ await(go); r1 = dma_read(mr) }}
always r0 == r1
"""
MADE = {"made": "2026-11-23T00:00:00Z", "cowcatcher": "0.1.0", "agent": "0" * 20, "directory": "/", "root": False}
KERNELS = (
    (HOST, "6.18.44", "v6.15"), ("5.10", "5.10.223", "v5.10.y"), ("6.1", "6.1.176", "v6.1.y"),
    ("6.12", "6.12.107", "v6.12"), ("6.16", "6.16.12", "v6.15"), ("6.18", "6.18.15", "v6.15"),
    ("7.0", "7.0.13", "v7.0"), ("7.2", "7.2.12", "v7.0"), ("7.3", "7.3.4", "v7.3"),
)  # fmt: skip
HOLDS: dict[str, Any] = {
    "registers": {"mr": OK, "r0": 2, "r1": 2}, "claims": [True],
    "outcomes": [_ending(2, 2)], "why_not": "", "searched": True,
}  # fmt: skip
VIOLATED: dict[str, Any] = {
    "registers": {"mr": OK, "r0": 2, "r1": 1}, "claims": [False],
    "outcomes": [_ending(2, 1), _ending(2, 2)], "why_not": "", "searched": True,
}  # fmt: skip
NOT_MODELLED: dict[str, Any] = {
    "registers": None,
    "claims": None,
    "outcomes": None,
    "why_not": "that is not modelled",
    "searched": False,
}


def test(name: str, group: str) -> Test:
    return parse(TEXT.format(name=name), f"{group}/{name}")


def on(name: str, release: str, model: str) -> OnKernel:
    about = {"name": model, "place": 1, "variant_of": None, "summary": ""}
    image = {"uname": release} if name == HOST else {"vmlinux_sha256": "0" * 64}
    return OnKernel(name, release, image, about)


def seen(of: Test, r1: int = 2, status: Any = "ok", reason: str = "", run: int = 0, **more: Any) -> Observation:
    registers = {"mr": OK, "r0": 2, "r1": r1} if status == "ok" else {}
    return Observation(of.name, status, reason, run, registers, kernel="6.1.0", microseconds=100, **more)


def many(path: Path) -> None:
    """Thirty-six tests on nine kernels, the last of which was not done when it was killed."""
    names = [(f"{group}_{n}", group) for group in ("reads", "writes", "forks") for n in range(12)]
    tests = [test(*name) for name in names]
    with Recorder.start(path, Header(tuple(tests), tuple(on(*k) for k in KERNELS), Options(), MADE)) as recorder:
        for place, (kernel, _, model) in enumerate(KERNELS):
            for number, one in enumerate(tests[:20] if kernel == "7.3" else tests):
                recorder.observed(kernel, number, _one(one, number, place))
                if (model, number) not in recorder.recording.predictions:
                    recorder.predicted(model, number, _said(number, kernel))
            if kernel != "7.3":
                facts = {
                    "uname": f"{kernel}.0",
                    "boot": 2.0,
                    "log": "/log",
                    "lost": int(kernel == "6.12"),
                    "problems": [],
                }
                recorder.machine(kernel, {"seconds": 1.5 * place + 0.5, **(facts if kernel != HOST else {})})


def _said(number: int, kernel: str) -> dict[str, Any]:
    old = kernel in ("5.10", "6.1")
    return NOT_MODELLED if number == 9 else VIOLATED if number in (4, 21) or (number in (5, 22) and old) else HOLDS


def _one(of: Test, number: int, place: int) -> Observation:
    kernel = KERNELS[place][0]
    if number in (1, 2, 13) or (number in (3, 14) and kernel == HOST):
        return seen(of, status="not applicable", reason="mr = ibv_reg_mr(x): there is no way to take that pin")
    if number == 30 and kernel == HOST:
        return seen(of, status="not applicable", reason="madvise(x, PAGEOUT): without swap nothing is paged out")
    if number == 6 and kernel == "6.12":
        return seen(of, status="crash", reason="the virtual machine was lost in p: fork(c): QEMU ended")
    if number == 7 and kernel in ("7.0", "7.2"):
        return seen(of, r1=1)  # which the model does not allow
    return seen(of, r1=1 if _said(number, kernel) is VIOLATED else 2)


def flaky(path: Path) -> None:
    """One test on two kernels ten times; on one of them not the same each time."""
    one = test("sometimes", "races")
    with Recorder.start(path, Header((one,), tuple(on(*k) for k in KERNELS[:2]), Options(repeat=10), MADE)) as recorder:
        for run in range(10):
            recorder.observed(HOST, 0, seen(one, run=run))
            recorder.observed("5.10", 0, seen(one, 1 if run in (2, 5, 6) else 2, run=run))
        recorder.predicted("v6.15", 0, HOLDS)
        recorder.predicted("v5.10.y", 0, VIOLATED)
        for kernel in (HOST, "5.10"):
            recorder.machine(kernel, {"seconds": 0.5})


def alone(path: Path) -> None:
    """One test, traced."""
    one = test("alone", "races")
    before = (Page("p", "x", 0, "present", 0x1A2B, 1, 0),)
    after = (Page("p", "x", 0, "present", 0x1A2B, 1, 0), Page("c", "x", 0, "present", 0x3C4D, 1, 0))
    log = (
        Done("p", 0, "mr = ibv_reg_mr(x)", OK, "value", before),
        Done("p", 1, "fork(c)", OK, "value", after),
        Done("p", 2, "store(x, 2)", OK, "value", after),
        Done("p", 3, "post(go)", OK, "value", after),
        Done("p", 4, "r0 = load(x)", 2, "value", after),
        Done("nic", 0, "await(go)", OK, "value", after),
        Done("nic", 1, "r1 = dma_read(mr)", 2, "value", after),
    )
    with Recorder.start(path, Header((one,), (on(*KERNELS[0]),), Options(trace=True), MADE)) as recorder:
        recorder.observed(
            HOST,
            0,
            seen(
                one,
                pages=after,
                pinned={("mr", 0): 0x1A2B},
                log=log,
                stand_ins=("a stand-in",),
                backends={"mr = ibv_reg_mr(x)": "uring"},
            ),
        )
        recorder.predicted("v6.15", 0, HOLDS)
        recorder.machine(HOST, {"seconds": 0.25})
