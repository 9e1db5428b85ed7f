"""What holds memory, each backend on a real kernel: what it shows there is what the model says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cowcatcher.cli import main
from cowcatcher.explore.ordered import predict
from cowcatcher.kernels import Kernel, kernel_of_release
from cowcatcher.litmus import parse
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.catalogue import find
from cowcatcher.real import images, vm
from cowcatcher.real.compare import Verdict, evaluate
from cowcatcher.real.host import Observation, backends_here, run_host
from cowcatcher.real.images import KernelImage

from .conftest import skip_if

#: A device's mapping is released by the coordinator, by the process that made it, or not at all until both are gone.
RELEASES = (
    """
test released_by_the_device
memory { x = anon(1); y = anon(2) }
process p { fork(q); a = vfio_map(x); b = vfio_map(y); store(y, 3); post(e); await(f); post(h); exit() }
process q { await(h); post(g) }
device d iommu {
    await(e); unpin(a); r1 = dma_read(a); r2 = dma_read(b); post(f)
    await(g); r3 = dma_read(b); unpin(b); r4 = dma_read(b); w = dma_write(b, 4)
}
always r1 == IOMMU_FAULT and r2 == 3 and r3 == 3 and r4 == IOMMU_FAULT and w == IOMMU_FAULT
""",
    """
test released_during_vfork
memory { x = anon(1) }
process p { a = vfio_map(x); vfork(q) }
process q { post(e); await(f); exec() }
device d iommu { await(e); r0 = dma_read(a); unpin(a); r1 = dma_read(a); post(f) }
always r0 == 1 and r1 == IOMMU_FAULT
""",
    """
test used_after_the_others
memory { x = anon(1) }
process p { a = vfio_map(x); fork(q); store(x, 2); post(e); await(f); r1 = load(x) }
process q { }
device d iommu { await(e); r0 = dma_read(a); dma_write(a, 3); post(f) }
always r0 == 2 and r1 == 3
""",
    """
test released_after_exec
memory { x = anon(1) }
process p { a = vfio_map(x); exec(); post(e) }
device d iommu { await(e); r0 = dma_read(a); unpin(a); r1 = dma_read(a) }
always r0 == 1 and r1 == IOMMU_FAULT
""",
)


#: Cells apart in a page, pages apart in an area, and what becomes of the others' pages meanwhile.
AREAS = (
    """
test cells_and_pages
memory { x = anon(a=1, b=2, c=3, pages=2) }
process p { q = xdp_umem(x); fork(c); store(x[1].b, 4); post(e); await(f); r1 = load(x[0].a); r2 = load(x[1].c) }
process c { post(g); await(h); r3 = load(x[1].b); r4 = load(x[0].a) }
device d { await(e); await(g); r5 = dma_read(q[1].b); dma_write(q[0].a, 5); dma_write(q[1].c, 6); r6 = dma_read(q[1].c)
           post(f); post(h) }
always r1 == 5 and r2 == 6 and r3 == 2 and r4 == 1 and r5 == 4 and r6 == 6
""",
    """
test two_areas
memory { x = anon(1); y = shared_anon(2) }
process p { q = xdp_umem(x); s = xdp_umem(y); fork(c); store(x, 3); post(e); await(f); r1 = load(x) }
process c { await(g); r2 = load(x); r3 = load(y) }
device d { await(e); r4 = dma_read(q); dma_write(q, 4); dma_write(s, 5); unpin(q); r5 = dma_read(s); post(f); post(g) }
always r1 == 4 and r2 == 1 and r3 == 5 and r4 == 3 and r5 == 5
""",
    """
test area_of_a_new_program
memory { x = memfd(1) }
process p { fork(c); vfork(b); q = xdp_umem(x); munmap(x); post(e) }
process b { r0 = exec(); exit() }
process c { await(f); r1 = load(x) }
device d { await(e); r2 = dma_read(q); dma_write(q, 2); post(f) }
always r1 == 2 and r2 == 1
""",
)

#: To have one write take what is there now, the server breaks the connection: all the others must come again.
SENT_AGAIN = """
test sent_again
memory { x = anon(1); y = anon(2); z = anon(3, pages=2) }
process p {
    i = dio_write(x, NFS); j = dio_read(y, NFS); k = dio_write(z, NFS)
    store(x, 4); store(z[1], 5); post(e); await(f); r1 = load(y); store(z[0], 7); post(e); await(f); r2 = load(y)
}
device d {
    await(e); r3 = dma_read(i); r4 = dma_read(k[1]); dma_write(j, 6); post(f)
    await(e); r5 = dma_read(k[0]); dma_write(j, 8); unpin(k); post(f)
}
always r1 == 6 and r2 == 8 and r3 == 4 and r4 == 5 and r5 == 7
"""

#: Pictures in memory that fork, mprotect, reclaim, a write-protection and a new program meet, two pins of one page,
#: and one that is released before the fork.
PICTURES = (
    """
test pictures_and_fork
memory { x = anon(1) }
process p { a = pin(x, WRITE|LONGTERM); fork(q); store(x, 2); post(e); await(f); r = load(x) }
process q { await(g); c = load(x) }
device d { await(e); dma_write(a, 3); post(f); post(g) }
always r == 3 and c == 1 and same_page(p:x, a)
""",
    """
test pictures_and_mprotect
memory { x = anon(1) }
process p { a = pin(x, WRITE|LONGTERM); mprotect(x, R); mprotect(x, RW); store(x, 2); post(e); await(f); r = load(x) }
device d { await(e); dma_write(a, 3); post(f) }
always r == 3
""",
    """
test pictures_and_swap
memory { x = anon(1) }
process p { a = pin(x, WRITE|LONGTERM); madvise(x, PAGEOUT); b = load(x); store(x, 2); post(e); await(f); r = load(x) }
device d { await(e); dma_write(a, 3); post(f) }
always b == 1 and r == 3
""",
    """
test pictures_and_uffd
memory { x = anon(1) }
process p { a = pin(x, WRITE|LONGTERM); uffd_wp(x); uffd_wp_resolve(x); store(x, 2); post(e); await(f); r = load(x) }
device d { await(e); dma_write(a, 3); post(f) }
always r == 3
""",
    """
test pictures_and_exec
memory { x = memfd(1) }
process p { fork(c); vfork(b); a = pin(x, WRITE|LONGTERM); munmap(x); post(e) }
process b { r0 = exec(); exit() }
process c { await(f); r = load(x) }
device d { await(e); dma_write(a, 2); post(f) }
always r == 2
""",
    """
test pictures_in_one_page
memory { x = anon(1); y = shared_anon(2) }
process p {
    a = pin(x, WRITE|LONGTERM); b = pin(y, WRITE|LONGTERM); c = pin(x, WRITE|LONGTERM)
    fork(q); store(x, 4); post(e); await(f); r1 = load(x); r2 = load(y); post(h)
}
process q { await(h); r3 = load(x); r4 = load(y) }
device d {
    await(e); dma_write(b, 5); unpin(b); dma_write(a, 6); unpin(a); dma_write(c, 7); dma_write(c, 8); post(f)
}
always r1 == 8 and r2 == 5 and r3 == 1 and r4 == 5
""",
    """
test pictures_before_fork
memory { x = anon(1) }
process p { a = pin(x, WRITE|LONGTERM); post(e); await(f); fork(q); store(x, 2); r = load(x) }
process q { c = load(x) }
device d { await(e); dma_write(a, 3); unpin(a); post(f) }
always r == 2 and c == 3
""",
)


def test_xdp_on_this_kernel(agent: Path) -> None:
    skip_if(backends_here((str(agent),))["xdp"])
    tests = [parse(text) for text in AREAS] + [parse(built_in("xdp_umem_fork"))]
    seen = run_host(tests, agent=agent)
    assert {name for run in seen for name in run.backends.values()} == {"xdp"}
    compare_all(tests, seen, kernel_of_release(os.uname().release))


#: Pages and cells that are read more than once, and one that the owner gets back for writing after the release.
DATAGRAMS = """
test datagrams
memory { x = anon(a=1, b=2, pages=2) }
process p {
    q = get(x, READ); s = get(x[1], READ); store(x[1].b, 5); fork(c); store(x[0].a, 4); post(e)
    await(f); unpin(q); unpin(s); store(x[0].a, 6); post(g)
}
process c { await(g); r5 = load(x[0].a) }
device d { await(e); r1 = dma_read(q[0].a); r2 = dma_read(q[1].b); r3 = dma_read(q[1].b); r4 = dma_read(s.b); post(f) }
always r1 == 1 and r2 == 5 and r3 == 5 and r4 == 5 and r5 == 1
"""


def test_zerocopy_on_this_kernel(agent: Path) -> None:
    skip_if(backends_here((str(agent),))["zerocopy"])
    tests = [parse(DATAGRAMS), *(parse(built_in(name)) for name in ("vmsplice_child", "plain_reference_stale"))]
    seen = run_host(tests, agent=agent, prefer=("zerocopy",))
    assert {name for run in seen for name in run.backends.values()} == {"zerocopy"}
    compare_all(tests, seen, kernel_of_release(os.uname().release))


def test_zerocopy_as_an_ordinary_user(agent: Path, as_nobody: tuple[str, ...]) -> None:
    (seen,) = run_host([parse(DATAGRAMS)], agent=agent, wrapper=as_nobody, prefer=("zerocopy",))
    assert (seen.status, seen.registers["r2"]) == ("ok", 5), seen.reason
    assert set(seen.backends.values()) == {"zerocopy"}


def test_the_device_that_is_named(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It takes every pin that it can take, another one the rest; the result says which took what."""
    skip_if(backends_here((str(agent),))["xdp"])
    assert main(["run", "rdma_fork_wait", "vmsplice_child", "--device", "xdp", "--json"]) == 0
    results = [row["results"][0] for row in json.loads(capsys.readouterr().out)["tests"]]
    assert [set(result["backends"].values()) for result in results] == [{"xdp"}, {"pipe"}]
    assert main(["run", "rdma_fork_wait", "--device", "xpd"]) == 2
    assert "no backend 'xpd'; there are: uring, vfio, xdp" in capsys.readouterr().err


def built_in(name: str) -> str:
    path = find(name)
    assert path is not None
    return path.read_text()


def compare_all(tests: list[Test], seen: list[Observation], kernel: Kernel) -> None:
    """Every register of every test as the model predicts it."""
    for test, run in zip(tests, seen, strict=True):
        expected = {name: value for name, value in predict(test, kernel).registers.items() if value is not None}
        assert (run.test, run.status, run.registers) == (test.name, "ok", expected), run.reason


def test_vfio(installed: KernelImage, agent: Path) -> None:
    names = ("vfio_fork", "vfio_before_first_touch", "vfio_readonly", "late_dma_iommu")
    tests = [parse(built_in(name)) for name in names] + [parse(text) for text in RELEASES]
    report = vm.run_image(tests, installed, agent=agent)
    assert report.problems == ()
    assert {name for run in report.observations for name in run.backends.values()} == {"vfio"}
    compare_all(tests, report.observations, kernel_of_release(vm.version_of(installed)))


def test_nfs(installed: KernelImage, agent: Path) -> None:
    names = (
        "nfs_read_child_alive", "nfs_read_child_gone", "nfs_read_dontfork", "nfs_read_fixed_buffer",
        "nfs_write_child_alive", "nfs_write_child_stores", "shared_direct_read",
    )  # fmt: skip
    tests = [parse(built_in(name)) for name in names] + [parse(SENT_AGAIN)]
    report = vm.run_image(tests, installed, agent=agent)
    assert report.problems == ()
    compare_all(tests, report.observations, kernel_of_release(vm.version_of(installed)))


def test_vivid(installed: KernelImage, agent: Path) -> None:
    """It is in full flavours only."""
    full = next((image for image in images.installed() if not vm.backends_of(image)["vivid"]), None)
    if full is None:
        pytest.skip("no kernel with vivid is installed ('cowcatcher kernels install 6.1-full')")
    tests = [parse(text) for text in PICTURES]
    report = vm.run_image(tests, full, agent=agent, prefer=("vivid",))
    assert report.problems == ()
    compare_all(tests, report.observations, kernel_of_release(vm.version_of(full)))
    assert {name for run in report.observations for name in run.backends.values()} == {"vivid"}
    forked = evaluate(tests[0], report.observations[0])
    assert [claim.verdict for claim in forked] == [Verdict.HOLDS]


@pytest.mark.parametrize(
    ("lack", "outcome"),
    [
        ("there is no /dev/fuse (modprobe fuse)", pytest.skip.Exception),
        ("/dev/fuse may not be opened", pytest.skip.Exception),
        ("only root may mount NFS", pytest.skip.Exception),
        ("a direct read does not arrive", pytest.fail.Exception),
        ("there is no memory", pytest.fail.Exception),
    ],
)
def test_a_trial_that_fails_is_no_lack(lack: str, outcome: type[BaseException]) -> None:
    with pytest.raises(outcome):
        skip_if(lack)
