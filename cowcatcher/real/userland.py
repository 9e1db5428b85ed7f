"""A program of this machine, run on another kernel: a virtual machine whose files are this one's.

What a program does to its memory depends on the kernel, and on devices that only a kernel of one's own can be given,
such as soft-RoCE. The agent is the machine's first process (agent/userland.c); this machine's root comes to it by
virtio-9p, read-only, with a file system in memory above that takes what is written and is gone afterwards. One
directory is given to it to write to, and that is how everything comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cowcatcher.real.qemu import Lost, Settings, VmError, computer, escaped

if TYPE_CHECKING:
    from cowcatcher.real.images import KernelImage

#: Where the directory that comes back is in the machine; also in the script's environment, as OUT. See userland.c.
OUT: Final = "/run/out"
#: Without these there is no root. A kernel may have some of them built in.
_ROOT: Final = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
#: MiB: as much as a Python, a tracer and some programs take.
_MEMORY: Final = 1024
#: Soft-RoCE, and a network device to put it on. crc32_generic: up to 6.12 it asks for its checksum by name.
RDMA: Final = ("crc32_generic", "ib_uverbs", "rdma_ucm", "rdma_rxe", "dummy")


@dataclass(frozen=True, slots=True)
class Came:
    """What came of a script: its exit status (128 and the signal's number, if one ended it) and all that it wrote."""

    status: int
    stdout: str
    stderr: str
    seconds: float


def run_userland(
    script: str,
    image: KernelImage,
    out: Path,
    *,
    modules: Sequence[str] = (),
    settings: Settings | None = None,
    timeout: float = 120.0,
) -> Came:
    """Run ``script`` by /bin/sh, as root, on the kernel of ``image``. It finds this machine's files where they are
    here, but for /tmp, /run and what the kernel makes; ``out``, an existing directory, is its ``$OUT``.

    ``modules`` are loaded where the kernel has them. Raises VmError where no machine can be had, Lost where it was lost
    or took longer than ``timeout`` seconds.
    """
    import os
    import tempfile
    import time

    from cowcatcher.real.build import agent_path
    from cowcatcher.real.initramfs import initramfs
    from cowcatcher.real.qemu import is_static, log_of

    agent = agent_path()
    if not is_static(agent):
        raise VmError("the agent is not static: install the static C library (`apt install libc6-dev`)")
    (out / "script").write_text(script)
    log = log_of(image.name)
    settings = settings or Settings(memory=_MEMORY)
    settings = replace(settings, append=(*settings.append, *image.parameters))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cowcatcher-") as place:
        archive = Path(place) / "initramfs"
        archive.write_bytes(initramfs(agent, "", _modules(image, modules)))
        words = computer(image.vmlinux, archive, log, settings, "--userland")
        words += [*_shared("host", Path("/"), ",readonly=on"), *_shared("out", out, "")]
        said = _run(
            [str(agent), "--tied", *words], timeout
        )  # the machine ends with this process, whatever that ends of
    try:
        status = os.waitstatus_to_exitcode(int((out / "status").read_text()))
    except (OSError, ValueError):
        raise Lost(f"{said or 'the machine ended'} before its script did (console: {log})") from None

    def written(name: str) -> str:
        return (out / name).read_text(errors="replace")

    return Came(status if status >= 0 else 128 - status, written("stdout"), written("stderr"), time.monotonic() - began)


def _modules(image: KernelImage, more: Sequence[str]) -> list[Path]:
    from cowcatcher.real.images import ImageError, module_files

    try:
        files = dict.fromkeys(module_files(image, _ROOT))
    except ImageError as error:
        flavour = f"cowcatcher kernels install {image.name}-full" if image.flavour == "cloud" else "another kernel"
        raise VmError(f"{error}; it takes one that can mount its root by 9p: {flavour}") from error
    for module in more:
        with suppress(ImageError):
            files.update(dict.fromkeys(module_files(image, [module])))
    return list(files)


def _run(words: Sequence[str], timeout: float) -> str:
    """QEMU to its end; its complaints."""
    import subprocess

    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout,
            check=False, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"after {timeout:g} s the machine was ended"
    return done.stderr.strip()


def _shared(tag: str, directory: Path, more: str) -> list[str]:
    """QEMU's words for a directory that the machine mounts by ``tag``."""
    return [
        "-fsdev", f"local,id={tag},path={escaped(directory)},security_model=none,multidevs=remap{more}",
        "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}",
    ]  # fmt: skip
