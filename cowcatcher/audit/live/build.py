"""The shim that is preloaded into audited programs, built once and kept in the user's cache."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cowcatcher.cc import BuildError, build, digest, find_compiler, target

SOURCE: Final = Path(__file__).parent / "shim"
#: Few segments and no symbols that nobody asks for: it is loaded by every process of a build.
FLAGS: Final = (
    "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra",
    "-Wl,-z,noseparate-code,-z,norelro,-O1,-s",
)  # fmt: skip
#: The unwinder comes along where it can: nothing but the C library is loaded into the program then, and where it knows
#: no way on it comes back to us. Elsewhere it takes one step.
LIBRARIES: Final = (("-static-libgcc", "-Wl,--wrap=_Unwind_Find_FDE", "-ldl"), ("-DONE_FRAME", "-ldl"))


def shim_path() -> Path:
    """The shim, built now unless this source was built by this compiler before."""
    return _built("shim", SOURCE)


def streams_path() -> Path:
    """What has strace let go of the program's standard streams."""
    return _built("streams", SOURCE / "tracer")


def _built(name: str, source: Path) -> Path:
    compiler = find_compiler()
    if compiler is None:
        raise BuildError(
            "no C compiler found (looked for $CC, cc, gcc, clang): what sees ibv_reg_mr(), O_DIRECT transfers in "
            "flight and free() is a small C library; install one, such as `apt install gcc libc6-dev`; or set CC"
        )
    made = target(f"{name}.so", compiler, (*FLAGS, *LIBRARIES[0]), digest(source))
    if not made.exists():
        sources = [str(path) for path in sorted(source.glob("*.c"))]
        build(f"the {name}", [(compiler, *FLAGS, *sources, *way) for way in LIBRARIES], made)
    return made
