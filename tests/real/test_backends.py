"""What holds memory, each backend on a real kernel: what it shows there is what the model says."""

from __future__ import annotations

from pathlib import Path

from cowcatcher.explore.ordered import predict
from cowcatcher.kernels import kernel_of_release
from cowcatcher.litmus import parse
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.catalogue import find
from cowcatcher.real import vm
from cowcatcher.real.images import KernelImage

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


def built_in(name: str) -> str:
    path = find(name)
    assert path is not None
    return path.read_text()


def agrees_with_model(tests: list[Test], image: KernelImage, agent: Path, backend: str) -> None:
    """Every register of every test as the model predicts it for this kernel, with no other backend in its place."""
    kernel = kernel_of_release(vm.version_of(image))
    report = vm.run_image(tests, image, agent=agent, prefer=(backend,))
    assert report.problems == ()
    for test, seen in zip(tests, report.observations, strict=True):
        expected = {name: value for name, value in predict(test, kernel).registers.items() if value is not None}
        assert (seen.test, seen.status, seen.registers) == (test.name, "ok", expected), seen.reason


def test_vfio(installed: KernelImage, agent: Path) -> None:
    names = ("vfio_fork", "vfio_before_first_touch", "vfio_readonly", "late_dma_iommu")
    tests = [parse(built_in(name)) for name in names] + [parse(text) for text in RELEASES]
    agrees_with_model(tests, installed, agent, "vfio")
