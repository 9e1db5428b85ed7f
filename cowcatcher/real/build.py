"""The agent, built once with whatever C compiler this machine has, and kept in the user's cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parent / "agent"
COMPILERS: Final = ("cc", "gcc", "clang")
FLAGS: Final = ("-O2", "-pthread", "-Wall", "-Wextra")


class BuildError(Exception):
    """There is no agent; the text says why and what to do next."""


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


def sources() -> list[Path]:
    """The agent's C files."""
    return sorted(SOURCE.glob("*.c"))


def digest() -> str:
    """Of the agent's sources: two agents that share it do the same."""
    import hashlib

    found = hashlib.sha256()
    for path in sorted(SOURCE.glob("*.[ch]")):
        found.update(path.read_bytes())
    return found.hexdigest()[:20]


def agent_path() -> Path:
    """The agent's executable, built now unless this source was built by this compiler before."""
    import hashlib
    import subprocess

    compiler = find_compiler()
    if compiler is None:
        raise BuildError(
            "no C compiler found (looked for $CC, cc, gcc, clang): what runs tests on a real kernel is a small C "
            "program; install one, such as `apt install gcc libc6-dev` or `dnf install gcc glibc-static`; or set CC"
        )
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    ways = _linkages(compiler)
    made_from = b"\0".join([version, " ".join((*FLAGS, *ways[0])).encode(), digest().encode()])
    target = cache_dir() / f"agent-{hashlib.sha256(made_from).hexdigest()[:20]}"
    if not target.exists():
        _build(compiler, ways, target)
    return target


def _linkages(compiler: str) -> list[tuple[str, ...]]:
    """Ways to link, the best first. A static agent also runs as the init of a virtual machine; RDMA is taken along
    where rdma-core's static libraries are installed; dynamic where there is no static libc."""
    import subprocess

    asked = subprocess.run([compiler, "-print-file-name=libibverbs.a"], capture_output=True, text=True, check=False)
    verbs = Path(asked.stdout.strip())
    ways: list[tuple[str, ...]] = [("-static",), ()]
    providers = sorted(verbs.parent.glob("librxe-rdmav*.a")) if verbs.is_absolute() else []
    if providers:
        libraries = (str(verbs), str(providers[-1]), str(verbs), "-lnl-route-3", "-lnl-3")
        ways.insert(0, ("-static", "-DWITH_RDMA", "-DRDMA_STATIC_PROVIDERS=rxe", *libraries))
    return ways


def _build(compiler: str, ways: list[tuple[str, ...]], target: Path) -> None:
    import subprocess
    import tempfile

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=target.parent, prefix="build-")
    except OSError as e:
        raise BuildError(
            f"cannot write to {target.parent}: {e.strerror}; set XDG_CACHE_HOME to a directory that can be written"
        ) from e
    said = ""
    with scratch as place:
        made = Path(place) / "agent"
        for way in ways:
            command = [compiler, *FLAGS, *map(str, sources()), *way, "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode == 0:
                made.replace(target)  # atomic: another cowcatcher may be building it too
                return
            said = f"{' '.join(command)}\n{done.stderr.strip()}"
    raise BuildError(
        f"the agent could not be built; the C library's headers may be missing (`apt install libc6-dev`). {said}"
    )
