"""Programs of this machine on another kernel: what comes back, and machines that are lost, with an emulator made up."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cowcatcher.real import images
from cowcatcher.real.images import KernelImage
from cowcatcher.real.qemu import EMULATOR, Lost, Settings, VmError
from cowcatcher.real.userland import run_userland

from .conftest import CACHE


@pytest.fixture
def kernel(tmp_path: Path) -> KernelImage:
    """A kernel for an emulator that does not look at it, with all that a root by 9p takes."""
    (tmp_path / "vmlinux").touch()
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "modules.builtin").write_text(
        "".join(f"{n}.ko\n" for n in ("virtio_pci", "9pnet_virtio", "9p", "overlay"))
    )
    return KernelImage("made-up", "6.1.0-test", "own", tmp_path / "vmlinux", modules, None, {"packages": []})


@pytest.fixture
def emulate(agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a shell script in the emulator's place; the directory that comes back."""
    out = tmp_path / "out"
    out.mkdir()

    def install(script: str) -> Path:
        program = tmp_path / "bin" / EMULATOR
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\nout={out}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return out

    return install


def test_what_a_script_says_comes_back(kernel: KernelImage, emulate: Callable[[str], Path]) -> None:
    out = emulate("cat $out/script >$out/stdout; echo oh >$out/stderr; echo 768 >$out/status")
    came = run_userland("echo hello", kernel, out)
    assert (came.status, came.stdout, came.stderr) == (3, "echo hello", "oh\n")


def test_a_signal_is_a_status_as_a_shell_has_it(kernel: KernelImage, emulate: Callable[[str], Path]) -> None:
    out = emulate("touch $out/stdout $out/stderr; echo 11 >$out/status")
    assert run_userland("", kernel, out).status == 128 + 11


def test_the_command_line_shares_the_root_for_reading(kernel: KernelImage, emulate: Callable[[str], Path]) -> None:
    out = emulate('echo "$@" >$out/stdout; touch $out/stderr; echo 0 >$out/status')
    said = run_userland("", kernel, out, settings=Settings(memory=512, append=("quiet",))).stdout
    assert "local,id=host,path=/,security_model=none,multidevs=remap,readonly=on" in said
    assert f"local,id=out,path={out},security_model=none,multidevs=remap " in said
    assert "-m 512" in said
    assert "quiet -- --userland" in said


@pytest.mark.parametrize(
    ("script", "why"),
    [("echo no such machine >&2; exit 1", "no such machine"), ("exec sleep 60", "after 1 s")],
)
def test_a_lost_machine_says_why(script: str, why: str, kernel: KernelImage, emulate: Callable[[str], Path]) -> None:
    out = emulate(script)
    with pytest.raises(Lost, match=why):
        run_userland("", kernel, out, timeout=1)


def test_a_kernel_without_9p_is_named(kernel: KernelImage, emulate: Callable[[str], Path]) -> None:
    out = emulate("exit 1")
    assert kernel.modules is not None
    (kernel.modules / "modules.builtin").write_text("virtio_pci.ko\n")
    images._modules_of.cache_clear()
    with pytest.raises(VmError, match="9p"):
        run_userland("", kernel, out)


def test_a_program_runs_on_another_kernel(agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are this machine's, what is written to them is not; OUT comes back."""
    if shutil.which(EMULATOR) is None:
        pytest.skip(f"{EMULATOR} is not installed")
    with monkeypatch.context() as patch:
        if CACHE is None:
            patch.delenv("XDG_CACHE_HOME", raising=False)
        else:
            patch.setenv("XDG_CACHE_HOME", CACHE)
        full = [image for image in images.installed() if image.flavour == "full"]
    if not full:
        pytest.skip("no kernel of the full flavour is installed ('cowcatcher kernels install 6.1-full')")
    script = "uname -r; touch /etc/written; test -e /etc/written; echo came >$OUT/file; cat /etc/hostname >&2; exit 5"
    came = run_userland(script, full[0], tmp_path)
    assert (came.status, came.stdout) == (5, f"{full[0].release}\n")
    assert (tmp_path / "file").read_text() == "came\n"
    assert not Path("/etc/written").exists()
    assert came.stderr == Path("/etc/hostname").read_text()
