"""The agent, built once with whatever C compiler this machine has, and kept in the user's cache."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cowcatcher.cc import BuildError as BuildError
from cowcatcher.cc import build, target
from cowcatcher.cc import cache_dir as cache_dir
from cowcatcher.cc import digest as digest_of
from cowcatcher.cc import find_compiler as find_compiler

SOURCE: Final = Path(__file__).parent / "agent"
FLAGS: Final = ("-O2", "-pthread", "-Wall", "-Wextra")


def sources() -> list[Path]:
    """The agent's C files."""
    return sorted(SOURCE.glob("*.c"))


def digest() -> str:
    """Of the agent's sources: two agents that share it do the same."""
    return digest_of(SOURCE)


def agent_path() -> Path:
    """The agent's executable, built now unless this source was built by this compiler before."""
    compiler = find_compiler()
    if compiler is None:
        raise BuildError(
            "no C compiler found (looked for $CC, cc, gcc, clang): what runs tests on a real kernel is a small C "
            "program; install one, such as `apt install gcc libc6-dev` or `dnf install gcc glibc-static`; or set CC"
        )
    ways = _linkages(compiler)
    made = target("agent", compiler, (*FLAGS, *ways[0]), digest())
    if not made.exists():
        build("the agent", [(compiler, *FLAGS, *map(str, sources()), *way) for way in ways], made)
    return made


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
