"""Kernels made from source in minutes: a tiny configuration, and edits that let a boot parameter break rules.

Everything lies below ``kernels/`` in the cache: ``sources/`` as unpacked, ``builds/NAME/tree`` (links to the source's
files, and our own copies of the few that are edited), ``builds/NAME/out`` (what make makes), ``builds/NAME/log``. A
source that is named is only read. A build that was interrupted goes on where it was.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cowcatcher.real import archive, controls, images
from cowcatcher.real.archive import Suite

if TYPE_CHECKING:
    import subprocess

#: Program, and the packages that bring it on Debian and on Fedora.
_TOOLS: Final = (
    ("make", "make", "make"),
    ("gcc", "gcc", "gcc"),
    ("ld", "binutils", "binutils"),
    ("flex", "flex", "flex"),
    ("bison", "bison", "bison"),
    ("bc", "bc", "bc"),
    ("perl", "perl-base", "perl"),
    ("tar", "tar", "tar"),
    ("xz", "xz-utils", "xz"),
)
#: A header of the library that objtool needs.
_HEADER: Final = ("gelf.h", "libelf-dev", "elfutils-libelf-devel")
#: MiB that a source, unpacked, and a build take, about.
_ROOM: Final = 3000 << 20
_TICK: Final = 0.2
_STEP: Final = re.compile(rb"^  ([A-Z][A-Z0-9_]*)(?: \[M\])?\s+(\S+)")
_COMPLAINT: Final = re.compile(r"(?i)\berror\b|No rule to make|\*\*\*")

#: Called with the kernel's name, what is being done, and how many steps of make are done; 0 if that is not counted.
Progress = Callable[[str, str, int], None]


class BuildFailed(Exception):
    """The kernel could not be made; the text says why and what to do next."""


@dataclass(frozen=True, slots=True)
class Built:
    """``steps``: what make had to do, which is little if the kernel was there before."""

    image: images.KernelImage
    seconds: float
    steps: int
    log: Path


@dataclass(frozen=True, slots=True)
class _Source:
    """A tree, and where it came from."""

    tree: Path
    about: dict[str, Any]


def build(
    source: str, name: str = "", *, jobs: int = 0, edited: bool = True, mirror: str = "", progress: Progress
) -> Built:
    """Make a kernel of ``source`` (a series, a tarball, a tree) and install it; its controls unless not ``edited``.

    ``jobs``: what make may do side by side, 0 for as many as there are cores. Raises BuildFailed, ArchiveError,
    ImageError, and controls.NoPlace.
    """
    name = name or _name_for(source, edited)
    images.check_own_name(name)
    _need_tools()
    began = time.monotonic()
    with _only_builder(name) as (place, lock):
        (place / "log").unlink(missing_ok=True)
        found = _source(source, name, mirror, progress)
        version = version_of(found.tree)
        if images.free_space() < _ROOM and not (place / "out").exists():
            raise BuildFailed(
                f"a build needs about {_ROOM >> 20} MB and {images.free_space() >> 20} MB are free in {images.home()}"
            )
        progress(name, f"preparing Linux {version}", 0)
        edits = controls.edit(lambda path: (found.tree / path).read_text()) if edited else None
        shadow(found.tree, place / "tree", edits.files if edits else {})
        steps = _make_all(place, lock, name, jobs or len(os.sched_getaffinity(0)), progress)
        about = found.about | _about(place, version, edits)
        out = place / "out"
        image = images.place_built(out / "vmlinux", out / ".config", name, about)
    return Built(image, time.monotonic() - began, steps, place / "log")


def remove(name: str) -> None:
    """What was kept of a build, for the next one; and the unpacked source if no other build is made from it."""
    place = images.home() / "builds" / name
    if not place.is_dir():
        return
    shutil.rmtree(place, ignore_errors=True)
    used = {Path(os.readlink(link)).parent for link in place.parent.glob("*/tree/Makefile") if link.is_symlink()}
    for tree in (images.home() / "sources").glob("*/*/"):
        if tree not in used:
            shutil.rmtree(tree.parent, ignore_errors=True)


def _name_for(source: str, edited: bool) -> str:
    """``5.10-controls`` from a series, else after the file or directory."""
    stem = source if source in archive.SUITES else re.sub(r"\.tar(\.\w+)?$", "", Path(source).resolve().name)
    return f"{stem}-{'controls' if edited else 'tiny'}"


def _need_tools() -> None:
    import subprocess

    missing = [(deb, rpm) for tool, deb, rpm in _TOOLS if shutil.which(tool) is None]
    header, deb, rpm = _HEADER
    if shutil.which("gcc"):
        looked = subprocess.run(
            ["gcc", "-E", "-x", "c", "-"], input=f"#include <{header}>\n".encode(), capture_output=True, check=False
        )
        if looked.returncode:
            missing.append((deb, rpm))
    if missing:
        debs, rpms = (" ".join(names) for names in zip(*missing, strict=True))
        raise BuildFailed(
            f"to build a kernel, this machine lacks: {debs}. Install it: apt install --no-install-recommends {debs} "
            f"(or: dnf install {rpms})"
        )


# --- the source -------------------------------------------------------------------------------------------------------


def _source(source: str, name: str, mirror: str, progress: Progress) -> _Source:
    if source in archive.SUITES:
        return _packaged(source, name, mirror, progress)
    path = Path(source).resolve()
    if path.is_dir():
        return _Source(path, {"source": str(path), **_commit(path)})
    if not path.is_file():
        raise BuildFailed(
            f"'{source}' is no kernel source: name a directory, a .tar.xz, or one of {', '.join(archive.SUITES)}"
        )
    digest = archive.sha256_of(path)
    tree = _unpacked(path, f"{path.name}_{digest[:12]}", name, progress)
    return _Source(tree, {"source": str(path), "sha256": digest})


def _packaged(series: str, name: str, mirror: str, progress: Progress) -> _Source:
    """Debian's source of that series, fetched and verified as its kernels are."""
    suite = Suite(
        archive.SUITES[series], images.home() / "apt", mirror or archive.mirror_of_this_machine(), archive.keyring()
    )
    progress(name, f"index of {suite.name}", 0)
    with images.locked(lambda: progress(name, "waiting for another install", 0)):
        suite.update()
        package = suite.package(f"linux-source-{series}")
        suite.tidy()
        if package is None:
            raise BuildFailed(f"{suite.name} has no source of {series} any more; name a directory or a .tar.xz")
        about = {"source": f"{package.name} {package.version}", "sha256": package.sha256, "suite": suite.name}
        key = f"{package.name}_{package.version.replace(':', '%3a')}_{package.sha256[:12]}"
        if (images.home() / "sources" / key).is_dir():
            return _Source(_only_tree(images.home() / "sources" / key), about)
        deb = suite.download(
            package, images.home() / "packages",
            lambda size: progress(name, f"downloading {size // 1_000_000} of {package.size // 1_000_000} MB", 0),
        )  # fmt: skip
    with _beside(key) as place:
        archive.unpack(deb, place)
        (tarball,) = place.glob("usr/src/linux-source-*.tar.xz")
        tree = _unpacked(tarball, key, name, progress)
    deb.unlink(missing_ok=True)
    return _Source(tree, about)


def _unpacked(tarball: Path, key: str, name: str, progress: Progress) -> Path:
    """The tree of a tarball, unpacked once."""
    target = images.home() / "sources" / key
    if not target.is_dir():
        began = time.monotonic()
        with _beside(key) as place:
            whole = place / "whole"
            whole.mkdir()
            command = ["tar", "-xf", str(tarball), "-C", str(whole)]
            _run(command, tarball.parent, None, lambda _: progress(name, _since("unpacking", began), 0))
            _only_tree(whole)
            whole.rename(target)
    return _only_tree(target)


def _only_tree(place: Path) -> Path:
    trees = [path for path in place.iterdir() if path.is_dir()]
    if len(trees) != 1:
        raise BuildFailed(f"what was unpacked is {len(trees)} directories, and the source of a kernel is one")
    return trees[0]


def _commit(tree: Path) -> dict[str, str]:
    """What git says about a tree that is a repository."""
    import subprocess

    if not (tree / ".git").exists():
        return {}
    command = ["git", "-C", str(tree), "describe", "--always", "--dirty", "--abbrev=12"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"commit": said.stdout.strip()} if said.returncode == 0 else {}


def version_of(tree: Path) -> str:
    """``5.10.223``, ``7.3.0-rc2``: as the tree's Makefile says."""
    try:
        text = (tree / "Makefile").read_text()
    except OSError as error:
        raise BuildFailed(f"{tree} is no kernel source: {error.strerror}: Makefile") from error
    field = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(\S*)$", text, re.M))
    if not {"VERSION", "PATCHLEVEL"} <= set(field):
        raise BuildFailed(f"{tree} is no kernel source: its Makefile has no VERSION")
    return f"{field['VERSION']}.{field['PATCHLEVEL']}.{field.get('SUBLEVEL') or 0}{field.get('EXTRAVERSION', '')}"


def shadow(source: Path, tree: Path, edited: dict[str, str]) -> None:
    """Make ``tree`` a copy of ``source`` by links, with its own files where they are edited; again, after changes.

    Links and not one link for a directory, since what includes a neighbour by "../" has to find the edited one.
    """
    wanted = dict.fromkeys(_files(source)) | dict.fromkeys(edited)
    for place, _, names in os.walk(tree):
        inside = os.path.relpath(place, tree)
        for file in names:
            if os.path.normpath(os.path.join(inside, file)) not in wanted:
                os.unlink(os.path.join(place, file))
    made: set[str] = set()
    for name in wanted:
        parent, _, _ = name.rpartition("/")
        if parent not in made:
            (tree / parent).mkdir(parents=True, exist_ok=True)
            made.add(parent)
        here, there = os.path.join(tree, name), os.path.join(source, name)
        if name in edited:
            _write_if_new(Path(here), edited[name])
            continue
        # A link of the source's own is relative, and leads to the same name here.
        points_to = os.readlink(there) if os.path.islink(there) else there
        try:
            os.symlink(points_to, here)
        except FileExistsError:
            if not os.path.islink(here) or os.readlink(here) != points_to:
                os.unlink(here)
                os.symlink(points_to, here)


def _files(source: Path) -> Iterator[str]:
    """Paths of the source's own files: what git knows or would add, or all, if nothing has been built there."""
    import subprocess

    if (source / ".git").exists():
        command = ["git", "-C", str(source), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        said = subprocess.run(command, capture_output=True, check=False)
        if said.returncode == 0:
            yield from (n for n in os.fsdecode(said.stdout).split("\0") if n and os.path.lexists(source / n))
            return
    if (source / ".config").exists() or (source / "include" / "config").exists():
        raise BuildFailed(f"a kernel has been built in {source}: run 'make mrproper' there, or name a clean tree")
    for place, directories, names in os.walk(source):
        links = [d for d in directories if os.path.islink(os.path.join(place, d))]
        inside = os.path.relpath(place, source)
        yield from (os.path.normpath(os.path.join(inside, name)) for name in (*names, *links))


def _write_if_new(path: Path, text: str) -> None:
    """make goes by the time of a file: one that says the same is left alone."""
    if path.is_symlink() or not path.exists() or path.read_text() != text:
        path.unlink(missing_ok=True)
        path.write_text(text)


# --- make -------------------------------------------------------------------------------------------------------------


def _make_all(place: Path, lock: int, name: str, jobs: int, progress: Progress) -> int:
    """Configure and compile. How many steps there were."""
    out, log = place / "out", place / "log"
    out.mkdir(exist_ok=True)
    began = time.monotonic()
    steps = 0

    def make(doing: str, *targets: str) -> None:
        def tick(line: bytes) -> None:
            nonlocal steps
            steps += bool(_STEP.match(line))
            progress(name, _since(doing, began), steps)

        _run(["make", "-C", str(place / "tree"), f"O={out}", f"-j{jobs}", *targets], place, log, tick, lock)

    asked, config = out / "cowcatcher.config", out / ".config"
    wanted = controls.CONFIG.read_text()
    if not config.exists() or not asked.exists() or asked.read_text() != wanted:
        asked.unlink(missing_ok=True)
        make("configuring", f"KCONFIG_ALLCONFIG={controls.CONFIG}", "allnoconfig")
        asked.write_text(wanted)
    steps = 0
    make("compiling", "vmlinux")
    return steps


def _about(place: Path, version: str, edits: controls.Edited | None) -> dict[str, Any]:
    """What the kernel was made from, for its record."""
    import hashlib

    config = (place / "out" / ".config").read_text()
    compiler = re.search(r'^CONFIG_CC_VERSION_TEXT="(.*)"$', config, re.M)
    asked = re.findall(r"^(CONFIG_\w+)=", controls.CONFIG.read_text(), re.M)
    about: dict[str, Any] = {
        "version": version,
        "compiler": compiler[1] if compiler else "unknown",
        "not_configured": [option for option in asked if f"\n{option}=" not in config],
    }
    if edits:
        whole = "".join(f"{path}\0{text}\0" for path, text in sorted(edits.files.items()))
        about |= {
            "edits": edits.set,
            "edits_sha256": hashlib.sha256(whole.encode()).hexdigest(),
            "rules": list(edits.rules),
            "left_out": edits.left_out,
        }
    return about


def _run(
    command: Sequence[str], where: Path, log: Path | None, tick: Callable[[bytes], None], lock: int | None = None
) -> None:
    """Run to the end; its output goes to ``log`` and, line by line, to ``tick``, which is also called without one.

    ``lock`` is held for as long as any of its processes lives, even if we are killed.
    """
    import selectors
    import subprocess

    process = subprocess.Popen(
        command, cwd=where, env=os.environ | {"LC_ALL": "C"}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True, bufsize=0, pass_fds=() if lock is None else (lock,),
    )  # fmt: skip
    assert process.stdout is not None
    said, rest = [], b""
    try:
        with open(log or os.devnull, "ab", buffering=0) as file, selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(_TICK):
                    tick(b"")
                    continue
                chunk = os.read(process.stdout.fileno(), 1 << 16)
                if not chunk:
                    break
                file.write(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    said.append(line.decode("utf-8", "replace"))
                    tick(line)
    finally:
        _end(process)
    if process.returncode:
        complaints = [line.strip() for line in said if _COMPLAINT.search(line)] or said[-3:]
        where_to_read = f" (all of it: {log})" if log else ""
        raise BuildFailed(f"{command[0]} failed: {' | '.join(complaints[:3])}{where_to_read}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait; if we are leaving early, stop it and what it started first: make deletes what is half done."""
    import signal
    import sys

    if sys.exc_info()[0] is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _since(doing: str, began: float) -> str:
    minutes, seconds = divmod(int(time.monotonic() - began), 60)
    return f"{doing}, {minutes}:{seconds:02}"


# --- places -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _only_builder(name: str) -> Iterator[tuple[Path, int]]:
    """The directory of a build, which belongs to one process at a time, and what it is locked by."""
    import fcntl

    place = images.home() / "builds" / name
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = (place / "lock").open("w")
    except OSError as error:
        raise BuildFailed(f"cannot write to {place}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BuildFailed(f"another process is building '{name}'") from None
        yield place, lock.fileno()


@contextlib.contextmanager
def _beside(key: str) -> Iterator[Path]:
    """A directory beside the sources that is gone afterwards, whatever came out."""
    import tempfile

    sources = images.home() / "sources"
    sources.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".new-{key}-", dir=sources, ignore_cleanup_errors=True) as place:
        yield Path(place)
