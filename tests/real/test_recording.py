"""Recordings: what is written is read, whatever ends the writing; and a run that was killed goes on."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowcatcher.litmus import parse
from cowcatcher.real import recording
from cowcatcher.real.host import Observation
from cowcatcher.real.images import KernelImage
from cowcatcher.real.recording import Header, OnKernel, Options, Recorder, Recording, RecordingError, read

from .test_host import PLAIN

ROOT = Path(__file__).parents[2]
TESTS = (parse(PLAIN), parse(PLAIN.replace("test plain", "test other"), "some/where.cow"))
KERNELS = (OnKernel("host", "6.1", {"uname": "6.1 #1"}, {"name": "v6.1"}), OnKernel("5.10", "5.10.223"))
HEADER = Header(TESTS, KERNELS, Options(repeat=2), {"made": "now"})

observations = st.builds(Observation, run=st.integers(0, 1))
#: Everything that is appended after the header.
lines = st.lists(
    st.one_of(
        st.tuples(st.just("seen"), st.sampled_from(["host", "5.10"]), st.sampled_from([0, 1]), observations),
        st.tuples(st.just("predicted"), st.just("v6.1"), st.sampled_from([0, 1]), st.just({"registers": {"r": 1}})),
        st.tuples(st.just("machine"), st.just("5.10"), st.just(0), st.just({"seconds": 1.5, "lost": 1})),
    ),
    max_size=6,
)


def write(recorder: Recorder, what: list[Any]) -> None:
    for kind, on, test, content in what:
        if kind == "seen":
            recorder.observed(on, test, replace(content, test=TESTS[test].name))
        elif kind == "predicted":
            recorder.predicted(on, test, content)
        else:
            recorder.machine(on, content)


def same(one: Recording, other: Recording) -> bool:
    return (one.header, one.seen, one.predictions, one.machines) == (
        other.header, other.seen, other.predictions, other.machines
    )  # fmt: skip


@given(lines)
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read(what: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "new", "run.jsonl")
        with Recorder.start(path, HEADER) as recorder:
            write(recorder, what)
        assert same(read(path), recorder.recording)
        assert read(path).header == HEADER
        assert [t.path for t in read(path).header.tests] == ["<input>", "some/where.cow"]


@given(lines, lines, st.integers(0, 1 << 30))
@settings(max_examples=100, deadline=None)
def test_a_torn_line_is_read_over(what: list[Any], more: list[Any], cut: int) -> None:
    """Cut anywhere behind the header: what stood on whole lines is there, and the recording goes on behind them."""
    with tempfile.TemporaryDirectory() as place:
        path, untorn = Path(place, "run.jsonl"), Path(place, "untorn.jsonl")
        with Recorder.start(path, HEADER) as recorder:
            write(recorder, what)
        data = path.read_bytes()
        header = data.index(b"\n") + 1
        data = data[: header + cut % (len(data) - header + 1)]
        path.write_bytes(data)
        untorn.write_bytes(data[: data.rindex(b"\n") + 1])
        assert same(read(path), read(untorn))
        for each in (path, untorn):
            with Recorder.resume(each) as recorder:
                write(recorder, more)
            assert same(read(each), recorder.recording)
        assert path.read_bytes() == untorn.read_bytes()


def test_every_cut_of_the_header_is_told(tmp_path: Path) -> None:
    Recorder.start(tmp_path / "whole", HEADER).close()
    data = (tmp_path / "whole").read_bytes()
    for cut in (0, 1, len(data) // 2, len(data) - 1):
        (tmp_path / "torn").write_bytes(data[:cut])
        with pytest.raises(RecordingError, match="nothing was recorded"):
            read(tmp_path / "torn")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# a mail\n\nhello\n", "line 1 is damaged, or this is no recording"),
        ('{"kind":"run","format":2}\n', "another format than 1"),
        ('{"kind":"run","format":1,"options":{"frobnicate":1}}\n', "options unknown here: frobnicate"),
        ('{"kind":"run","format":1,"options":{}}\n', "the first line is damaged"),
    ],
)
def test_what_is_no_recording(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(RecordingError, match=message):
        read(tmp_path / "file")


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    with Recorder.start(tmp_path / "run", HEADER) as recorder:
        for run in (0, 1):
            recorder.observed("host", 0, Observation("plain", "ok", run=run))
    first, second, third = (tmp_path / "run").read_text().splitlines(keepends=True)
    (tmp_path / "run").write_text(first + second.replace('"seen"', "seen") + third)
    with pytest.raises(RecordingError, match="line 2 is damaged"):
        read(tmp_path / "run")
    (tmp_path / "run").write_text(first + third + second.replace('"seen"', "seen"))  # the disk's last words
    assert list(read(tmp_path / "run").seen) == [("host", 0, 1)]


def test_what_is_left_to_do(tmp_path: Path) -> None:
    with Recorder.start(tmp_path / "run", HEADER) as recorder:
        recorder.observed("5.10", 0, Observation("plain", "ok"))
        recorder.observed("5.10", 0, Observation("plain", "could not tell", "no machine", run=1))
        recorder.observed("5.10", 1, Observation("other", "crash", "oops"))
    found = read(tmp_path / "run")
    assert found.to_do("host") == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert (found.missing("host"), found.missing("5.10")) == (4, 1)
    assert found.to_do("5.10") == [(0, 1), (1, 1)]  # what had no machine, and what is missing
    with Recorder.resume(tmp_path / "run") as recorder:
        recorder.observed("5.10", 0, Observation("plain", "ok", run=1))
    assert [seen.status for seen in read(tmp_path / "run").runs("5.10", 0)] == ["ok", "ok"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with Recorder.start(tmp_path / "run", HEADER) as recorder:
        recorder.observed("host", 0, Observation("plain", "ok"))
        with pytest.raises(RecordingError, match="is being written by another"):
            Recorder.resume(tmp_path / "run")
        assert len(read(tmp_path / "run").seen) == 1  # but anybody may read
    with pytest.raises(RecordingError, match="exists"):
        Recorder.start(tmp_path / "run", HEADER)


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    header = replace(HEADER, options=Options(repeat=100))
    with Recorder.start(tmp_path / "run", header) as recorder:

        def work(kernel: str, test: int) -> None:
            for run in range(100):
                recorder.observed(kernel, test, Observation(TESTS[test].name, "ok", run=run, registers={"r": run}))

        threads = [threading.Thread(target=work, args=(k.name, t)) for k in KERNELS for t in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(read(tmp_path / "run").seen) == 400


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_ends_the_recording_and_not_the_lines_before(tmp_path: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        recorder = Recorder(Recording(tmp_path / "run", HEADER), full)
        for _ in range(2):
            with pytest.raises(RecordingError, match=f"{os.strerror(errno.ENOSPC)}|is closed"):
                recorder.observed("host", 0, Observation("plain", "ok"))
        assert not recorder.recording.seen


def test_runs_that_went_alike_share_one_log(tmp_path: Path) -> None:
    from cowcatcher.real.host import Done

    log = (Done("p", 0, "fork(c)", "ok", "value"),)
    with Recorder.start(tmp_path / "run", HEADER) as recorder:
        for run in (0, 1):
            recorder.observed("host", 0, Observation("plain", "ok", run=run, log=log))
    first, second = read(tmp_path / "run").runs("host", 0)
    assert first.log == second.log == log
    assert json.loads((tmp_path / "run").read_text().splitlines()[-1])["log"] == 0


def test_the_directory_is_kept_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(recording, "KEPT", 3)
    made = []
    for _ in range(5):
        made.append(recording.new_path())
        Recorder.start(made[-1], HEADER).close()
    assert len(set(made)) == 5
    assert recording.kept() == made[-3:]
    monkeypatch.setattr(recording, "KEPT_BYTES", made[-1].stat().st_size * 2 - 1)
    recording.new_path()
    assert recording.kept() == made[-1:]


# --- a run that is killed ---------------------------------------------------------------------------------------------


def environment(place: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(place), "NO_COLOR": "1"}


def cowcatcher(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cowcatcher", *words], env=environment(place), cwd=place, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def cut_short(
    place: Path, file: Path, after: int, how: signal.Signals, *words: str
) -> subprocess.CompletedProcess[str]:
    """Start a run, and send it a signal once so many lines are recorded."""
    child = subprocess.Popen(
        [sys.executable, "-m", "cowcatcher", *words, "--record", str(file)], env=environment(place), cwd=place,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not file.exists() or file.read_bytes().count(b"\n") < after:
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < until
        time.sleep(0.002)
    child.send_signal(how)
    out, err = child.communicate(timeout=60)
    return subprocess.CompletedProcess(words, child.returncode, out, err)


def timeless(document: str) -> Any:
    """What a report says, without when, how fast, and in which frames."""
    doc = json.loads(document)
    del doc["record"], doc["made"]["made"]
    for column in doc["on"]:
        del column["seconds"], column["boot"]
    for result in (result for test in doc["tests"] for result in test["results"]):
        for name in ("microseconds", "pages", "pinned"):
            del result[name]
        for step in result["log"]:
            del step["pages"]
    return doc


@pytest.mark.usefixtures("need_rings")
def test_a_killed_run_goes_on_to_the_same_report(agent: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, twice; what was recorded is not run again, and the end is as if nothing had been."""
    file, words = tmp_path / "run.jsonl", ("run", "seed", "--repeat", "40", "--trace")
    killed = cut_short(tmp_path, file, 150, signal.SIGKILL, *words)
    assert killed.returncode == -signal.SIGKILL
    before = file.read_bytes()

    unfinished = cowcatcher(tmp_path, "report", str(file))
    assert unfinished.returncode == 3
    assert f"To go on: cowcatcher run --resume {file}" in unfinished.stdout
    assert " not run" in unfinished.stdout

    resumed = cowcatcher(tmp_path, "run", "--resume", str(file), "--json")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert file.read_bytes().startswith(before[: before.rindex(b"\n") + 1])
    whole = cowcatcher(tmp_path, *words, "--json")
    assert timeless(resumed.stdout) == timeless(whole.stdout)
    assert cowcatcher(tmp_path, "report", str(file), "--json").stdout == resumed.stdout
    assert cowcatcher(tmp_path, "report", "--json").stdout == whole.stdout  # the last one
    again = cowcatcher(tmp_path, "run", "--resume", str(file), "--json")
    assert again.stdout == resumed.stdout


@pytest.mark.usefixtures("need_rings")
def test_a_run_killed_in_a_virtual_machine_goes_on(agent: Path, installed: KernelImage, tmp_path: Path) -> None:
    """The machine of before is gone with its program; another one does what is missing, and nothing else."""
    file, words = tmp_path / "run.jsonl", ("run", "rdma_fork_wait", "--on", installed.name, "--repeat", "200")
    assert cut_short(tmp_path, file, 50, signal.SIGKILL, *words).returncode == -signal.SIGKILL
    done = read(file).seen
    assert 40 < len(done) < 200
    resumed = cowcatcher(tmp_path, "run", "--resume", str(file), "--json")
    assert resumed.returncode == 0, resumed.stderr
    doc = json.loads(resumed.stdout)
    (result,) = doc["tests"][0]["results"]
    assert (result["runs"], result["verdict"], doc["missing"]) == (200, "holds", {})
    assert done.items() <= read(file).seen.items()
    assert file.read_text().count('"kind":"seen"') == 200


@pytest.mark.usefixtures("need_rings")
def test_an_interrupted_run_says_how_to_go_on(agent: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    stopped = cut_short(tmp_path, file, 100, signal.SIGINT, "run", "seed", "--repeat", "100")
    assert stopped.returncode == 130
    assert "Not finished: " in stopped.stdout
    assert f"To go on: cowcatcher run --resume {file}" in stopped.stdout
    assert cowcatcher(tmp_path, "report", str(file)).stdout == stopped.stdout
    assert cowcatcher(tmp_path, "run", "--resume", str(file)).returncode == 0


def test_what_has_changed_is_refused(agent: Path, tmp_path: Path) -> None:
    """A test, the kernel, the model that stands for it, the agent: each would mix two things under one name."""
    test = tmp_path / "plain.cow"
    test.write_text(PLAIN)
    file = tmp_path / "run.jsonl"
    assert cowcatcher(tmp_path, "run", "plain.cow", "--record", str(file)).returncode == 0

    def refusal(edited: str) -> str:
        file.with_name("edited").write_text(edited)
        said = cowcatcher(tmp_path, "run", "--resume", "edited")
        assert (said.returncode, said.stdout) == (2, "")
        return said.stderr

    header, *rest = file.read_text().splitlines(keepends=True)
    known = json.loads(header)

    def with_header(**changed: object) -> str:
        return json.dumps(known | changed) + "\n" + "".join(rest)

    kernel = known["kernels"][0]
    assert "agent: 0 then" in refusal(with_header(agent="0"))
    assert "kernel host: the image has changed" in refusal(with_header(kernels=[kernel | {"image": {"uname": "2.0"}}]))
    other = kernel | {"model": kernel["model"] | {"name": "v5.7"}}
    assert "the modelled kernel that stands for it has changed" in refusal(with_header(kernels=[other]))
    test.write_text(PLAIN.replace("r == 1", "r == 2"))
    assert "plain.cow is another test now" in refusal(with_header())
    test.write_text("# a comment changes nothing\n" + PLAIN)
    assert cowcatcher(tmp_path, "run", "--resume", str(file)).returncode == 0
    test.unlink()  # the recording has it
    assert cowcatcher(tmp_path, "run", "--resume", str(file)).returncode == 0


@pytest.mark.parametrize("words", ["seed", "--on host", "--repeat 2", "--trace", "--kernel v6.1", "--timeout 1"])
def test_a_resumed_run_takes_everything_from_the_file(words: str, tmp_path: Path) -> None:
    said = cowcatcher(tmp_path, "run", "--resume", "x.jsonl", *words.split())
    assert said.returncode == 2
    assert "--resume FILE takes tests, kernels and options from the file" in said.stderr
