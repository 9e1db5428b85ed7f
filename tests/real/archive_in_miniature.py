"""A Debian archive of a few kilobytes, signed with a key of its own, and kernels that nobody could boot."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

NEEDED = ("apt-get", "dpkg-deb", "gpg")


def missing_tools() -> list[str]:
    return [tool for tool in NEEDED if shutil.which(tool) is None]


def elf(sections: Mapping[bytes, bytes]) -> bytes:
    """A 64-bit ELF file of nothing but sections."""
    names, body, headers = b"\0", b"", struct.pack("<IIQQQQIIQQ", *[0] * 10)
    for name, data in {**sections, b".shstrtab": b""}.items():
        at = len(names)
        names += name + b"\0"
        if name == b".shstrtab":
            data = names
        headers += struct.pack("<IIQQQQIIQQ", at, 1, 0, 0, 64 + len(body), len(data), 0, 0, 1, 0)
        body += data
    count = len(sections) + 2
    start = struct.pack(
        "<4s12xHHIQQQIHHHHHH", b"\x7fELF", 1, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, count, count - 1
    )
    return start + body + headers


def module(*depends: str) -> bytes:
    return elf({b".text": b"\x90" * 8, b".modinfo": f"license=GPL\0depends={','.join(depends)}\0".encode()})


def kernel(release: str, more: bytes = b"") -> bytes:
    return elf({b".rodata": f"Linux version {release} (nobody)\0".encode() + more + bytes(5000)})


def bzimage(payload: bytes, size: int, release: str = "6.1.0-9-cloud-amd64") -> bytes:
    """What the x86 boot protocol has before a payload and behind it."""
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x100)
    text = f"{release} (nobody)\0".encode()
    head[0x300 : 0x300 + len(text)] = text
    struct.pack_into("<II", head, 0x248, 7, len(payload) + 4)
    return bytes(head) + b"decode!" + payload + struct.pack("<I", size) + b"the rest"


def vmlinuz(release: str, more: bytes = b"") -> bytes:
    data = kernel(release, more)
    return bzimage(gzip.compress(data), len(data), release)


@dataclass
class Miniature:
    """``deb`` packages, then ``publish``; ``mirror`` is what apt is given."""

    root: Path
    keys: Path
    gnupg: Path
    _stanzas: dict[str, list[str]] = field(default_factory=dict)

    @property
    def mirror(self) -> str:
        return f"file://{self.root}"

    def deb(self, suite: str, package: str, version: str, files: Mapping[str, bytes], listed: bool = True) -> Path:
        pool = f"pool/main/l/linux/{package}_{version}_amd64.deb"
        tree, target = self.root / "tree", self.root / pool
        control = f"Package: {package}\nVersion: {version}\nArchitecture: amd64\nMaintainer: nobody <n@example.org>\n"
        control += "Description: a kernel in miniature\nInstalled-Size: 10\n"
        for name, data in {**files, "DEBIAN/control": control.encode()}.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        tree.chmod(0o755)
        words = ["dpkg-deb", "-Zgzip", "--root-owner-group", "--build", str(tree), str(target)]
        subprocess.run(words, check=True, capture_output=True)
        shutil.rmtree(tree)
        data = target.read_bytes()
        stanza = f"{control}Filename: {pool}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        self._stanzas.setdefault(suite, []).extend([stanza] if listed else [])
        return target

    def publish(self) -> None:
        for suite, stanzas in self._stanzas.items():
            place = self.root / "dists" / suite
            index = place / "main/binary-amd64/Packages"
            index.parent.mkdir(parents=True, exist_ok=True)
            index.write_text("\n".join(stanzas))
            data = index.read_bytes()
            (place / "Release").write_text(
                f"Origin: Debian\nLabel: Debian\nSuite: {suite}\nCodename: {suite}\nArchitectures: amd64\n"
                "Components: main\n"
                "Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
                f" {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-amd64/Packages\n"
            )
            signing = f"gpg --homedir {self.gnupg} --batch --yes -q --clearsign -o InRelease Release"
            subprocess.run(signing.split(), cwd=place, check=True, capture_output=True)


def new_key(gnupg: Path) -> bytes:
    """A key made now, and its public half."""
    gnupg.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(gnupg), "--batch", "-q"]
    words = [
        *gpg,
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
        "--quick-gen-key",
        "archive",
        "rsa2048",
        "sign",
        "0",
    ]
    subprocess.run(words, check=True, capture_output=True)
    return subprocess.run([*gpg, "--export"], check=True, capture_output=True).stdout
