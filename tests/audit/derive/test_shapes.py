"""What a trace looks like as a test: statement by statement."""

from __future__ import annotations

from textwrap import dedent

import pytest

from cowcatcher.audit.derive import CannotDerive, derive, derived
from cowcatcher.audit.events import Range
from cowcatcher.audit.finding import Case, Question
from cowcatcher.litmus import check, parse, to_text
from tests.audit.derive.told import CHILD, CHILD2, PAGE, PARENT, PART, THREAD, Trace, huge, partial

ASK = Question.DEVICE_AND_OWNER


def bodies(case: Case) -> str:
    """The test, from its memory on."""
    text = to_text(derive(case))
    return text[text.index("memory {") :]


def test_registered_and_forked() -> None:
    case = Trace().mapped().taken("ibv_reg_mr").forked().ended().given_back().case(ASK)
    assert bodies(case) == dedent("""\
        memory {
            buf = anon(1)
        }

        process parent {
            mr = ibv_reg_mr(buf)
            fork(child)
            store(buf, 2)
            post(doorbell)
            await(done)
            r1 = load(buf)
            wait(child)
            unpin(mr)
        }

        process child {
            exit()
        }

        device nic {
            await(doorbell)
            r0 = dma_read(mr)
            dma_write(mr, 3)
            post(done)
        }

        always r0 == 2 and r1 == 3
        """)


def test_direct_read_beside_a_neighbour() -> None:
    case = partial().mapped().taken("dio_read", detail="fd 5, /data/file, nfs4").forked().case(ASK)
    assert bodies(case) == dedent("""\
        memory {
            page = anon(buffer=1, neighbour=5)
        }

        process parent {
            io = dio_read(page, NFS)
            fork(child)
            store(page.neighbour, 2)
            post(doorbell)
            await(done)
            r0 = load(page.buffer)
        }

        process child {
        }

        device server {
            await(doorbell)
            dma_write(io.buffer, 3)
            post(done)
        }

        always r0 == 3
        """)


def test_killed_beside_the_buffer() -> None:
    trace = partial().mapped().advised("DONTFORK").taken("ibv_reg_mr").forked().killed(PAGE.start + 0x800)
    assert bodies(trace.case(Question.CHILD_READS_NEIGHBOUR)) == dedent("""\
        memory {
            page = anon(buffer=1, neighbour=5)
        }

        process parent {
            madvise(page, DONTFORK)
            mr = ibv_reg_mr(page)
            fork(child)
        }

        process child {
            r0 = load(page.neighbour)
            exit()
        }

        always r0 == 5
        """)


def test_given_back_to_the_kernel() -> None:
    case = Trace().mapped().taken("ibv_reg_mr").unmapped().given_back().case(Question.FREED_UNDER_DEVICE)
    assert bodies(case) == dedent("""\
        memory {
            buf = anon(1)
        }

        process parent {
            mr = ibv_reg_mr(buf)
            munmap(buf)
            post(doorbell)
            await(done)
            r0 = load(buf)
            unpin(mr)
        }

        device nic {
            await(doorbell)
            dma_write(mr, 3)
            post(done)
        }

        always r0 == 3
        """)


def test_the_trace_orders_two_processes() -> None:
    """The child's madvise was seen after the fork and before the parent gave the pin back."""
    trace = Trace().mapped().taken("ibv_reg_mr").forked().advised("WILLNEED", CHILD).advised("DONTNEED", CHILD)
    test = derive(trace.given_back().case(ASK))
    parent, child = test.actors[0].body, test.actors[1].body
    assert [s.op for s in child] == ["madvise", "post"]
    assert [s.op for s in parent][-2:] == ["await", "unpin"]


def test_a_child_may_end_sooner_than_it_was_seen_to() -> None:
    trace = Trace().mapped().taken("ibv_reg_mr").forked().advised("MERGEABLE").ended()
    assert [s.op for s in derive(trace.case(ASK)).actors[1].body] == ["exit"]


def test_two_threads_inside_of_system_calls_are_in_no_order() -> None:
    trace = Trace().mapped().taken("ibv_reg_mr", task=THREAD).forked(begun=1)
    test = derive(trace.case(ASK))
    worker = test.actor("worker")
    assert worker is not None
    assert [s.op for s in worker.body] == ["ibv_reg_mr", "post"]
    assert [s.op for s in test.actors[0].body][:3] == ["fork", "await", "store"]


def test_threads_one_after_another_are_one_process() -> None:
    trace = Trace().mapped().taken("ibv_reg_mr", task=THREAD).forked(begun=2)
    assert derive(trace.case(ASK)).actor("worker") is None


def test_a_transfer_that_ends_while_somebody_forks_was_in_flight() -> None:
    trace = partial().mapped().taken("dio_read").given_back(task=THREAD).forked(begun=2)
    ops = [s.op for s in derive(trace.case(ASK)).actors[0].body]
    assert ops.index("dio_read") < ops.index("fork") < ops.index("unpin")


def test_a_child_that_is_seen_before_its_parent_comes_back_from_the_fork() -> None:
    trace = Trace().mapped().taken("ibv_reg_mr").execed().forked()
    assert [s.op for s in derive(trace.case(ASK)).actors[1].body] == ["exec"]


def test_memory_that_was_there_before_the_owner() -> None:
    """The owner of the pin inherited the page: the test begins in the process that had it."""
    trace = Trace().mapped().forked().taken("ibv_reg_mr", task=CHILD).forked(CHILD2, task=CHILD)
    test = derive(trace.case(ASK, owner="child"))
    assert [a.name for a in test.actors if a.kind == "process"] == ["parent", "child", "grandchild"]
    assert any(s.op == "ibv_reg_mr" for s in test.actors[1].body)


def test_a_new_mapping_is_a_new_story() -> None:
    trace = Trace().mapped().taken("ibv_reg_mr").given_back().forked().unmapped().mapped()
    test = derive(trace.taken("ibv_reg_mr", handle="h2").forked(CHILD2).case(ASK))
    assert [a.name for a in test.actors] == ["parent", "child", "nic"]
    assert [s.op for s in test.actors[0].body][:2] == ["ibv_reg_mr", "fork"]


def test_a_new_mapping_over_a_pinned_one() -> None:
    trace = Trace().mapped().advised("DONTFORK").taken("ibv_reg_mr").mapped()
    ops = [to_text_of(s) for s in derive(trace.case(Question.FREED_UNDER_DEVICE)).actors[0].body]
    assert ops[2:4] == ["madvise DOFORK", "madvise DONTNEED"]


def to_text_of(statement: object) -> str:
    words = [str(getattr(arg, "text", "")) for arg in statement.args]  # type: ignore[attr-defined]
    return " ".join(filter(None, [statement.op, *words]))  # type: ignore[attr-defined]


def test_a_page_that_moves_is_followed() -> None:
    trace = Trace().mapped().moved(0x10000)
    trace.page = trace.pinned = Range(PAGE.start + 0x10000, PAGE.end + 0x10000)
    trace.taken("ibv_reg_mr").forked()
    trace.page = trace.pinned = PAGE
    assert [s.op for s in derive(trace.case(ASK)).actors[0].body][:3] == ["mremap", "ibv_reg_mr", "fork"]


def test_no_store_where_none_is_allowed() -> None:
    trace = Trace().mapped("r--").taken("ibv_reg_mr", writes=False).forked()
    test = derive(trace.case(ASK))
    assert test.memory[0].prot == "R"
    assert "store" not in [s.op for s in test.actors[0].body]
    later = Trace().mapped().taken("ibv_reg_mr").protected("r--").forked().protected("rw-")
    ops = [s.op for s in derive(later.case(ASK)).actors[0].body]
    assert ops.index("store") > ops.index("fork") + 1


def test_the_owner_stores_behind_every_fork_where_it_may() -> None:
    trace = Trace().mapped().taken("ibv_reg_mr").forked().protected("r--").forked(CHILD2).protected("rw-").given_back()
    ops = [s.op for s in derive(trace.case(ASK)).actors[0].body]
    assert ops[:7] == ["ibv_reg_mr", "fork", "store", "mprotect", "fork", "mprotect", "store"]
    never = Trace().mapped().taken("ibv_reg_mr").protected("r--").forked().forked(CHILD2).given_back()
    assert "store" not in [s.op for s in derive(never.case(ASK)).actors[0].body]


@pytest.mark.parametrize(
    ("trace", "kind"),
    [
        (Trace().mapped(), "anon"),
        (Trace().mapped(private=False), "shared_anon"),
        (Trace().mapped(anonymous=False, what="/lib/x.so"), "file_private"),
        (Trace().mapped(private=False, anonymous=False, what="/dev/shm/x"), "file_shared"),
        (Trace().mapped(private=False, anonymous=False, what="memfd:x"), "memfd"),
        (huge().mapped(), "hugetlb_private"),
        (huge().mapped(private=False), "hugetlb"),
        (Trace(), "anon"),
    ],
)
def test_memory_by_kind(trace: Trace, kind: str) -> None:
    assert derive(trace.taken("io_uring_register").forked().case(ASK)).memory[0].kind == kind


def test_transparent_huge_pages_are_named() -> None:
    assert derive(Trace().mapped().huge().taken("io_uring_register").forked().case(ASK)).memory[0].flags == ("thp",)


def test_pages_that_may_be_huge_are_said_to_be_a_guess() -> None:
    found = derived(Trace().mapped().advised("HUGEPAGE").taken("io_uring_register").forked().case(ASK))
    assert found.test.memory[0].flags == ()
    assert "MADV_HUGEPAGE" in found.guessed[0]


def test_the_heap_is_called_so() -> None:
    assert derive(partial().mapped(what="[heap]").taken("ibv_reg_mr").forked().case(ASK)).memory[0].name == "heap"


@pytest.mark.parametrize(
    ("filesystem", "word"),
    [
        ("ext4", ""),
        ("xfs", ""),
        ("", ""),
        ("libaio", ""),
        ("nfs, libaio", "NFS"),
        ("nfs", "NFS"),
        ("nfs4", "NFS"),
        ("fuse", "FUSE"),
        ("fuse.sshfs", "FUSE"),
    ],
)
def test_whose_direct_transfer_it_is(filesystem: str, word: str) -> None:
    """By the pin's detail, or by how the file was opened."""
    for trace in (
        partial().taken("dio_read", detail=f"fd 5, /data/file, {filesystem}".removesuffix(", ")),
        partial().opened(5, filesystem).taken("dio_read", detail="fd 5"),
    ):
        taken = derive(trace.forked().case(ASK)).actors[0].body[0]
        assert [str(getattr(arg, "text", "")) for arg in taken.args[1:]] == ([word] if word else [])


@pytest.mark.parametrize(
    ("trace", "question", "reason"),
    [
        (Trace().taken("msg_zerocopy", False).forked(), ASK, "MSG_ZEROCOPY"),
        (Trace().taken("dio_read", detail="fd 5, /x, cifs").forked(), ASK, "direct I/O of cifs"),
        (Trace().advised("GUARD_INSTALL").taken("ibv_reg_mr").forked(), ASK, "GUARD_INSTALL"),
        (Trace().moved(4096, keeps=True).taken("ibv_reg_mr").forked(), ASK, "MREMAP_DONTUNMAP"),
        (Trace().forked(), ASK, "never pinned"),
        (Trace().taken("ibv_reg_mr").forked(), Question.CHILD_READS_NEIGHBOUR, "whole page"),
        (Trace().taken("ibv_reg_mr"), Question.FREED_UNDER_DEVICE, "gives the page back"),
        (Trace().mapped(private=False).taken("ibv_reg_mr").forked(), Question.CHILD_SEES_DEVICE, "on purpose"),
        (Trace().taken("dio_write", False).forked(), Question.CHILD_SEES_DEVICE, "only reads"),
    ],
)
def test_what_cannot_be_written_down_is_named(trace: Trace, question: Question, reason: str) -> None:
    with pytest.raises(CannotDerive, match=reason):
        derive(trace.case(question))


def test_what_is_assumed_is_marked_and_nothing_else_is() -> None:
    case = Trace().mapped().taken("ibv_reg_mr").forked().ended().given_back().case(ASK)
    found = derived(case)
    assumed = set()
    for actor in found.test.actors:
        for statement in actor.body:
            origin = found.origins[statement.span.line - 1]
            if origin.event is None:
                assumed.add((actor.name, statement.op))
            elif statement.op != "wait":
                assert type(case.events[origin.event]).__name__ in {"Pinned", "Unpinned", "Forked", "Exited"}
    assert assumed == {
        ("parent", "store"), ("parent", "post"), ("parent", "await"), ("parent", "load"),
        ("nic", "await"), ("nic", "dma_read"), ("nic", "dma_write"), ("nic", "post"),
    }  # fmt: skip


def test_a_further_step_is_told() -> None:
    assert not derived(Trace().taken("ibv_reg_mr").forked().case(ASK)).further
    assert derived(Trace().taken("ibv_reg_mr").case(ASK)).further  # nobody has forked yet
    assert derived(Trace().taken("ibv_reg_mr").forked().case(Question.CHILD_SEES_DEVICE)).further
    killed = partial().advised("DONTFORK").taken("ibv_reg_mr").forked()
    assert derived(killed.case(Question.CHILD_READS_NEIGHBOUR)).further
    assert not derived(killed.killed(PAGE.start).case(Question.CHILD_READS_NEIGHBOUR)).further


def test_the_pin_is_the_one_that_the_case_is_about() -> None:
    trace = partial()
    trace.pinned = PAGE
    trace.taken("io_uring_register", handle="other")
    trace.pinned = PART
    trace.taken("ibv_reg_mr").forked()
    assert derive(trace.case(ASK)).actor("nic") is not None


def test_every_derived_test_reads_back() -> None:
    case = partial().mapped().taken("vfio_map", writes=False).forked().case(ASK)
    test = derive(case)
    assert parse(to_text(test)) == test
    assert not check(test)
    assert derive(case) == test
    assert PARENT != CHILD
