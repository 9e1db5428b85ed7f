"""The preloaded library: its words are exact, and the program does not notice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cowcatcher.audit.live.build import FLAGS, LIBRARIES, SOURCE, shim_path
from cowcatcher.cc import find_compiler
from tests.audit.live.conftest import Run

Watch = Callable[..., Run]
Built = Callable[..., Path]


def printed(capfd: pytest.CaptureFixture[str]) -> list[int]:
    """The addresses that a program has printed."""
    return [int(word, 16) for word in re.findall(r"0x[0-9a-f]+", capfd.readouterr().out)]


def applicable(run: Run) -> Run:
    if run.status == 77:
        pytest.skip("this kernel, or this file system, has not what the program needs")
    assert run.status == 0
    return run


@pytest.mark.parametrize("place", [SOURCE, SOURCE / "tracer"], ids=["the program's", "strace's"])
def test_no_warnings(tmp_path: Path, place: Path) -> None:
    compiler = find_compiler()
    assert compiler
    sources = map(str, sorted(place.glob("*.c")))
    command = [compiler, *FLAGS, "-Wshadow", "-Werror", *sources, *LIBRARIES[0], "-o", str(tmp_path / "shim.so")]
    subprocess.run(command, check=True)


def test_built_once() -> None:
    made = shim_path().stat().st_mtime_ns
    assert shim_path().stat().st_mtime_ns == made


def test_it_needs_nothing_but_the_c_library() -> None:
    if not shutil.which("readelf"):
        pytest.skip("no readelf")
    said = subprocess.run(["readelf", "-d", str(shim_path())], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"NEEDED.*\[(.*?)\.so", said)) <= {"libc", "libdl", "ld-linux-x86-64"}


def test_a_dull_program_says_one_word(watch: Watch) -> None:
    run = watch("true")
    assert [word.name for word in run.words()] == ["hello"]


def test_a_program_with_an_environment_of_its_own_is_seen(watch: Watch, built: Built) -> None:
    run = watch(built("clean_start"))
    assert run.status == 0
    assert len(run.words("hello")) == 8


def test_io_uring(watch: Watch, built: Built, capfd: pytest.CaptureFixture[str]) -> None:
    run = applicable(watch(built("ring", "-luring")))
    block, mapping = printed(capfd)
    vmas = [(word.number("start"), word.number("end")) for word in run.words("vma")]
    assert all(any(start <= at < end for start, end in vmas) for at in (block, mapping))
    freed, unmapped = run.only("freed"), run.only("unmapped")
    assert (freed.number("addr"), freed.number("len")) == (block, 10000)
    assert (unmapped.number("addr"), unmapped.number("len")) == (mapping, 8192)
    assert [word["call"] for word in run.words("site")] == ["io_uring_register", "fork"]
    for word in run.words("site", "freed", "unmapped"):
        assert word["stack"].startswith("ring!main+0x")
    names = [word.name for word in run.words()]
    assert names.index("freed") < names.index("closed")
    registered = next(line for line in run.lines if "IORING_REGISTER_BUFFERS, " in line)
    assert f"{{iov_base={block:#x}, iov_len=10000}}, {{iov_base={mapping:#x}, iov_len=8192}}" in registered
    before = run.lines.index(registered) - 1
    assert "site call=io_uring_register" in run.lines[before]


def test_direct_reads_in_flight_when_a_thread_forks(
    watch: Watch, built: Built, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = applicable(watch(built("fork_while_reading", "-pthread"), tmp_path / "data"))
    (buffer,) = printed(capfd)
    assert Path(run.only("direct")["path"]) == tmp_path / "data"
    inflight = run.words("inflight")
    assert len(inflight) > 5  # of 20 forks beside a thread that does nothing but read
    for word in inflight:
        assert (word["op"], word["seen"], word["fd"]) == ("dio_read", "sync", run.only("direct")["fd"])
        assert (word.number("addr"), word.number("len")) == (buffer, 4 << 20)
        assert any(line.startswith(word["tid"]) for line in run.lines)
    assert run.words("still")
    assert len(run.words("settled")) == len(inflight)


def test_asynchronous_reads_in_flight(
    watch: Watch, built: Built, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = applicable(watch(built("aio", "-laio"), tmp_path / "data"))
    (buffer,) = printed(capfd)
    inflight = run.only("inflight")  # at the first fork, and not at the second
    assert (inflight["seen"], inflight.number("addr"), inflight.number("len")) == ("aio", buffer, 8 << 20)


@pytest.mark.parametrize("spoil", [False, True])
def test_bytes_that_change_in_flight(watch: Watch, built: Built, spoil: bool) -> None:
    run = applicable(watch(built("bytes"), *(["spoil"] if spoil else [])))
    assert [word["how"] for word in run.words("overwritten")] == (["vmsplice", "msg_zerocopy"] if spoil else [])
    site = run.only("site")
    assert (site["call"], site["len"]) == ("vmsplice", "8192")
    assert site["addr"] in {word["addr"] for word in run.words("overwritten")} or not spoil


@pytest.mark.parametrize("how", ["linked", "loaded later", "looked up"])
def test_verbs(
    watch: Watch, built: Built, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    library = built(
        "fake_verbs", "-shared", "-fPIC", "-Wl,-soname,libibverbs.so.1", output="lib/libibverbs.so.1.14.44.0"
    )
    link = library.with_name("libibverbs.so.1")
    if not link.exists():
        link.symlink_to(library.name)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    if how == "linked":
        program = [built("verbs", str(link), output="verbs-linked")]
    elif how == "looked up":
        program = [built("verbs", "-DLOOKED_UP", "-ldl", output="verbs-looked-up")]
    else:
        plugin = built("verbs", "-shared", "-fPIC", "-Dmain=plugin", str(link), output="lib/plugin.so")
        program = [built("plugin", output="plugin-user"), plugin]
    monkeypatch.setenv("RDMAV_FORK_SAFE", "1")
    run = watch(*program)
    assert run.status == 0
    (buffer,) = printed(capfd)
    assert run.only("library")["version"] == "44.0"
    assert run.words("env")[0]["RDMAV_FORK_SAFE"] == "1"
    assert run.only("fork_init")["rc"] == "0"
    registered = run.only("reg_mr")  # once, though one function calls another, and not for the one that failed
    assert (registered.number("addr"), registered.number("len"), registered["access"]) == (buffer, 3000, "0x7")
    assert run.only("dereg_mr")["h"] == registered["h"]
    assert not run.words("freed")
    advised = [word["stack"] for word in run.words("site") if word["call"] == "madvise"]
    assert len(advised) == 2
    assert all(stack.startswith("libibverbs.so.1") for stack in advised)


def test_errno_is_left_alone(watch: Watch, built: Built, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = built("errno_stays")
    bare = subprocess.run([program, tmp_path / "data"], capture_output=True, text=True, check=False)
    if bare.returncode:
        pytest.skip(f"not even without us: {bare.stdout}")
    run = watch(program, tmp_path / "data")
    assert capfd.readouterr().out == ""
    assert run.status == 0


def test_without_a_tracer_it_only_costs_time(built: Built, tmp_path: Path) -> None:
    environment = {**os.environ, "LD_PRELOAD": str(shim_path())}
    for command in (["true"], ["sh", "-c", "true | cat"], [str(built("errno_stays")), str(tmp_path / "data")]):
        subprocess.run(command, env=environment, check=True)


def test_other_allocators(watch: Watch, built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        path for name in ("jemalloc.so.2", "tcmalloc_minimal.so.4") for path in Path("/usr/lib").rglob(f"lib{name}")
    ]
    if not found:
        pytest.skip("neither jemalloc nor tcmalloc is installed")
    for path in found:
        monkeypatch.setenv("LD_PRELOAD", str(path))
        run = applicable(watch(built("ring", "-luring")))
        assert run.only("freed")["len"] == "10000"


def test_a_program_that_filters_its_calls_is_not_killed(watch: Watch, built: Built) -> None:
    run = watch(built("filtered"))
    assert run.status == 0
    assert "filters its own system calls" in run.only("lost")["why"]
