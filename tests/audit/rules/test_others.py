"""Fork protection, growth, good news, and what could not be seen."""

from __future__ import annotations

from cowcatcher.audit import events as ev
from cowcatcher.audit.auditor import Auditor
from cowcatcher.audit.finding import Finding, Severity
from cowcatcher.audit.strace import events
from tests.audit.rules.tale import C, P, Tale, at
from tests.audit.strace.text import STORY

UCX = ("libibverbs.so.1!ibv_fork_init+0x10", "libucx.so!init+0x4")


def good(tale: Tale) -> list[Finding]:
    return [f for f in tale.findings() if f.severity is Severity.GOOD]


def test_who_switched_protection_on() -> None:
    tale = Tale().tell(ev.Library, "libibverbs", "44.0").tell(ev.ForkInit, 0, stack=UCX)
    found = tale.the("fork-protection")
    assert found.severity is Severity.NOTE
    assert found.title == "RDMA fork protection was switched on by libucx.so"
    assert "44.0" in found.explanation


def test_the_kernels_own_word() -> None:
    tale = (
        Tale().tell(ev.CopiesAtFork, True, "RDMA_NLDEV_SYS_ATTR_COPY_ON_FORK says so").tell(ev.ForkInit, 0, stack=UCX)
    )
    said = "fork() copies registered pages: RDMA_NLDEV_SYS_ATTR_COPY_ON_FORK says so."
    assert said in tale.tell(ev.ForkInit, 0, stack=UCX).the("fork-protection").explanation


def test_too_late_to_switch_it_on() -> None:
    tale = Tale().map().pin().tell(ev.ForkInit, 22, stack=UCX)
    found = tale.the("fork-protection")
    assert found.severity is Severity.WARNING
    assert "failed with 22" in found.title


def test_by_the_environment() -> None:
    tale = Tale("").exec("/usr/bin/prog", env={"RDMAV_FORK_SAFE": "1"}).tell(ev.Library, "libibverbs", "44.0")
    assert "RDMAV_FORK_SAFE=1" in tale.the("fork-protection").title
    assert Tale("").exec("/usr/bin/prog", env={"RDMAV_FORK_SAFE": "1"}).fork().findings() == []


def test_by_the_environment_through_the_library() -> None:
    """ibv_get_device_list() looks at the variable: whoever called that has switched nothing on."""
    stack = ("libibverbs.so.1!+0x14545", "libibverbs.so.1!ibv_get_device_list+0x36", "prog!main+0x1")
    switched = {"RDMAV_FORK_SAFE": "1"}
    tale = Tale("").exec("/usr/bin/prog", env=switched).tell(ev.ForkInit, 0, stack=stack)
    assert tale.the("fork-protection").title.endswith("by the environment: RDMAV_FORK_SAFE=1")
    by_ucx = Tale("").exec("/usr/bin/prog", env=switched).tell(ev.ForkInit, 0, stack=UCX)
    assert by_ucx.the("fork-protection").title.endswith("by libucx.so")


def test_what_a_child_has_from_its_parent_is_told_once() -> None:
    tale = Tale("").exec("/usr/bin/prog", env={"RDMAV_FORK_SAFE": "1"}).tell(ev.Library, "libibverbs", "44.0")
    found = tale.map().pin().fork().exit(C).the("fork-protection")
    assert (found.process, found.times) == (P, 1)


def test_the_fork_that_was_protected_is_the_case() -> None:
    tale = Tale().tell(ev.ForkInit, 0, stack=UCX).map().advise("DONTFORK", stack=("libibverbs.so.1!x",)).pin().fork()
    found = tale.the("fork-protection")
    assert found.case is not None
    assert [type(e) for e in found.case.events] == [ev.Mapped, ev.Advised, ev.Pinned, ev.Forked]
    assert "libibverbs.so.1" in found.explanation


def test_dontfork_without_any_pin() -> None:
    tale = Tale().map().advise("DONTFORK", stack=("libc.so.6!madvise", "libx.so!f")).fork()
    found = tale.the("fork-protection")
    assert found.severity is Severity.NOTE
    assert found.title.startswith("libx.so calls MADV_DONTFORK; no pin was seen")


def test_dontfork_for_reasons_of_its_own() -> None:
    """A library that keeps keys from children, linked into the program: nobody's surprise."""
    assert Tale().map().advise("DONTFORK", stack=("prog!main", "libc.so.6!x")).fork().findings() == []


def counts(*told: tuple[float, int]) -> Tale:
    tale = Tale()
    for time, count in told:
        tale.tell(ev.VmaCount, count, 65530, time=time)
    return tale


def test_more_than_half_of_the_limit() -> None:
    assert counts((0, 100), (1, 40000)).the("vma-growth").severity is Severity.WARNING
    assert counts((0, 64000)).the("vma-growth").severity is Severity.ERROR


def test_growing_steadily() -> None:
    """70 a minute, as in Mooncake."""
    tale = counts(*((60.0 * minute, 1000 + 70 * minute) for minute in range(30)))
    found = tale.the("vma-growth")
    assert "70 more a minute" in found.title
    assert len(found.timeline) > 2


def test_growth_that_levels_off() -> None:
    assert counts(*((60.0 * minute, min(1000 + 300 * minute, 8000)) for minute in range(60))).findings() == []


def test_growth_that_is_slow() -> None:
    assert counts(*((3600.0 * hour, 1000 + 20 * hour) for hour in range(100))).findings() == []


def test_growth_at_the_start() -> None:
    assert counts(*((float(second), 100 + 200 * second) for second in range(30))).findings() == []


def test_growth_per_registration() -> None:
    tale = Tale().map(at(0, 5000))
    for minute in range(40):
        tale.tell(ev.VmaCount, 100 + 50 * minute, 65530, time=60.0 * minute)
        for number in range(25):
            tale.pin(at(minute * 25 + number), handle=f"{minute}.{number}", time=60.0 * minute)
    assert "2.0 for each registration" in tale.the("vma-growth").explanation


def test_growth_that_only_the_trace_shows() -> None:
    tale = Tale().map(at(0, 70000))
    for page in range(0, 36000, 2):
        tale.advise("DONTFORK", at(page))
    assert "vma-growth" in [f.rule for f in tale.findings()]


def test_all_was_protected() -> None:
    (found,) = good(Tale().map().advise("DONTFORK").pin().fork().exit().fork())
    assert found.rule == "fork-shares-pinned"
    assert "under MADV_DONTFORK at 2 forks" in found.title
    assert found.case is not None


def test_all_was_shared_memory() -> None:
    (found,) = good(Tale().map(private=False).pin().fork())
    assert "shared memory" in found.title


def test_nothing_was_copied() -> None:
    (found,) = good(Tale().map().pin().vfork().exec(task=C))
    assert "nothing was copied" in found.title
    (found,) = good(Tale().map().fork().pin())
    assert "it forked once, and not while anything was registered" in found.title


def test_direct_transfers_between_forks() -> None:
    (found,) = good(Tale().map().read().unpin("io1").fork().exit())
    assert found.rule == "direct-io-across-fork"
    assert good(Tale().map().read().fork()) == []


def test_no_news_without_pins_or_without_children() -> None:
    assert Tale().map().fork().findings() == []
    assert Tale().map().pin().findings() == []


def test_sight_lost_where_it_matters() -> None:
    tale = Tale().map(private=False).pin().tell(ev.Lost, "line 7 is damaged").tell(ev.Lost, "line 8 is damaged").fork()
    assert tale.bad() == ["lost-sight"]
    assert Tale().map().pin().tell(ev.Lost, "frames cannot be read").findings() == []
    opened = Tale().tell(ev.OpenedDirect, 5, "/f").tell(ev.Lost, "the shim is not in this program").fork()
    assert opened.bad() == ["lost-sight"]
    assert Tale().tell(ev.Lost, "the shim is not in this program").fork().findings() == []


def test_sight_lost_of_what_pins_unseen() -> None:
    tale = Tale().tell(ev.Lost, "it has libibverbs", matters=True)
    assert tale.fork().the("lost-sight").severity is Severity.UNSURE
    assert Tale().tell(ev.Lost, "it has libibverbs").fork().findings() == []


def test_pages_in_a_pipe_that_the_trace_does_not_show() -> None:
    """Without the shim: strace prints the bytes, and nothing is known of a pin."""
    trace = """\
1 execve("./f", ["./f"], 0x7ffc /* 35 vars */) = 0
1 pipe2([5, 6], 0) = 0
1 vmsplice(6, [{iov_base="\\0\\0"..., iov_len=4096}], 1, 0) = 4096
1 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD, child_tidptr=0x1) = 9
"""
    auditor = Auditor()
    for event in events(trace.splitlines()):
        auditor.feed(event)
    (found,) = auditor.finish()
    assert (found.rule, found.severity) == ("lost-sight", Severity.UNSURE)
    assert "vmsplice() with fd 6, 4096 bytes was in flight across a fork" in found.title


def test_sight_lost_of_the_trace() -> None:
    tale = Tale().map().advise("DONTFORK").pin().fork().tell(ev.Lost, "line 7 is damaged", task=0)
    assert "lost-sight" in tale.bad()
    assert Tale().map().fork().tell(ev.Lost, "line 7 is damaged", task=0).findings() == []


def test_attached_late() -> None:
    tale = Tale("").tell(ev.Present, P, 1, "server").map().pin().fork()
    assert tale.the("fork-shares-pinned").program == "server"


def test_threads_that_were_there_before() -> None:
    tale = Tale("").tell(ev.Present, P, 1, "server").tell(ev.Present, P, 1, "worker", task=P + 1)
    tale.map().pin(task=P + 1).fork(task=P + 1)
    found = tale.the("fork-shares-pinned")
    assert (found.process, found.program) == (P, "server")
    assert found.case is not None
    assert found.case.processes == {P: "parent", C: "child", P + 1: "parent"}


def test_a_child_that_is_seen_before_its_birth() -> None:
    """The tracer may tell of the child's first calls before its parent is back from the fork."""
    tale = Tale().map().pin()
    tale.exec("/bin/true", task=C).fork(C).advise("DONTFORK")
    assert tale.bad() == ["fork-shares-pinned"]


def test_process_ids_that_come_again() -> None:
    tale = Tale().map().advise("DONTFORK").pin().fork().exec(task=C).fork().segv(at().start)
    assert tale.bad() == ["dontfork-child-touches"]


def test_every_registration_leaves_a_mapping() -> None:
    """Within seconds: too short for a slope, but nothing is registered any more and the mappings are there."""
    tale = counts((0, 100))
    for number in range(1500):
        tale.pin(at(number), handle="mr", time=1 + number / 1000).unpin("mr", time=1 + number / 1000)
    tale.tell(ev.VmaCount, 3100, 65530, time=3)
    assert "2.0 for each registration" in tale.the("vma-growth").explanation
    held = counts((0, 100))
    for number in range(1500):
        held.pin(at(number), handle=f"mr{number}", time=1 + number / 1000)
    assert held.tell(ev.VmaCount, 3100, 65530, time=3).findings() == []


def test_a_cache_that_never_evicts() -> None:
    """Far from the limit yet: no alarm, but a word."""
    tale = Tale().map(at(0, 9000))
    for number in range(800):
        where = at(number * 4, 2)
        tale.advise("DONTFORK", where).pin(where, handle=f"mr{number}")
    found = tale.the("vma-growth")
    assert found.severity is Severity.NOTE
    assert "2.0 for each registration" in found.explanation


def test_more_than_whoever_counts_has_seen() -> None:
    tale = counts((0, 100), (1, 40000)).map(at(0, 70000))
    for page in range(0, 64000, 2):
        tale.advise("DONTFORK", at(page))
    assert tale.the("vma-growth").severity is Severity.ERROR


def test_a_peak_is_not_forgotten() -> None:
    """The last look was at a process that was going already."""
    assert counts((0, 64761), (1, 65530), (2, 26934)).exit(P).the("vma-growth").severity is Severity.ERROR


SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 41.20    0.000412          13        31           mmap
 12.11    0.000121           9        13         2 openat
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000                    44         2 total
"""


def test_a_table_at_the_end_of_a_trace_is_one_finding() -> None:
    """strace -C."""
    auditor = Auditor()
    for event in events((STORY + SUMMARY).splitlines()):
        auditor.feed(event)
    (found,) = [f for f in auditor.finish() if f.rule == "lost-sight"]
    assert found.times == 6
    assert "% time" in found.title
