"""Tests run on real kernels, into a recording: what --on names, what is left to do, how far it has got."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cowcatcher.cli import inputs, screen
from cowcatcher.cli.parser import UNSURE, Problem
from cowcatcher.kernels import Kernel, UnknownKernel, is_known, kernel, kernel_of_release, modelled
from cowcatcher.litmus import catalogue
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.errors import LitmusError
from cowcatcher.litmus.parser import parse_file
from cowcatcher.real import images, recording
from cowcatcher.real.host import Observation, run_host
from cowcatcher.real.images import ImageError, KernelImage
from cowcatcher.real.lower import Race
from cowcatcher.real.qemu import Settings
from cowcatcher.real.recording import HOST, Header, OnKernel, Options, Recorder, Recording, RecordingError
from cowcatcher.real.vm import Job, Report, run_vms, usual_settings, version_of
from cowcatcher.report.prediction import Predicted, checker_for, prediction_for
from cowcatcher.report.record import kernel_record

_EVERY = 10.0  # seconds between two lines of progress where nobody watches


@dataclass(frozen=True, slots=True)
class Target:
    """A kernel that is asked, as it is now; ``image`` is None for the one of this machine."""

    name: str
    release: str
    model: Kernel
    image: KernelImage | None = None

    def recorded(self) -> OnKernel:
        if self.image is None:
            identity: dict[str, Any] = {"uname": " ".join(os.uname()[2:4])}
        else:
            record = self.image.record
            identity = {key: record[key] for key in ("vmlinux_sha256", "config_sha256") if record.get(key)}
            identity["packages"] = [f"{p.get('package')} {p['version']}" for p in record.get("packages", ())]
        model = kernel_record(self.model) | {"summary": self.model.summary}
        return OnKernel(self.name, self.release, identity, model)


def targets(words: str, options: Options) -> list[Target]:
    """What --on names, each once, in that order; ``all``: this machine's, and every one that is installed."""
    names: list[str] = []
    for word in words.split(","):
        name = word.strip()
        if name == "all":
            there = images.installed()
            if not there:
                raise Problem("no kernel is installed; 'cowcatcher kernels install all' fetches eight", UNSURE)
            names += [HOST, *(image.name for image in there)]
        else:
            names.append(name)
    found = [target(name, options) for name in dict.fromkeys(names)]
    if options.model and [t.name for t in found] != [HOST]:
        raise Problem(
            "--kernel names the model of one kernel; with --on, each is compared with that of its own release"
        )
    return found


def target(name: str, options: Options) -> Target:
    """One kernel, by its name in --on."""
    if name == HOST:
        uname = os.uname()
        model = inputs.one_kernel(options.model, ()) if options.model else kernel_of_release(uname[2], uname[3])
        return Target(HOST, uname.release, model)
    try:
        image = images.image(name)
        version = version_of(image)
        return Target(name, version, modelled(version, image.broken), image)
    except (ImageError, UnknownKernel) as error:
        raise Problem(f"--on: {error}") from error


def start(tests: Sequence[Test], on: Sequence[Target], options: Options, file: str | None) -> Recorder:
    """A new recording, in ``file`` or where they are kept."""
    header = Header(tuple(tests), tuple(t.recorded() for t in on), options, _made())
    try:
        return Recorder.start(Path(file) if file else recording.new_path(), header)
    except (RecordingError, OSError) as error:
        if file:
            raise Problem(f"--record: {error}") from error
        screen.warn(f"this run is not recorded, and cannot be resumed: {error}; --record FILE says where to")
        return Recorder.unkept(header)


def _made() -> dict[str, Any]:
    from cowcatcher import __version__
    from cowcatcher.real.build import digest

    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "made": when, "cowcatcher": __version__, "agent": digest(), "directory": os.getcwd(), "root": os.geteuid() == 0
    }  # fmt: skip


def resume(file: str) -> tuple[Recorder, list[Target]]:
    """A recording that goes on, and its kernels; refused if it would mix two different things under one name."""
    try:
        recorder = Recorder.resume(Path(file))
    except RecordingError as error:
        raise Problem(f"--resume: {error}") from error
    header = recorder.recording.header
    now = _made()
    changed = [f"{what}: {header.made.get(what)} then, {now[what]} now" for what in ("cowcatcher", "agent", "root")
               if header.made.get(what) != now[what]]  # fmt: skip
    changed += [f"{test.path} is another test now" for test in header.tests if _changed(test, header)]
    found = []
    for was in header.kernels:
        found.append(target(was.name, header.options))
        if (there := found[-1].recorded()) != was:
            what = "image" if there.image != was.image else "modelled kernel that stands for it"
            changed.append(f"kernel {was.name}: the {what} has changed")
    if changed:
        recorder.close()
        raise Problem(
            "\n".join([f"--resume: {file} cannot go on, since its results would be about different things", *changed])
            + "\nRun the tests anew; 'cowcatcher report' shows what was recorded."
        )
    return recorder, found


def _changed(test: Test, header: Header) -> bool:
    """Is there a test by that name now that says something else? A file that is gone matters to nobody."""
    path = catalogue.find(test.path) or Path(header.made.get("directory", "."), test.path)
    try:
        return path.is_file() and parse_file(path) != test
    except (LitmusError, OSError):
        return True


# --- doing it ---------------------------------------------------------------------------------------------------------


def carry_out(recorder: Recorder, on: Sequence[Target]) -> None:
    """Everything that is left to do. What is done is recorded whenever this ends, and however."""
    rec = recorder.recording
    tests, options = rec.header.tests, rec.header.options
    to_do = {t.name: rec.to_do(t.name) for t in on}
    progress = _Progress(rec, to_do)

    def observed(name: str, place: int, seen: Observation) -> None:
        test, run = to_do[name][place]
        recorder.observed(name, test, replace(seen, run=run))
        progress.count(name)

    def finished(job: Job, report: Report) -> None:
        recorder.machine(job.name, {
            "uname": report.release, "boot": round(report.boot, 3), "seconds": round(report.seconds, 3),
            "lost": report.lost, "log": str(report.log), "problems": list(report.problems),
        })  # fmt: skip

    jobs = []
    race = Race(options.stress, options.seed) if options.stress else None
    try:
        for one in on:
            work = [tests[test] for test, _ in to_do[one.name]]
            if not work:
                continue
            if one.image is not None:
                jobs.append(Job(one.name, one.image, work, _settings(one.image, options)))
                continue
            began = time.monotonic()
            run_host(
                work, timeout=options.timeout, trace=options.trace, prefer=options.device, race=race,
                observed=lambda place, seen: observed(HOST, place, seen),
            )  # fmt: skip
            recorder.machine(HOST, {"uname": os.uname().release, "seconds": round(time.monotonic() - began, 3)})
        run_vms(
            jobs, timeout=options.timeout, trace=options.trace, prefer=options.device, race=race, finished=finished,
            observed=lambda job, place, seen: observed(job.name, place, seen),
        )  # fmt: skip
    finally:
        progress.clear()


def _settings(image: KernelImage, options: Options) -> Settings:
    settings = Settings() if options.deterministic is not None else usual_settings(image)
    memory = options.memory >> 20 if options.memory else settings.memory
    return replace(settings, cpus=options.smp, memory=memory, icount=options.deterministic)


def predictions(rec: Recording, recorder: Recorder | None = None) -> dict[tuple[str, int], Predicted]:
    """What the model says of everything that was seen: as recorded, and where that is not yet so, as of now."""
    progress = screen.Progress(_EVERY)
    found = {}
    for number, test in enumerate(rec.header.tests):
        checker = checker_for(test)
        runs: dict[str, list[Observation]] = {}
        for on in rec.header.kernels:
            runs.setdefault(on.model["name"], []).extend(rec.runs(on.name, number))
        for model, seen in ((model, seen) for model, seen in runs.items() if seen):
            line = rec.predictions.get((model, number))
            said = Predicted(**{key: line[key] for key in Predicted.__slots__ if key in line}) if line else None
            if said is None or not said.enough_for(seen):
                progress.show(f"asking the model, test {number + 1}/{len(rec.header.tests)}")
                if is_known(model):
                    said = prediction_for(test, kernel(model), seen, checker)
                else:
                    said = said or Predicted(why_not=f"{model} is no kernel that this cowcatcher models")
                if recorder is not None:
                    recorder.predicted(model, number, asdict(said))
            found[model, number] = said
    progress.clear()
    return found


class _Progress:
    """How many runs are done, of how many; how many a second, and how long the rest will take at that."""

    def __init__(self, rec: Recording, to_do: dict[str, list[tuple[int, int]]]) -> None:
        self._line = screen.Progress(_EVERY)
        self._left = {name: len(work) for name, work in to_do.items()}
        self._each = len(rec.header.tests) * rec.header.options.repeat
        self._all = sum(self._left.values())
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def count(self, name: str) -> None:
        with self._lock:
            self._left[name] -= 1
            self._line.show(self._text())

    def _text(self) -> str:
        left = sum(self._left.values())
        rate = (self._all - left) / max(time.monotonic() - self._began, 0.001)
        under_way = [f"{n} {self._each - k}/{self._each}" for n, k in self._left.items() if 0 < k < self._each]
        minutes, seconds = divmod(round(left / rate), 60)
        parts = [
            f"{self._all - left}/{self._all} runs",
            *under_way,
            f"{rate:.0f} a second",
            f"{minutes}:{seconds:02} left",
        ]
        return ", ".join(parts)

    def clear(self) -> None:
        self._line.clear()
