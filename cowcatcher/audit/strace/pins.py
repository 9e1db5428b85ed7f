"""Calls that pin memory until it is given back: io_uring's registered buffers, VFIO, iommufd, AF_XDP."""

from __future__ import annotations

import struct
from collections.abc import Hashable

from cowcatcher.audit.events import Interface, Pinned, Range
from cowcatcher.audit.strace.arguments import (
    Value,
    constant,
    data,
    decoration,
    descriptor,
    flag,
    number,
    vectors,
)
from cowcatcher.audit.strace.lines import Call
from cowcatcher.audit.strace.state import File, Ring, Task, World, argument, succeeded
from cowcatcher.audit.strace.transfers import watch_sends

#: include/uapi/linux/io_uring.h
_OPERATIONS = {
    0: "IORING_REGISTER_BUFFERS", 1: "IORING_UNREGISTER_BUFFERS", 15: "IORING_REGISTER_BUFFERS2",
    16: "IORING_REGISTER_BUFFERS_UPDATE", 22: "IORING_REGISTER_PBUF_RING", 23: "IORING_UNREGISTER_PBUF_RING",
    30: "IORING_REGISTER_CLONE_BUFFERS",
}  # fmt: skip
_BY_INDEX = "IORING_REGISTER_USE_REGISTERED_RING"
_BY_INDEX_BIT = 1 << 31

#: include/uapi/linux/vfio.h and iommufd.h: _IO(';', …)
_IOCTLS = {
    0x3B71: "VFIO_IOMMU_MAP_DMA", 0x3B72: "VFIO_IOMMU_UNMAP_DMA", 0x3B85: "IOMMU_IOAS_MAP", 0x3B86: "IOMMU_IOAS_UNMAP",
}  # fmt: skip


def looks_like_dma(line: str) -> bool:
    """The first look at an ioctl()."""
    return "VFIO_IOMMU_" in line or "IOMMU_IOAS_" in line or "0x3b" in line or "CLEX" in line


def looks_like_option(line: str) -> bool:
    """The first look at a setsockopt()."""
    return "ZEROCOPY" in line or "XDP" in line or "0x3c" in line or "0x11b" in line


def pin(
    world: World, task: Task, handle: str, interface: Interface, ranges: tuple[Range, ...], writes: bool, detail: str,
    stack: tuple[str, ...] = (),
) -> None:  # fmt: skip
    if task.memory.in_flight:
        world.tell(task.memory)
    world.pinned_by[handle] = task.pid
    world.out.append(Pinned(world.time, world.line, task.pid, handle, interface, ranges, writes, detail, stack=stack))


# --- io_uring ---------------------------------------------------------------------------------------------------------


def setup(world: World, task: Task, call: Call) -> None:
    done = succeeded(call)
    if done:  # the descriptor is close-on-exec: io_uring_install_fd()
        world.opened(task, done[1], File("io_uring", ring=Ring()), True)
        task.memory.rings = True


def register(world: World, task: Task, call: Call) -> None:
    done = succeeded(call)
    if done is None:
        return
    arguments, returned = done
    fd, written = descriptor(argument(arguments, 0)), argument(arguments, 1)
    by_index = flag(written, _BY_INDEX, _BY_INDEX_BIT)
    operation = constant(written, _OPERATIONS)
    if by_index and isinstance(written, str):
        names = [part.strip() for part in written.split("|")]
        bits = number(written)
        operation = _OPERATIONS.get(bits & ~_BY_INDEX_BIT, "") if bits is not None else names[-1]
    if fd is None or operation not in _OPERATIONS.values():
        return
    file = _only_ring(task) if by_index else world.counted_file(task, fd, decoration(argument(arguments, 0)))
    if file is None:
        world.lost(task.pid, f"{operation}: which ring is meant is not in the trace")
        return
    ring = file.ring = file.ring or Ring()
    given = argument(arguments, 2)
    where = f"io_uring fd {fd}"
    if operation == "IORING_REGISTER_BUFFERS":
        _register(world, task, ring, where, 0, given, returned)
    elif operation == "IORING_UNREGISTER_BUFFERS":
        for handle in ring.groups:
            world.unpin(task.pid, handle)
        ring.groups.clear()
    elif isinstance(given, dict):
        _with_structure(world, task, ring, where, operation, given, returned)
    else:
        world.lost(task.pid, f"{operation}: its structure is not in the trace")


def _with_structure(
    world: World, task: Task, ring: Ring, where: str, operation: str, given: dict[str, Value], returned: int
) -> None:
    if operation == "IORING_REGISTER_BUFFERS2":
        if not flag(given.get("flags"), "IORING_RSRC_REGISTER_SPARSE", 1):
            _register(world, task, ring, where, 0, given.get("data"), returned)
    elif operation == "IORING_REGISTER_BUFFERS_UPDATE":
        _register(world, task, ring, where, number(given.get("offset")) or 0, given.get("data"), returned, True)
    elif operation == "IORING_REGISTER_CLONE_BUFFERS":
        source = world.file(task, descriptor(given.get("src_fd")))
        if source is None or source.ring is None:
            world.lost(task.pid, f"{operation}: which ring is meant is not in the trace")
            return
        for slots in list(source.ring.groups.values()):
            _group(world, task, ring, where, dict(slots))


def _only_ring(task: Task) -> File | None:
    rings = {id(file): file for file in task.files.table.values() if file.ring}
    return next(iter(rings.values())) if len(rings) == 1 else None


def _register(
    world: World,
    task: Task,
    ring: Ring,
    where: str,
    offset: int,
    given: Value | None,
    returned: int,
    update: bool = False,
) -> None:
    ranges, complete = vectors(given)
    if ranges is None:
        world.lost(task.pid, f"{where}: the buffers that are registered are not in the trace")
        return
    if not complete:
        world.lost(task.pid, f"{where}: the list of registered buffers is truncated after {len(ranges)} (-v shows all)")
    if update:
        ranges = ranges[:returned]
        _replace(world, task, ring, where, set(range(offset, offset + (len(ranges) if complete else returned))))
    _group(world, task, ring, where, {offset + i: r for i, r in enumerate(ranges) if r.start and r.size})


def _group(world: World, task: Task, ring: Ring, where: str, slots: dict[int, Range]) -> None:
    if not slots:
        return
    handle = world.handle(where)
    ring.groups[handle] = slots
    detail = f"{where}, {len(slots)} buffer{'s' * (len(slots) > 1)}"
    stack = world.stack(task, "io_uring_register", "io_uring_register_buffers")
    pin(world, task, handle, "io_uring_register", tuple(slots.values()), True, detail, stack)


def _replace(world: World, task: Task, ring: Ring, where: str, slots: set[int]) -> None:
    """Slots get new buffers: what else was pinned with the old ones stays pinned, under a new handle."""
    for handle, group in list(ring.groups.items()):
        if slots.isdisjoint(group):
            continue
        kept = {slot: r for slot, r in group.items() if slot not in slots}
        _group(world, task, ring, where, kept)
        del ring.groups[handle]
        world.unpin(task.pid, handle)


# --- VFIO, iommufd, AF_XDP --------------------------------------------------------------------------------------------


def ioctl(world: World, task: Task, call: Call) -> None:
    done = succeeded(call)
    if done is None:
        return
    arguments, _ = done
    fd, written, given = descriptor(argument(arguments, 0)), argument(arguments, 1), argument(arguments, 2)
    if fd is None:
        return
    name = constant(written, _IOCTLS)
    if isinstance(written, str):
        if "0x3b, 0x85" in written:
            name = "IOMMU_IOAS_MAP"
        elif "0x3b, 0x86" in written:
            name = "IOMMU_IOAS_UNMAP"
        elif "VFIO_IOMMU_MAP_DMA" in written:
            name = "VFIO_IOMMU_MAP_DMA"
    if name in ("FIOCLEX", "FIONCLEX"):
        (task.files.cloexec.add if name == "FIOCLEX" else task.files.cloexec.discard)(fd)
    elif name in ("VFIO_IOMMU_MAP_DMA", "IOMMU_IOAS_MAP"):
        _map(world, task, fd, name, given)
    elif name in ("VFIO_IOMMU_UNMAP_DMA", "IOMMU_IOAS_UNMAP"):
        _unmap(world, task, fd, name, given)


def _map(world: World, task: Task, fd: int, name: str, given: Value | None) -> None:
    """Releases of strace up to 6.1 show only the structure's address; a later one, or the shim, what is in it."""
    fields = given if isinstance(given, dict) else {}
    start = number(fields.get("vaddr", fields.get("user_va")))
    size = number(fields.get("size", fields.get("length")))
    iova = number(fields.get("iova")) or 0
    if start is None or size is None:
        if not task.memory.shim:
            world.lost_once(task, f"{name}: strace does not show which memory is mapped for the device")
        return
    where = "vfio" if name.startswith("VFIO") else "iommufd"
    writes = flag(fields.get("flags"), "VFIO_DMA_MAP_FLAG_WRITE", 2) or flag(
        fields.get("flags"), "IOMMU_IOAS_MAP_WRITEABLE", 2
    )
    handle = world.handle(f"{where} fd {fd}")
    world.counted_file(task, fd, where).held[("iova", iova, size)] = handle
    detail = f"{where} fd {fd}, iova {iova:#x}"
    pin(world, task, handle, "vfio_map", (Range(start, start + size),), writes, detail, world.stack(task, "ioctl"))


def _unmap(world: World, task: Task, fd: int, name: str, given: Value | None) -> None:
    file = world.file(task, fd)
    if not file or not file.held:
        return
    fields = given if isinstance(given, dict) else {}
    start, size = number(fields.get("iova")), number(fields.get("size", fields.get("length")))
    everything = flag(fields.get("flags"), "VFIO_DMA_UNMAP_FLAG_ALL", 2)
    if not everything and (start is None or size is None):
        world.lost_once(task, f"{name}: strace does not show which memory is unmapped")
        return
    for key in list(file.held):
        if everything or _inside(key, start or 0, size or 0):
            world.unpin(task.pid, file.held.pop(key))


def _inside(key: Hashable, start: int, size: int) -> bool:
    return isinstance(key, tuple) and key[0] == "iova" and start <= key[1] and key[1] + key[2] <= start + size


def setsockopt(world: World, task: Task, call: Call) -> None:
    done = succeeded(call)
    if done is None:
        return
    arguments, _ = done
    fd = descriptor(argument(arguments, 0))
    level = constant(argument(arguments, 1), {1: "SOL_SOCKET", 283: "SOL_XDP"})
    option, given = argument(arguments, 2), argument(arguments, 3)
    if fd is None:
        return
    if level == "SOL_XDP" and constant(option, {4: "XDP_UMEM_REG"}) == "XDP_UMEM_REG":
        _umem(world, task, fd, given)
    elif level == "SOL_SOCKET" and constant(option, {60: "SO_ZEROCOPY"}) == "SO_ZEROCOPY":
        file = world.counted_file(task, fd, decoration(argument(arguments, 0)))
        file.zerocopy = given not in (["0"], "[0]")
        watch_sends(world)


def _umem(world: World, task: Task, fd: int, given: Value | None) -> None:
    """struct xdp_umem_reg begins with the address and the length; strace shows it as bytes."""
    if isinstance(given, dict):
        start, size = number(given.get("addr")), number(given.get("len"))
    else:
        shown = data(given)
        start, size = struct.unpack_from("<QQ", shown) if shown and len(shown) >= 16 else (None, None)
    if start is None or size is None:
        world.lost(task.pid, "XDP_UMEM_REG: which memory is registered is not in the trace")
        return
    handle = world.handle(f"xdp fd {fd}")
    world.counted_file(task, fd, "AF_XDP").held["umem"] = handle
    pin(
        world,
        task,
        handle,
        "xdp_umem",
        (Range(start, start + size),),
        True,
        f"xdp fd {fd}",
        world.stack(task, "setsockopt"),
    )


CALLS = {
    "io_uring_setup": setup, "io_uring_register": register, "ioctl": ioctl, "setsockopt": setsockopt,
}  # fmt: skip
