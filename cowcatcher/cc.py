"""C of ours, built once with whatever compiler this machine has, and kept in the user's cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

COMPILERS: Final = ("cc", "gcc", "clang")


class BuildError(Exception):
    """There is no program; the text says why and what to do next."""


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/cowcatcher``, by default below ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "cowcatcher"


def find_compiler() -> str | None:
    """Full path of a C compiler: ``$CC``, else the first of :data:`COMPILERS` on the path."""
    import shutil

    named = os.environ.get("CC", "")
    for name in (named, *COMPILERS) if named else COMPILERS:
        if path := shutil.which(name):
            return path
    return None


def digest(place: Path) -> str:
    """Of the C files in ``place``: two programs that share it do the same."""
    import hashlib

    found = hashlib.sha256()
    for path in sorted(place.glob("*.[ch]")):
        found.update(path.read_bytes())
    return found.hexdigest()[:20]


def target(name: str, compiler: str, flags: Sequence[str], sources: str) -> Path:
    """Where what ``compiler`` makes of ``sources`` (their digest) with ``flags`` is kept."""
    import hashlib
    import subprocess

    version = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    made_from = b"\0".join([version, " ".join(flags).encode(), sources.encode()])
    stem, suffix = Path(name).stem, Path(name).suffix
    return cache_dir() / f"{stem}-{hashlib.sha256(made_from).hexdigest()[:20]}{suffix}"


def build(what: str, commands: Sequence[Sequence[str]], made: Path) -> None:
    """``made``, by the first of ``commands`` (the output's name is added) that succeeds. ``what`` is for the error."""
    import subprocess
    import tempfile

    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=made.parent, prefix="build-")
    except OSError as e:
        raise BuildError(
            f"cannot write to {made.parent}: {e.strerror}; set XDG_CACHE_HOME to a directory that can be written"
        ) from e
    said = ""
    with scratch as place:
        new = Path(place) / made.name
        for command in commands:
            done = subprocess.run(
                [*command, "-o", str(new)], capture_output=True, text=True, errors="replace", check=False
            )
            if done.returncode == 0:
                new.replace(made)  # atomic: another cowcatcher may be building it too
                return
            said = f"{' '.join(command)}\n{done.stderr.strip()}"
    raise BuildError(
        f"{what} could not be built; the C library's headers may be missing (`apt install libc6-dev`). {said}"
    )
