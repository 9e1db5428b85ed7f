"""A kernel's modules: which file has which, what comes before, plain copies, signatures by the kernel's key."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from cowcatcher.real.vmlinux import ELF

_SIGNED: Final = b"~Module signature appended~\n"
_CERTIFICATE: Final = re.compile(rb"\x30\x82(..)\x30\x82..\xa0\x03\x02\x01\x02", re.S)  # X.509 v3, in DER


class ModuleError(Exception):
    """A module is not to be had or not to be trusted; the text says why."""


class NoSuchModule(ModuleError):
    """It is neither a file nor built in."""


def index(tree: Path) -> dict[str, Path]:
    """Module name, with ``_`` for ``-`` as the kernel has it, and its file."""
    return {_name(path.name): path for path in tree.rglob("*.ko*") if re.search(r"\.ko(\.[a-z0-9]+)?$", path.name)}


def built_in(tree: Path) -> set[str]:
    """What the kernel's own list says is no module but part of the image."""
    lists = [path.read_text() for path in tree.rglob("modules.builtin")]
    return {_name(Path(line).name) for text in lists for line in text.split()}


def in_order(names: Iterable[str], there: dict[str, Path], built: set[str], plain: Plain) -> list[Path]:
    """Plain copies of the named modules and of all that they depend on, each behind its own dependencies."""
    done: dict[str, Path | None] = {}

    def visit(name: str, wanted_by: str) -> None:
        if name in done:
            return
        done[name] = None
        if name not in there:
            if name in built:
                return
            raise NoSuchModule(f"there is no module '{name}'{wanted_by}, and it is not built in either")
        copy = plain.copy(there[name])
        for other in depends(copy.read_bytes()):
            visit(other, f", which '{name}' depends on")
        done[name] = done.pop(name) or copy  # behind what it depends on

    for name in names:
        visit(_name(name), "")
    return [path for path in done.values() if path]


def depends(module: bytes) -> list[str]:
    """The modules that this one needs, from its ``modinfo``."""
    for entry in _section(module, b".modinfo").split(b"\0"):
        key, _, value = entry.partition(b"=")
        if key == b"depends":
            return [_name(name) for name in value.decode().split(",") if name]
    return []


class Plain:
    """Uncompressed copies, made once. With ``kernel``, a module is refused unless that kernel's own key signed it."""

    def __init__(self, where: Path, kernel: Path | None) -> None:
        self._where = where
        self._kernel = kernel

    def copy(self, module: Path) -> Path:
        if module.suffix == ".ko" and self._kernel is None:
            return module
        target = self._where / f"{_name(module.name)}.ko"
        if not target.exists():
            self._where.mkdir(parents=True, exist_ok=True)
            data = _uncompressed(module)
            if self._kernel is not None:
                _verify(data, module, self._kernel, self._where)
            write_at_once(target, data)
        return target


def write_at_once(path: Path, data: bytes) -> None:
    """The whole file or none of it, whoever else writes it meanwhile."""
    import os
    import tempfile

    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _name(file: str) -> str:
    return file.partition(".ko")[0].replace("-", "_")


def _uncompressed(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".xz":
        import lzma

        data = lzma.decompress(data)
    elif path.suffix == ".gz":
        import gzip

        data = gzip.decompress(data)
    elif path.suffix == ".zst":
        from cowcatcher.real.vmlinux import NoTool, unzstd

        try:
            data = unzstd(data)
        except NoTool as error:
            raise ModuleError(f"{path.name}: {error}") from error
    if not data.startswith(ELF):
        raise ModuleError(f"{path.name} is damaged; remove the kernel and install it again")
    return data


def _section(elf: bytes, wanted: bytes) -> bytes:
    """A section of a 64-bit ELF file; empty if it has none of that name."""
    (headers,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    found = [struct.unpack_from("<IIQQQQ", elf, headers + i * size) for i in range(count)]
    for name, _, _, _, offset, length in found:
        start = found[names][4] + name
        if elf[start : start + len(wanted) + 1] == wanted + b"\0":
            return elf[offset : offset + length]
    return b""


def _verify(module: bytes, path: Path, kernel: Path, where: Path) -> None:
    """Is it signed by a key that is built into the kernel? The kernel asks the same when it loads a module."""
    import shutil
    import subprocess
    import tempfile

    if shutil.which("openssl") is None:
        raise ModuleError(
            f"{path.name} is not in the archive's signed index, and its own signature cannot be verified without "
            "openssl: install the package 'openssl'"
        )
    body, signature = _split(module)
    with tempfile.TemporaryDirectory(dir=where, prefix=".verify-") as place:
        files = {"keys": _keys(kernel), "body": body, "signature": signature}
        for name, data in files.items():
            (Path(place) / name).write_bytes(data)
        command = "openssl cms -verify -binary -noverify -nointern -inform DER -out /dev/null"
        words = [*command.split(), "-in", "signature", "-content", "body", "-certfile", "keys"]
        done = subprocess.run(words, cwd=place, capture_output=True, check=False)
    if done.returncode or not signature:
        raise ModuleError(
            f"{path.name} is not signed by the key of its kernel, and it is not in the archive's signed index: not used"
        )


def _split(module: bytes) -> tuple[bytes, bytes]:
    """The module and the signature that is appended to it; an empty one if there is none."""
    if not module.endswith(_SIGNED):
        return module, b""
    end = len(module) - len(_SIGNED)
    (length,) = struct.unpack_from(">I", module, end - 4)
    start = end - 12 - length
    return module[:start], module[start : end - 12]


def _keys(kernel: Path) -> bytes:
    """The certificates in a kernel image, as PEM."""
    import ssl

    return "".join(map(ssl.DER_cert_to_PEM_cert, _certificates(kernel.read_bytes()))).encode()


def _certificates(image: bytes) -> Iterator[bytes]:
    for found in _CERTIFICATE.finditer(image):
        (length,) = struct.unpack(">H", found[1])
        yield image[found.start() : found.start() + 4 + length]
