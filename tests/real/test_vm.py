"""Virtual machines: tests on a kernel that is installed, and everything that can go wrong, with machines made up.

A machine that is made up is a program in the emulator's place, which says what a machine would say.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cowcatcher.agree.judge import KPF_SWAPCACHE
from cowcatcher.litmus import parse
from cowcatcher.real import images, qemu, vm
from cowcatcher.real.host import Observation
from cowcatcher.real.images import KernelImage
from cowcatcher.real.qemu import EMULATOR, Settings, VmError

from .test_host import PLAIN, wait_for

NONE = parse(PLAIN.replace("test plain", "test none").replace("x = anon(1)", "x = anon(1, crowded)"))
SWAPS = parse(PLAIN.replace("test plain", "test swaps").replace("store(x, 2)", "madvise(x, PAGEOUT)"))
TEST = parse(PLAIN)

HELLO = "echo init release 5.10.0-test; echo init swap 0; echo init soft_dirty 1; echo init ready\n"
#: What the agent says of the plain test, without the last line.
STEPS = "echo test {n}; echo step 0 value 0; echo step 1 value 0; echo step 2 value 0\n"
DONE = "echo step 3 value 0; echo step 4 value 1; echo end 1 exit 0; echo done {n} done 4 77\n"


@pytest.fixture
def kernel(tmp_path: Path) -> KernelImage:
    """A kernel for an emulator that does not look at it."""
    vmlinux = tmp_path / "vmlinux"
    vmlinux.touch()
    return KernelImage("made-up", "5.10.0-test", "own", vmlinux, None, None, {"packages": []})


@pytest.fixture
def emulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put shell scripts in the emulator's place, each for one machine; the last one for all that follow."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def install(*scripts: str) -> None:
        cases = "".join(f"{i}) {script} ;;\n" for i, script in enumerate(scripts))
        program = tmp_path / "bin" / EMULATOR
        program.parent.mkdir(exist_ok=True)
        count = tmp_path / "count"
        program.write_text(
            f"#!/bin/sh\nn=$(cat {count} 2>/dev/null || echo 0); echo $((n + 1)) > {count}\n"
            f"test $n -lt {len(scripts)} || n={len(scripts) - 1}\ncase $n in\n{cases}esac\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return install


def run(kernel: KernelImage, agent: Path, *tests: object, **options: object) -> list[Observation]:
    return vm.run_vm(tests, kernel, agent=agent, settings=Settings(boot=2.0), **options)  # type: ignore[arg-type]


def test_answers_become_observations(kernel: KernelImage, agent: Path, emulate: Callable[..., None]) -> None:
    emulate(HELLO + STEPS.format(n=0) + DONE.format(n=0) + "echo init end 0")
    plain, none = run(kernel, agent, TEST, NONE)
    assert plain.status == "ok"
    assert plain.registers == {"r": 1}
    assert (plain.kernel, plain.microseconds) == ("5.10.0-test", 77)
    assert none.status == "not applicable"


def test_what_the_kernel_lacks_is_known_afterwards(
    kernel: KernelImage, agent: Path, emulate: Callable[..., None]
) -> None:
    emulate(HELLO + STEPS.format(n=0) + DONE.format(n=0) + "echo init end 0")
    (seen,) = run(kernel, agent, SWAPS)
    assert seen.status == "not applicable"
    assert "without swap" in seen.reason


def test_a_lost_machine_costs_one_test(kernel: KernelImage, agent: Path, emulate: Callable[..., None]) -> None:
    whole = STEPS.format(n=0) + DONE.format(n=0)
    emulate(HELLO + whole + STEPS.format(n=1) + "exit 1", HELLO + whole + "echo init end 0")
    seen = run(kernel, agent, TEST, repeat=3)
    assert [(o.status, o.run) for o in seen] == [("ok", 0), ("crash", 1), ("ok", 2)]
    assert seen[1].reason.startswith("the virtual machine was lost in p: wait(c): QEMU ended; console: silent")


def test_each_machine_has_a_log_of_its_own(
    kernel: KernelImage, agent: Path, emulate: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's is still there to be read when the next one runs; there are never more than a few."""
    monkeypatch.setattr(qemu, "LOGS", 3)
    find = 'for a in "$@"; do case $a in file,id=console,path=*) f=${a#*path=};; esac; done\n'
    emulate(HELLO + find + "echo panic $$ > $f; exit 1")
    seen = run(kernel, agent, TEST, repeat=2)
    logs = [Path(o.reason.rpartition("(all of it: ")[2].removesuffix(")")) for o in seen]
    assert logs[0] != logs[1]
    for one, log in zip(seen, logs, strict=True):
        assert f"console: {log.read_text().strip()} (" in one.reason
    run(kernel, agent, TEST, repeat=8)
    assert len(list(logs[0].parent.glob("*.log"))) <= 3


def test_machines_are_not_lost_without_end(kernel: KernelImage, agent: Path, emulate: Callable[..., None]) -> None:
    emulate(HELLO + "exit 1")
    seen = run(kernel, agent, TEST, repeat=8)
    assert [o.status for o in seen] == ["crash"] * 5 + ["could not tell"] * 3
    assert seen[-1].reason.startswith("5 virtual machines were lost")


def test_a_machine_that_ends_too_early_is_lost(kernel: KernelImage, agent: Path, emulate: Callable[..., None]) -> None:
    emulate(HELLO + "echo init end 0")
    seen = run(kernel, agent, TEST, repeat=8)
    assert [o.status for o in seen] == ["crash"] * 5 + ["could not tell"] * 3
    assert "the agent ended before its work was done (console: " in seen[0].reason


@pytest.mark.parametrize(
    ("script", "why"),
    [("echo no such machine >&2; exit 1", "QEMU: no such machine"), ("exec sleep 60", "not a word for 2 s")],
)
def test_a_machine_that_does_not_start(
    script: str, why: str, kernel: KernelImage, agent: Path, emulate: Callable[..., None]
) -> None:
    emulate(script)
    begin = time.monotonic()
    (seen,) = run(kernel, agent, TEST)
    assert seen.status == "could not tell"
    assert seen.reason.startswith("the virtual machine did not start: ")
    assert why in seen.reason
    assert time.monotonic() - begin < 20


def test_the_console_is_quoted(kernel: KernelImage, agent: Path, emulate: Callable[..., None]) -> None:
    """The script finds the file where QEMU would: in its arguments."""
    find = 'for a in "$@"; do case $a in file,id=console,path=*) f=${a#*path=};; esac; done\n'
    emulate(HELLO + find + "echo 'Kernel panic - not syncing: oh no' > $f; exit 1")
    (seen,) = run(kernel, agent, TEST)
    assert "console: Kernel panic - not syncing: oh no (all of it: " in seen.reason


def test_kvm_that_breaks_down_is_done_without(
    kernel: KernelImage, agent: Path, emulate: Callable[..., None], tmp_path: Path
) -> None:
    whole = STEPS.format(n=0) + DONE.format(n=0)
    emulate(HELLO + STEPS.format(n=0) + "echo KVM internal error >&2; exit 1", HELLO + whole + "echo init end 0")
    (seen,) = vm.run_vm([TEST], kernel, agent=agent, settings=Settings("kvm", boot=2.0))
    assert seen.status == "ok"
    remembered = json.loads((tmp_path / "cache" / "cowcatcher" / "acceleration.json").read_text())
    assert remembered["accelerator"] == "tcg"
    assert "KVM internal error" in remembered["why"]


def test_an_interrupt_ends_the_machine(kernel: KernelImage, agent: Path, emulate: Callable[..., None]) -> None:
    emulate(HELLO + "exec sleep 60")
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        vm.run_image([TEST], kernel, agent=agent, settings=Settings(), stop=stop)
    assert time.monotonic() - begin < 10


def test_a_machine_ends_with_its_caller(agent: Path) -> None:
    """SIGKILL leaves nobody to tidy up: the kernel does it."""
    program = "import subprocess, sys; subprocess.run([sys.argv[1], '--tied', '/bin/sleep', '4711'])"
    caller = subprocess.Popen([sys.executable, "-c", program, str(agent)])

    def sleepers() -> list[str]:
        found = subprocess.run(["pgrep", "-f", "^/bin/sleep 4711"], capture_output=True, text=True, check=False)
        return found.stdout.split()

    if shutil.which("pgrep") is None:
        caller.kill()
        caller.wait()
        pytest.skip("no pgrep on this machine")
    assert wait_for(sleepers)
    caller.kill()
    caller.wait()
    assert wait_for(lambda: not sleepers())


def test_without_qemu_it_is_said_what_to_install(
    kernel: KernelImage, agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(VmError, match="apt install --no-install-recommends qemu-system-x86"):
        run(kernel, agent, TEST)


def test_a_dynamic_agent_is_refused(kernel: KernelImage, emulate: Callable[..., None], tmp_path: Path) -> None:
    emulate("exit 0")
    with pytest.raises(VmError, match="statically"):
        run(kernel, Path(os.path.realpath(sys.executable)), TEST)


def test_other_architectures_are_told_so(
    kernel: KernelImage, agent: Path, emulate: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    emulate("exit 0")
    here = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*here[:4], "aarch64")))
    with pytest.raises(VmError, match="this machine is aarch64"):
        run(kernel, agent, TEST)


def test_counted_instructions_are_emulated_ones() -> None:
    if shutil.which(EMULATOR) is None:
        pytest.skip(f"{EMULATOR} is not installed")
    words = qemu.command(Path("k"), Path("i"), Path("a,b"), Path("s"), Settings("kvm", icount=3))
    assert words[words.index("-accel") + 1] == "tcg"
    assert words[words.index("-icount") + 1] == "shift=3,sleep=off"
    assert "file,id=console,path=a,,b" in words


def test_settings_reach_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "emulator", lambda: EMULATOR)
    settings = Settings(append=("iommu=on", "bug=1"), machine="q35", devices=("intel-iommu,intremap=on", "edu"))
    words = qemu.command(Path("k"), Path("i"), Path("c"), Path("s"), settings)
    assert words[words.index("-machine") + 1] == "q35"
    assert words[words.index("-append") + 1].endswith(" iommu=on bug=1 -- --init")
    devices = [words[i + 1] for i, word in enumerate(words) if word == "-device"]
    assert devices == ["intel-iommu,intremap=on", "edu", "ivshmem-plain,memdev=answers"]


def test_memory_nodes_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "emulator", lambda: EMULATOR)
    words = qemu.command(Path("k"), Path("i"), Path("c"), Path("s"), Settings(memory=385, cpus=2, nodes=2))
    assert [words[i + 1] for i, word in enumerate(words) if word in ("-numa", "-object")][:4] == [
        "memory-backend-ram,id=node0,size=193M", "node,nodeid=0,memdev=node0,cpus=0-1",
        "memory-backend-ram,id=node1,size=192M", "node,nodeid=1,memdev=node1",
    ]  # fmt: skip


def test_version_of_a_distributions_kernel(kernel: KernelImage, tmp_path: Path) -> None:
    record = {"packages": [{"version": "5.10.223-1"}]}
    assert vm.version_of(kernel) == "5.10.0-test"
    debian = KernelImage("5.10", "5.10.0-32-cloud-amd64", "cloud", tmp_path, None, None, record)
    assert vm.version_of(debian) == "5.10.223"


# --- a real one -------------------------------------------------------------------------------------------------------


def test_a_real_machine(installed: KernelImage, agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plain test, one that needs the swap device, one that needs soft-dirty bits; then the same bytes once more."""
    report = vm.run_image([TEST, SWAPS, NONE], installed, agent=agent, settings=Settings(), repeat=20)
    assert report.lost == 0, report.observations
    assert report.problems == ()
    assert [o.status for o in report.observations] == ["ok"] * 40 + ["not applicable"] * 20
    assert {o.registers["r"] for o in report.observations[:20]} == {1}
    assert {o.kernel for o in report.observations} == {installed.release}
    with capsys.disabled():
        print(f" {installed.name}: boot {report.boot:.1f} s, all {report.seconds:.1f} s", end="", file=sys.stderr)


def test_counted_instructions_repeat_a_run(installed: KernelImage, agent: Path) -> None:
    """Every value, every frame number, every microsecond; and another count of time per instruction is another run."""
    first, second, other = (
        vm.run_image([TEST], installed, agent=agent, settings=Settings(icount=shift), repeat=5, trace=True)
        for shift in (3, 3, 5)
    )
    assert first.lost == 0, first.observations
    assert all(page.pfn for o in first.observations for page in o.pages if page.state == "present")
    assert first.observations == second.observations
    assert [o.microseconds for o in first.observations] != [o.microseconds for o in other.observations]
    assert [o.registers for o in first.observations] == [o.registers for o in other.observations]


@pytest.mark.usefixtures("installed")
def test_what_was_swapped_out_is_written_before_the_next_step(agent: Path) -> None:
    """Until it is, the page stays in the swap cache. On 6.12 the next step came before that, once in four times."""
    test = parse("test t\nmemory { x = anon(1) }\nprocess p { madvise(x, PAGEOUT); store(x, 2) }\nalways mapped(p:x)")
    kernel = next((image for image in images.installed() if image.name in ("6.1", "6.12", "6.16", "6.18")), None)
    if kernel is None:
        pytest.skip("no kernel is installed that frees the slot of a page that is written to ('kernels install 6.12')")
    for seen in vm.run_vm([test], kernel, agent=agent, repeat=60):
        assert seen.status == "ok"
        assert not (seen.pages[0].flags or 0) & KPF_SWAPCACHE


def test_a_hang_in_a_real_machine_is_a_result(installed: KernelImage, agent: Path) -> None:
    from cowcatcher.real.lower import lower
    from cowcatcher.real.qemu import Machine

    text = lower(TEST).text(0, 0.5, False).replace(" store ", " hang ")
    machine = Machine(installed.vmlinux, agent, (), text, Settings(), qemu.log_of(installed.name))
    said = list(machine.lines(20, threading.Event()))
    assert said[-1][:3] == ["done", "0", "timeout"]
