"""Every statement once on the kernel of this machine, in small ordered tests whose outcome no kernel disputes."""

from __future__ import annotations

import pytest

from .conftest import Run

KPF_THP = 22

#: name -> memory, actors, what the registers hold at the end
Cases = dict[str, tuple[str, str, dict[str, int | str]]]

EVERYWHERE: Cases = {
    "load_store": ("x = anon(1)", "process p { a = load(x); store(x, 2); b = load(x) }", {"a": 1, "b": 2}),
    "cells": (
        "x = anon(a=1, b=2)",
        "process p { store(x.b, 3); a = load(x.a); b = load(x.b) }",
        {"a": 1, "b": 3},
    ),
    "pages": (
        "x = anon(4, pages=2)",
        "process p { store(x[1], 5); a = load(x[0]); b = load(x[1]) }",
        {"a": 4, "b": 5},
    ),
    "untouched": ("x = anon()", "process p { a = load(x); store(x, 1); b = load(x) }", {"a": 0, "b": 1}),
    "zero_page": ("x = anon_zero()", "process p { a = load(x); store(x, 1); b = load(x) }", {"a": 0, "b": 1}),
    "read_only": (
        "x = anon(1, prot=R)",
        "process p { r = store(x, 2); a = load(x) }",
        {"r": "SIGSEGV", "a": 1},
    ),
    "fork_is_private": (
        "x = anon(1)",
        "process p { fork(c); store(x, 2); post(e); await(f); a = load(x) }"
        "process c { await(e); b = load(x); store(x, 3); post(f) }",
        {"a": 2, "b": 1},
    ),
    "shared_anon": (
        "x = shared_anon(1)",
        "process p { fork(c); store(x, 2); post(e) }\nprocess c { await(e); b = load(x) }",
        {"b": 2},
    ),
    "memfd": (
        "x = memfd(1)",
        "process p { fork(c); store(x, 2); post(e) }\nprocess c { await(e); b = load(x) }",
        {"b": 2},
    ),
    "file_shared": (
        "x = file_shared(1)",
        "process p { fork(c); store(x, 2); post(e) }\nprocess c { await(e); b = load(x) }",
        {"b": 2},
    ),
    "file_private": (
        "x = file_private(1)",
        "process p { a = load(x); fork(c); store(x, 2); post(e) }\nprocess c { await(e); b = load(x) }",
        {"a": 1, "b": 1},
    ),
    "wait": (
        "x = anon(1)",
        "process p { fork(c); r = wait(c); a = load(x) }\nprocess c { exit() }",
        {"r": "ok", "a": 1},
    ),
    "grandchild": (
        "x = anon(1)",
        "process p { fork(c); wait(c); post(e); await(f) }\nprocess c { fork(g); store(x, 2); exit() }"
        "process g { await(e); a = load(x); post(f) }",
        {"a": 1},
    ),
    "vfork_shares": (
        "x = anon(1)",
        "process p { r = vfork(c); a = load(x) }\nprocess c { store(x, 2); exit() }",
        {"r": "ok", "a": 2},
    ),
    "vfork_until_exec": (
        "x = anon(1)",
        "process p { vfork(c); a = load(x) }\nprocess c { store(x, 2); r = exec(); b = load(x) }",
        {"a": 2, "r": "ok", "b": "SIGSEGV"},
    ),
    "exec_replaces_memory": (
        "x = anon(1)",
        "process p { r = exec(); a = load(x) }",
        {"r": "ok", "a": "SIGSEGV"},
    ),
    "fork_after_exec": (
        "x = anon(1)",
        "process p { exec(); fork(c); wait(c); a = load(x) }\nprocess c { b = load(x); exit() }",
        {"a": "SIGSEGV", "b": "SIGSEGV"},
    ),
    "thread_shares": (
        "x = anon(1)",
        "process p { store(x, 2); post(e); await(f); b = load(x) }"
        "thread t of p { await(e); a = load(x); store(x, 3); post(f) }",
        {"a": 2, "b": 3},
    ),
    "thread_of_a_child": (
        "x = anon(1)",
        "process p { fork(c); store(x, 2) }\nprocess c { post(e); await(f); b = load(x) }"
        "thread t of c { await(e); a = load(x); store(x, 3); post(f) }",
        {"a": 1, "b": 3},
    ),
    "fork_by_a_thread": (
        "x = anon(1)",
        "process p { store(x, 2); post(e) }\nthread t of p { await(e); fork(c); wait(c); b = load(x) }"
        "process c { a = load(x); store(x, 3); exit() }",
        {"a": 2, "b": 2},
    ),
    "munmap": ("x = anon(1)", "process p { r = munmap(x); a = load(x) }", {"r": "ok", "a": "SIGSEGV"}),
    "munmap_one_page": (
        "x = anon(1, pages=2)",
        "process p { munmap(x[0]); a = load(x[0]); b = load(x[1]) }",
        {"a": "SIGSEGV", "b": 1},
    ),
    "mprotect": (
        "x = anon(1)",
        "process p { mprotect(x, R); a = store(x, 2); mprotect(x, NONE); b = load(x); "
        "mprotect(x, RW); store(x, 3); c = load(x) }",
        {"a": "SIGSEGV", "b": "SIGSEGV", "c": 3},
    ),
    "mremap": (
        "x = anon(1)",
        "process p { fork(c); r = mremap(x); store(x, 2); mremap(x); a = load(x); post(e) }"
        "process c { await(e); b = load(x) }",
        {"r": "ok", "a": 2, "b": 1},
    ),
    "mremap_one_page": (
        "x = anon(1, pages=2)",
        "process p { mremap(x[1]); store(x[1], 2); a = load(x[0]); b = load(x[1]) }",
        {"a": 1, "b": 2},
    ),
    "mlock": ("x = anon()", "process p { r = mlock(x); a = load(x) }", {"r": "ok", "a": 0}),
    "dontfork": (
        "x = anon(1)",
        "process p { madvise(x, DONTFORK); fork(c); a = load(x) }\nprocess c { b = load(x) }",
        {"a": 1, "b": "SIGSEGV"},
    ),
    "dofork": (
        "x = anon(1)",
        "process p { madvise(x, DONTFORK); madvise(x, DOFORK); fork(c) }\nprocess c { b = load(x) }",
        {"b": 1},
    ),
    "wipeonfork": (
        "x = anon(1)",
        "process p { madvise(x, WIPEONFORK); fork(c); a = load(x) }\nprocess c { b = load(x) }",
        {"a": 1, "b": 0},
    ),
    "keeponfork": (
        "x = anon(1)",
        "process p { madvise(x, WIPEONFORK); madvise(x, KEEPONFORK); fork(c) }\nprocess c { b = load(x) }",
        {"b": 1},
    ),
    "wipeonfork_of_shared_memory": ("x = shared_anon(1)", "process p { r = madvise(x, WIPEONFORK) }", {"r": "EINVAL"}),
    "dontneed": ("x = anon(1)", "process p { madvise(x, DONTNEED); a = load(x) }", {"a": 0}),
    "dontneed_of_locked_memory": (
        "x = anon(1)",
        "process p { mlock(x); r = madvise(x, DONTNEED); a = load(x) }",
        {"r": "EINVAL", "a": 1},
    ),
    "free_then_store": (
        "x = anon(1)",
        "process p { r = madvise(x, FREE); store(x, 2); a = load(x) }",
        {"r": "ok", "a": 2},
    ),
    "mremap_then_dontfork": (
        "x = anon(1)",
        "process p { mremap(x); madvise(x, DONTFORK); fork(c); a = load(x) }\nprocess c { b = load(x) }",
        {"a": 1, "b": "SIGSEGV"},
    ),
    "clear_refs": (
        "x = anon(1)",
        "process p { r = clear_refs(); a = load(x); store(x, 2); b = load(x) }",
        {"a": 1, "b": 2},
    ),
    "uffd_wp_resolved": (
        "x = anon(1)",
        "process p { r = uffd_wp(x); a = load(x); q = uffd_wp_resolve(x); store(x, 2); b = load(x) }",
        {"r": "ok", "a": 1, "q": "ok", "b": 2},
    ),
    "uffd_wp_is_not_inherited": (
        "x = anon(1)",
        "process p { uffd_wp(x); fork(c); wait(c); a = load(x) }\nprocess c { store(x, 2); b = load(x); exit() }",
        {"a": 1, "b": 2},
    ),
    "uffd_wp_stays_behind": (
        "x = anon(1)",
        "process p { uffd_wp(x); mremap(x); store(x, 2); a = load(x) }",
        {"a": 2},
    ),
    "uffd_wp_of_nothing": (
        "x = anon(1)",
        "process p { munmap(x); r = uffd_wp(x) }",
        {"r": "EINVAL"},
    ),
    "process_vm": (
        "x = anon(1)",
        "process p { fork(c); a = process_vm_readv(c, x); r = process_vm_writev(c, x, 4); post(e); b = load(x) }"
        "process c { await(e); c1 = load(x) }",
        {"a": 1, "r": "ok", "b": 1, "c1": 4},
    ),
    "process_vm_from_a_child": (
        "x = anon(1)",
        "process p { fork(c); wait(c); b = load(x) }\nprocess c { process_vm_writev(p, x, 4); a = load(x); exit() }",
        {"a": 1, "b": 4},
    ),
    "process_vm_without_force": (
        "x = anon(1, prot=R)",
        "process p { fork(c); r = process_vm_writev(c, x, 4); a = process_vm_readv(c, x) }\nprocess c { b = load(x) }",
        {"r": "EFAULT", "a": 1, "b": 1},
    ),
    "process_vm_of_an_ended_process": (
        "x = anon(1)",
        "process p { fork(c); wait(c); a = process_vm_readv(c, x); b = peek(c, x) }\nprocess c { exit() }",
        {"a": "ESRCH", "b": "ESRCH"},
    ),
    "peek_poke": (
        "x = anon(1)",
        "process p { fork(c); r = poke(c, x, 4); a = peek(c, x); post(e); b = load(x) }"
        "process c { await(e); c1 = load(x) }",
        {"r": "ok", "a": 4, "b": 1, "c1": 4},
    ),
    "peek_where_nothing_is": (
        "x = anon(1)",
        "process p { fork(c); post(e); await(f); a = peek(c, x) }\nprocess c { await(e); munmap(x); post(f) }",
        {"a": "EIO"},
    ),
    "peek_follows_the_owner": (
        "x = anon(1)",
        "process p { fork(c); post(e); await(f); a = peek(c, x) }"
        "process c { await(e); mremap(x); store(x, 2); post(f) }",
        {"a": 2},
    ),
    "vmsplice": (
        "x = anon(a=1, b=2)",
        "process p { q = vmsplice(x); post(e); await(f); s = unpin(q) }"
        "device d { await(e); a = dma_read(q.a); b = dma_read(q.b); post(f) }",
        {"q": "ok", "a": 1, "b": 2, "s": "ok"},
    ),
    "vmsplice_pages": (
        "x = anon(7, pages=3)",
        "process p { store(x[2], 5); q = vmsplice(x); post(e) }"
        "device d { await(e); a = dma_read(q[0]); b = dma_read(q[2]) }",
        {"q": "ok", "a": 7, "b": 5},
    ),
    "vmsplice_of_nothing": ("x = anon(1)", "process p { munmap(x); q = vmsplice(x) }", {"q": "EFAULT"}),
    "get_to_read": (
        "x = anon(1)",
        "process p { q = get(x, READ|FAST); post(e) }\ndevice d { await(e); a = dma_read(q) }",
        {"a": 1},
    ),
}

WITH_RINGS: Cases = {
    "register": (
        "x = anon(1)",
        "process p { q = io_uring_register(x); store(x, 2); post(e); await(f); b = load(x); r = unpin(q) }"
        "device d { await(e); a = dma_read(q); w = dma_write(q, 3); post(f) }",
        {"q": "ok", "a": 2, "w": "ok", "b": 3, "r": "ok"},
    ),
    "register_untouched": (
        "x = anon()",
        "process p { q = io_uring_register(x); post(e); await(f); b = load(x) }"
        "device d { await(e); dma_write(q, 3); post(f) }",
        {"b": 3},
    ),
    "register_read_only": ("x = anon(1, prot=R)", "process p { q = io_uring_register(x) }", {"q": "EFAULT"}),
    "register_nothing": (
        "x = anon(1)",
        "process p { munmap(x); q = io_uring_register(x); post(e) }\ndevice d { await(e); r = dma_read(q) }",
        {"q": "EFAULT", "r": "EIO"},
    ),
    "register_after_exec": ("x = anon(1)", "process p { exec(); q = io_uring_register(x) }", {"q": "EFAULT"}),
    "dma_leaves_other_cells": (
        "x = anon(a=1, b=2, c=3)",
        "process p { q = pin(x, WRITE|LONGTERM); post(e); await(f); a = load(x.a); b = load(x.b); c = load(x.c) }"
        "device d { await(e); dma_write(q.b, 9); post(f) }",
        {"a": 1, "b": 9, "c": 3},
    ),
    "one_page_pinned": (
        "x = anon(1, pages=2)",
        "process p { q = pin(x[1], WRITE|LONGTERM|FAST); post(e); await(f); a = load(x[0]); b = load(x[1]) }"
        "device d { await(e); dma_write(q, 9); post(f) }",
        {"a": 1, "b": 9},
    ),
    "two_pins": (
        "x = anon(1); y = anon(2)",
        "process p { q = vfio_map(x); s = xdp_umem(y); post(e); await(f); a = load(x); b = load(y) }"
        "device d { await(e); dma_write(q, 9); dma_write(s, 8); post(f) }",
        {"a": 9, "b": 8},
    ),
    "pin_of_shared_memory": (
        "x = memfd(1)",
        "process p { q = ibv_reg_mr(x); fork(c); post(e) }\ndevice d { await(e); dma_write(q, 9); post(f) }"
        "process c { await(f); a = load(x) }",
        {"a": 9},
    ),
    "munmap_under_a_pin": (
        "x = anon(1)",
        "process p { q = ibv_reg_mr(x); munmap(x); post(e); await(f); b = load(x) }"
        "device d { await(e); a = dma_read(q); dma_write(q, 9); post(f) }",
        {"a": 1, "b": "SIGSEGV"},
    ),
    "pin_outlives_its_owner": (
        "x = anon(1)",
        "process p { fork(c); wait(c); post(e) }\nprocess c { q = ibv_reg_mr(x); store(x, 2); exit() }"
        "device d { await(e); a = dma_read(q) }",
        {"a": 2},
    ),
    "unpin_by_the_device": (
        "x = anon(1)",
        "process p { q = io_uring_register(x); post(e) }\ndevice d { await(e); a = dma_read(q); r = unpin(q) }",
        {"a": 1, "r": "ok"},
    ),
}


def text(case: tuple[str, str, dict[str, int | str]]) -> str:
    memory, actors, registers = case
    claims = " and ".join(f"{name} == {value}" for name, value in registers.items() if value != "ok") or "1 == 1"
    body = actors.replace("}process", "}\nprocess").replace("}thread", "}\nthread").replace("}device", "}\ndevice")
    return f"memory {{ {memory} }}\n{body}\nalways {claims}"


@pytest.mark.parametrize("name", EVERYWHERE)
def test_statement(name: str, run: Run) -> None:
    seen = run(text(EVERYWHERE[name]))
    if name == "clear_refs" and seen.status == "not applicable":
        pytest.skip(seen.reason)
    assert seen.status == "ok", seen.reason
    assert {r: seen.registers.get(r) for r in EVERYWHERE[name][2]} == EVERYWHERE[name][2]


@pytest.mark.parametrize("name", WITH_RINGS)
@pytest.mark.usefixtures("need_rings")
def test_statement_with_a_pin(name: str, run: Run) -> None:
    seen = run(text(WITH_RINGS[name]))
    assert seen.status == "ok", seen.reason
    assert {r: seen.registers.get(r) for r in WITH_RINGS[name][2]} == WITH_RINGS[name][2]


@pytest.mark.parametrize("advice", ["DONTFORK", "DOFORK", "WIPEONFORK", "KEEPONFORK", "DONTNEED", "FREE", "HUGEPAGE"])
def test_advice_is_taken(advice: str, run: Run) -> None:
    seen = run(f"memory {{ x = anon(1) }}\nprocess p {{ r = madvise(x, {advice}) }}\nnever r == EINVAL")
    assert (seen.status, seen.registers) == ("ok", {"r": "ok"})


@pytest.mark.parametrize("advice", ["MERGEABLE", "UNMERGEABLE", "COLLAPSE", "POPULATE_READ", "POPULATE_WRITE"])
def test_advice_of_newer_or_configured_kernels(advice: str, run: Run) -> None:
    seen = run(f"memory {{ x = anon(1) }}\nprocess p {{ r = madvise(x, {advice}); a = load(x) }}\nnever r == EPERM")
    assert seen.status == "ok"
    assert seen.registers["r"] in ("ok", "EINVAL", "EAGAIN", "ENOMEM")
    assert seen.registers["a"] == 1


def test_a_fault_without_a_register_ends_the_process(run: Run) -> None:
    seen = run(
        """
        memory { x = anon(1) }
        process p { fork(c); wait(c); a = load(x) }
        process c { munmap(x); store(x, 2); exit() }
        thread t of c { r = load(x) }
        never a == 2
        """
    )
    assert seen.status == "ok"
    assert seen.deaths == {"c": "SIGSEGV"}
    assert seen.registers == {"a": 1}
    assert [d.outcome for d in seen.log if d.actor == "c"] == ["value", "signal", "not_run"]


def test_who_waits_for_a_dead_process_is_blocked(run: Run) -> None:
    seen = run(
        """
        memory { x = anon(1) }
        process p { fork(c); await(e); a = load(x) }
        process c { munmap(x); store(x, 2); post(e) }
        never a == 2
        """
    )
    assert (seen.status, seen.blocked, seen.registers) == ("ok", ("p",), {})


def test_huge_page(run: Run) -> None:
    seen = run(
        """
        memory { x = anon(1, thp, pages=2) }
        process p { fork(c); store(x[1], 2); post(e) }
        process c { await(e); a = load(x[0]); b = load(x[1]) }
        always a == 1 and b == 1
        """
    )
    if seen.status == "not applicable":
        pytest.skip(seen.reason)
    assert seen.registers == {"a": 1, "b": 1}


def test_collapse_makes_a_huge_page(run: Run, need_frames: None) -> None:
    seen = run("memory { x = anon(1) }\nprocess p { r = madvise(x, COLLAPSE); a = load(x) }\nalways a == 1")
    if seen.registers["r"] == "EINVAL":
        pytest.skip("no MADV_COLLAPSE in this kernel")
    assert seen.registers == {"r": "ok", "a": 1}
    (page,) = seen.pages
    assert page.flags is not None
    assert page.flags >> KPF_THP & 1


def test_hugetlb_page(run: Run) -> None:
    seen = run("memory { x = hugetlb(1) }\nprocess p { a = load(x) }\nalways a == 1")
    if seen.status == "not applicable":
        assert "nr_hugepages" in seen.reason
        pytest.skip(seen.reason)
    assert seen.registers == {"a": 1}


@pytest.mark.parametrize(
    ("memory", "statement", "missing"),
    [
        ("x = anon(1)", "q = odp_reg_mr(x)", "on-demand paging"),
        ("x = anon(1)", "q = pin(x, READ|LONGTERM)", "no read-only long-term pin"),
        ("x = anon(1)", "q = pin(x, WRITE)", "short-term"),
        ("x = anon(1)", "q = get(x, WRITE)", "for reading"),
        ("x = anon(1)", "q = vfio_map(x, READONLY)", "no read-only long-term pin"),
        ("x = anon(1, prot=R)", "q = pin(x, WRITE|FORCE|LONGTERM)", "FOLL_FORCE"),
        ("x = anon(1)", "ksm_scan()", "daemon"),
        ("x = anon(1)", "migrate(x)", "memory node"),
        ("x = anon(1, crowded)", "q = vmsplice(x)", "1024"),
        ("x = anon(1, batched); y = anon(2)", "q = vmsplice(x)", "flushed whole"),
        ("x = anon(1, batched)", "fork(c) }\nprocess c { q = vmsplice(x)", "a process that ends"),
    ],
)
def test_what_cannot_be_had_here_is_named(memory: str, statement: str, missing: str, run: Run) -> None:
    seen = run(f"memory {{ {memory} }}\nprocess p {{ {statement}; a = load(x) }}\nnever a == 2")
    assert seen.status == "not applicable"
    assert missing in seen.reason


def test_a_deadlock_is_not_applicable(run: Run) -> None:
    seen = run("memory { x = anon(1) }\nprocess p { await(e); post(e); a = load(x) }\nnever a == 2")
    assert seen.status == "not applicable"
    assert "waits for post(e)" in seen.reason
