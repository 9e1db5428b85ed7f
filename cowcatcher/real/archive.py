"""Debian's kernel packages, by the machine's own apt in a private root.

apt brings proxies, credentials, resuming and the check of signatures along. Its lists and caches lie in a directory of
ours, one for each suite, and nothing on the machine is changed: no privilege is needed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ARCHITECTURE: Final = "amd64"
#: Where each series is, newest release last. Backports drop a series when the next one comes; the pool keeps it longer.
SUITES: Final = {
    "5.10": "bullseye",
    "6.1": "bookworm",
    "6.12": "trixie",
    "6.16": "trixie-backports",
    "6.18": "trixie-backports",
    "7.0": "trixie-backports",
    "7.2": "trixie-backports",
    "7.3": "trixie-backports",
}
KEYRINGS: Final = (
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
)
_TOOLS: Final = {"apt-get": "apt", "apt-cache": "apt", "dpkg-deb": "dpkg"}
_TICK: Final = 0.2  # seconds between two looks at how far a download is


class ArchiveError(Exception):
    """A package could not be had; the text says why and what to do next."""


@dataclass(frozen=True, slots=True)
class Package:
    """One package file. ``sha256`` is what the signed index says; "" if only the pool has it still."""

    name: str
    version: str
    suite: str
    sha256: str
    size: int
    installed_size: int
    pool: str

    @property
    def file(self) -> str:
        return f"{self.name}_{self.version.replace(':', '%3a')}_{ARCHITECTURE}.deb"


@dataclass(frozen=True, slots=True)
class Found:
    """A kernel's packages: the image, what else the index has, and what it only names."""

    release: str
    packages: tuple[Package, ...]
    pool_only: tuple[Package, ...]


def mirror_of_this_machine() -> str:
    """The Debian mirror that apt is set up with here."""
    _need_tools()
    listed = _run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)", "Created-By: Packages"], "asking apt"
    )
    likely = []
    for line in listed.splitlines():
        uri, origin, label = [*line.split(" "), "", ""][:3]
        uri = _first_of_list(uri)
        if (origin, label) == ("Debian", "Debian"):
            return uri
        if uri.rstrip("/").endswith("/debian"):
            likely.append(uri)
    if not likely:
        raise ArchiveError(
            "apt knows no Debian mirror on this machine, and Debian's kernels come from one: name it with --mirror URL "
            "(what stands behind 'deb' in the sources.list of a Debian machine)"
        )
    return likely[0]


def _first_of_list(uri: str) -> str:
    """Cloud images name a file that lists mirrors."""
    scheme, _, path = uri.partition(":")
    if scheme != "mirror+file":
        return uri
    try:
        lines = Path("/" + path.strip("/")).read_text().splitlines()
    except OSError:
        return ""
    return next((line.split()[0] for line in lines if line.strip() and not line.startswith("#")), "")


def keyring() -> Path:
    """The keys by which Debian's archive is known on this machine."""
    for path in KEYRINGS:
        if os.path.exists(path):
            return Path(path)
    raise ArchiveError(
        "the keys of Debian's archive are not on this machine, so what it sends cannot be verified: install the "
        "package 'debian-archive-keyring'"
    )


class Suite:
    """One suite of the archive, seen through an apt of its own below ``root``."""

    def __init__(self, name: str, root: Path, mirror: str, keys: Path) -> None:
        self.name = name
        self._root = root / name
        self._mirror = mirror.rstrip("/")
        self._keys = keys
        self._updated = False

    def update(self) -> None:
        """Fetch the suite's index and verify it; once for each object."""
        if self._updated:
            return
        said = ""
        # Mirrors keep suites that are no longer supported beside the others, if at all.
        for uri in (self._mirror, re.sub(r"/debian$", "/debian-archive/debian", self._mirror)):
            self._configure(uri)
            try:
                self._apt("apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update")
            except ArchiveError as error:
                said = said or str(error)
                continue
            self._mirror, self._updated = uri, True
            return
        raise ArchiveError(f"suite {self.name}: {said}")

    def find(self, series: str, flavour: str) -> list[Found]:
        """Kernels of a series: those that the index has all packages of first, the newer ones before the older."""
        tail = "-cloud-amd64" if flavour == "cloud" else "-amd64"
        release = re.compile(rf"linux-(?:image|binary)-({re.escape(series)}\.\d+(?:-\d+|\+deb\d+){tail})")
        names = set(self._apt("apt-cache", "pkgnames", "linux-").split())
        releases = {found[1] for name in names if (found := release.fullmatch(name))}
        kernels = [self._found(release, names) for release in releases]
        return sorted((k for k in kernels if k), key=lambda k: (not k.pool_only, natural(k.release)), reverse=True)

    def _found(self, release: str, names: set[str]) -> Found | None:
        """Up to 6.18 one package has it all; later the image, the modules and the rest are three."""
        split = f"linux-binary-{release}" in names
        parts = ("binary", "modules", "base") if split else ("image", "base")
        have = [p for p in (self.package(f"linux-{part}-{release}") for part in parts) if p]
        if not have or not have[0].name.startswith(("linux-binary", "linux-image")):
            return None
        image, there = have[0], {p.name for p in have}
        gone = [f"linux-{part}-{release}" for part in parts if f"linux-{part}-{release}" not in there]
        lost = tuple(
            Package(n, image.version, self.name, "", 0, 0, f"pool/main/l/linux/{n}_{image.version}_{ARCHITECTURE}.deb")
            for n in gone
            if split
        )
        return Found(release, tuple(have), lost)

    def package(self, name: str) -> Package | None:
        """The newest package of that name in the suite's index, which must have been fetched; None if it has none."""
        try:
            text = self._apt("apt-cache", "show", "--no-all-versions", name)
        except ArchiveError:
            return None
        field = dict(re.findall(r"^([A-Z][\w-]*): (.*)$", text, re.M))
        if "Filename" not in field:  # named by others, but there is no such package
            return None
        return Package(
            name,
            field["Version"],
            self.name,
            field["SHA256"],
            int(field["Size"]),
            int(field.get("Installed-Size", 0)) * 1024,
            field["Filename"],
        )

    def download(self, package: Package, where: Path, progress: Callable[[int], None]) -> Path:
        """The package's file below ``where``; what is there already is not fetched again, a part is gone on with."""
        target = where / package.file
        if package.sha256 and target.exists() and sha256_of(target) == package.sha256:
            return target
        where.mkdir(parents=True, exist_ok=True)
        from urllib.parse import quote

        # Not 'apt-get download': that begins each file anew, and refuses what the index does not list.
        methods = _run(["apt-config", "dump", "--format", "%v%n", "Dir::Bin::methods"], "asking apt").strip()
        helper, uri = str(Path(methods).parent / "apt-helper"), f"{self._mirror}/{quote(package.pool)}"
        uri = re.sub(r"^file:", "copy:", uri)  # by "file:" it would make a link
        digest = [f"SHA256:{package.sha256}"] if package.sha256 else []
        command = self._command(helper, "download-file", uri, str(target), *digest)
        failing = f"package {package.name} {package.version} could not be had"
        _run(command, failing, where, lambda: progress(_size(target)))
        if not target.exists():
            raise ArchiveError(f"package {package.name} {package.version} could not be had, though apt was content")
        found = sha256_of(target)
        if package.sha256 and found != package.sha256:
            target.unlink()
            raise ArchiveError(
                f"package {package.name} {package.version} is not what the signed index says (sha256 {found}); "
                "it was thrown away; try again"
            )
        return target

    def tidy(self) -> None:
        """Delete what apt can make again from the indexes; it is several times their size."""
        (self._root / "cache" / "pkgcache.bin").unlink(missing_ok=True)

    def _configure(self, uri: str) -> None:
        root = self._root
        for place in ("state/lists/partial", "cache/archives/partial"):
            (root / place).mkdir(parents=True, exist_ok=True)
        (root / "status").touch()
        (root / "suite.sources").write_text(
            f"Types: deb\nURIs: {uri}\nSuites: {self.name}\nComponents: main\nTargets: Packages\n"
            f"Architectures: {ARCHITECTURE}\nSigned-By: {self._keys}\n"
        )
        # Read last of all configuration: proxies and the like of the machine stand, its hooks and pins do not.
        (root / "apt.conf").write_text(
            "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n"
            "#clear APT::Update::Post-Invoke-Success;\n#clear APT::Architectures;\n"
            f'APT::Architecture "{ARCHITECTURE}";\nAPT::Architectures {{ "{ARCHITECTURE}"; }};\n'
            f'Dir::State "{root}/state";\nDir::State::lists "lists/";\nDir::State::status "{root}/status";\n'
            f'Dir::Cache "{root}/cache";\nDir::Cache::archives "archives/";\n'
            'Dir::Cache::pkgcache "pkgcache.bin";\nDir::Cache::srcpkgcache "";\n'
            f'Dir::Etc::sourcelist "{root}/suite.sources";\nDir::Etc::sourceparts "/dev/null";\n'
            'Dir::Etc::preferences "/dev/null";\nDir::Etc::preferencesparts "/dev/null";\n'
            'Acquire::GzipIndexes "true";\nAcquire::Languages "none";\nAcquire::AllowInsecureRepositories "false";\n'
            'APT::Get::AllowUnauthenticated "false";\nDir::Log "/dev/null";\n'
            + ('APT::Sandbox::User "root";\n' if os.geteuid() == 0 else "")
        )

    def _command(self, tool: str, *words: str) -> list[str]:
        return [tool, "-c", str(self._root / "apt.conf"), *words]

    def _apt(self, tool: str, *words: str) -> str:
        return _run(self._command(tool, *words), f"{tool} {words[-1]} failed")


def sha256_of(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(package: Path, where: Path) -> None:
    _run(["dpkg-deb", "-x", str(package), str(where)], f"{package.name} cannot be unpacked")


def _need_tools() -> None:
    import shutil

    for tool, package in _TOOLS.items():
        if shutil.which(tool) is None:
            raise ArchiveError(
                f"there is no '{tool}' on this machine: install the package '{package}' (other distributions than "
                "Debian have it too); or register a kernel of your own with --image FILE --name NAME"
            )


def _run(
    command: Sequence[str], failing: str, where: Path | None = None, tick: Callable[[], None] | None = None
) -> str:
    """What the command printed; ArchiveError with what it complained of. ``tick`` is called while it runs."""
    import signal
    import subprocess

    environment = os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        process = subprocess.Popen(
            command,
            cwd=where,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise ArchiveError(f"{failing}: {command[0]}: {error.strerror}") from error
    with process:
        try:
            while True:
                try:
                    out, err = process.communicate(timeout=_TICK if tick else None)
                    break
                except subprocess.TimeoutExpired:
                    if tick:
                        tick()
        except BaseException:
            # apt deletes what it has on SIGINT and keeps it on SIGTERM, for the next time.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            raise
    if process.returncode:
        complaints = [line.strip() for line in err.splitlines() if line.startswith(("E:", "dpkg-deb:"))] or err.split(
            "\n"
        )
        raise ArchiveError(f"{failing}: {'; '.join(c for c in complaints[:3] if c) or f'exit {process.returncode}'}")
    return out


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def natural(text: str) -> list[int]:
    """The numbers in a release, to sort by."""
    return [int(digits) for digits in re.findall(r"\d+", text)]
