"""Tests run on other kernels, each in a virtual machine of its own.

QEMU boots the kernel's uncompressed image with an initramfs that holds the agent and all tests of the run; the agent
is the machine's first process (agent/init.c). Its answers leave through memory that QEMU shares (agent/channel.c); the
console goes to a log, which is read by nobody but people.

A machine that is lost, because its kernel crashed or hung, costs the test at hand: that one could not be told, the
console's last lines say more, and another machine does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cowcatcher.litmus.ast import Test
from cowcatcher.real.host import Observation, Observed, unobserved
from cowcatcher.real.qemu import Lost, Machine, Settings

if TYPE_CHECKING:
    import threading

    from cowcatcher.real.images import KernelImage
    from cowcatcher.real.lower import Facilities, Lowered, Race

#: On one kernel. What costs that many machines is no question about single tests any more.
MOST_LOST: Final = 5
#: Where the kernel has them as modules: what the swap device is made of.
WANTED_MODULES: Final = ("loop",)


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of one kernel: each of these tests once, in this order, in machines that are made like this.

    ``name`` is what the kernel is called here, such as an image's name with a variant; no two jobs share one.
    """

    name: str
    image: KernelImage
    tests: Sequence[Test]
    settings: Settings | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All that came of one kernel: the observations as ``run_host`` would give them, and figures."""

    observations: list[Observation]
    release: str
    boot: float
    seconds: float
    log: Path
    lost: int = 0
    problems: tuple[str, ...] = ()
    facilities: Facilities | None = None  # None if no machine came up


def run_vm(
    tests: Sequence[Test],
    image: KernelImage,
    *,
    timeout: float = 10.0,
    repeat: int = 1,
    trace: bool = False,
    agent: Path | None = None,
    settings: Settings | None = None,
    prefer: Sequence[str] = (),
) -> list[Observation]:
    """As :func:`cowcatcher.real.host.run_host`, on the kernel of ``image``."""
    return run_image(
        tests, image, timeout=timeout, repeat=repeat, trace=trace, agent=agent, settings=settings, prefer=prefer
    ).observations


def run_vms(
    jobs: Sequence[Job],
    *,
    timeout: float = 10.0,
    trace: bool = False,
    prefer: Sequence[str] = (),
    race: Race | None = None,
    observed: Callable[[Job, int, Observation], None] = lambda job, place, seen: None,
    finished: Callable[[Job, Report], None] = lambda job, report: None,
) -> dict[str, Report]:
    """Several kernels side by side, as many as this machine has cores and memory for; the reports by the jobs' names.

    ``observed`` is called with each observation as soon as it is made and the place of its test among the job's, from
    as many threads as there are machines; ``finished`` as each kernel is done, from the thread of the caller. If that
    is interrupted, so are all machines.
    """
    import threading
    from concurrent.futures import ThreadPoolExecutor, as_completed
    from functools import partial

    from cowcatcher.real.build import agent_path
    from cowcatcher.real.qemu import at_once

    if not jobs:
        return {}
    agent, stop = agent_path(), threading.Event()
    usual = usual_settings(jobs[0].image, agent)
    reports: dict[str, Report] = {}
    with ThreadPoolExecutor(min(len(jobs), *(at_once(job.settings or usual) for job in jobs))) as pool:
        runs = {
            pool.submit(
                run_image, job.tests, job.image, name=job.name, timeout=timeout, trace=trace, agent=agent,
                settings=job.settings or usual, prefer=prefer, race=race, stop=stop,
                observed=partial(observed, job),
            ): job
            for job in jobs
        }  # fmt: skip
        try:
            for done in as_completed(runs):
                reports[runs[done].name] = done.result()
                finished(runs[done], done.result())
        finally:
            stop.set()
            for run in runs:
                run.cancel()
    return {job.name: reports[job.name] for job in jobs}


def run_image(
    tests: Sequence[Test],
    image: KernelImage,
    *,
    name: str = "",
    timeout: float = 10.0,
    repeat: int = 1,
    trace: bool = False,
    agent: Path | None = None,
    settings: Settings | None = None,
    prefer: Sequence[str] = (),
    race: Race | None = None,
    stop: threading.Event | None = None,
    observed: Observed = unobserved,
) -> Report:
    """Every test ``repeat`` times on this kernel, and what there is to tell about its machines.

    ``name`` is what its console's log is called, by default the image's. ``observed``: as for ``run_host``; what
    cannot be run on any machine comes first.
    """
    from cowcatcher.real.lower import Facilities, lower_each

    seen: dict[int, Observation] = {}
    lowered: list[Lowered] = []
    hoped = Facilities.of_virtual(backends_of(image), prefer)
    ran = _Kernel(name or image.name, image, agent, settings, stop, hoped)
    places: list[int] = []  # of the lowered ones

    def saw(place: int, one: Observation) -> None:
        seen[place] = replace(one, run=place % repeat)
        observed(place, seen[place])

    # What the kernel has is known once it runs: until then everything is taken to be there.
    for number, form in enumerate(lower_each(tests, hoped, race)):
        every = range(number * repeat, (number + 1) * repeat)
        if isinstance(form, str):
            for place in every:
                saw(place, Observation(tests[number].name, "not applicable", form, kernel=ran.release))
        else:
            lowered.extend([form] * repeat)
            places.extend(every)

    lacking: dict[int, str | None] = {}  # by the identity of a test, which may stand there many times

    def answered(one: Observation) -> None:
        place = next(waiting)
        test = tests[place // repeat]
        if ran.facilities and id(test) not in lacking:
            lacking[id(test)] = _lacks(test, ran.facilities, race)
        why = lacking.get(id(test))
        saw(place, one if why is None else Observation(one.test, "not applicable", why, kernel=one.kernel))

    waiting = iter(places)
    ran.run(lowered, timeout, trace, answered)
    return ran.report([seen[place] for place in sorted(seen)])


def _lacks(test: Test, facilities: Facilities, race: Race | None) -> str | None:
    """Why the test is not applicable to a machine with these facilities."""
    from cowcatcher.real.lower import NotApplicable, lower

    try:
        lower(test, facilities, race)
    except NotApplicable as e:
        return str(e)
    return None


def backends_of(image: KernelImage) -> dict[str, str]:
    """What a machine with this kernel lacks for each backend, as far as the kernel's configuration or modules tell."""
    from cowcatcher.real.backends import BACKENDS, promised
    from cowcatcher.real.images import has_module

    if image.config:
        return promised(image.config.read_text(), modules=image.modules is not None)
    lacks = promised(None, modules=True)
    if image.modules is not None:  # the last of a backend's modules is the one that it is named after
        for name in (b.name for b in BACKENDS.values() if b.modules and not has_module(image, b.modules[-1])):
            lacks[name] = f"the kernel has no module {BACKENDS[name].modules[-1]}"
    return lacks


def usual_settings(image: KernelImage, agent: Path | None = None) -> Settings:
    """Those of a machine on this computer, of which nothing more is said."""
    from cowcatcher.real.build import agent_path
    from cowcatcher.real.qemu import accelerator

    return Settings(accelerator(image.vmlinux, agent or agent_path()))


def equipped(settings: Settings, backends: Iterable[str], migrates: bool = False) -> Settings:
    """The settings of a machine that has what these backends need, and, if it ``migrates``, where to move pages to."""
    from cowcatcher.real.backends import BACKENDS

    def united(here: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*here, *more]))

    for backend in (BACKENDS[name] for name in dict.fromkeys(backends)):
        settings = replace(
            settings,
            machine=backend.machine or settings.machine,
            devices=united(settings.devices, backend.devices),
            append=united(settings.append, backend.append),
            modules=united(settings.modules, backend.modules),
        )
    return replace(settings, nodes=max(settings.nodes, 2)) if migrates else settings


class _Kernel:
    """One kernel's machines, one after another as they get lost."""

    def __init__(
        self,
        name: str,
        image: KernelImage,
        agent: Path | None,
        settings: Settings | None,
        stop: threading.Event | None,
        hoped: Facilities,
    ) -> None:
        import threading
        import time

        from cowcatcher.real.build import agent_path
        from cowcatcher.real.qemu import log_of

        self.image = image
        self.agent = agent or agent_path()
        settings = settings or usual_settings(image, self.agent)
        self.settings = replace(settings, append=(*settings.append, *image.parameters))
        self.stop = stop or threading.Event()
        self.hoped = hoped
        self.name = name
        self.log = log_of(name)
        self.facts: dict[str, str] = {}
        self.problems: list[str] = []
        self.boot = 0.0
        self.lost = 0
        self.began = time.monotonic()

    @property
    def release(self) -> str:
        return self.facts.get("release", self.image.release)

    @property
    def facilities(self) -> Facilities | None:
        if not self.facts:
            return None
        return replace(
            self.hoped,
            swap=self.facts.get("swap") == "1",
            soft_dirty=self.facts.get("soft_dirty") == "1",
            ksm="" if self.facts.get("ksm") == "1" else "this kernel merges no pages (CONFIG_KSM)",
            nodes=int(self.facts.get("nodes", "1")),
        )

    def report(self, observations: list[Observation]) -> Report:
        import time

        return Report(
            observations, self.release, self.boot, time.monotonic() - self.began, self.log, self.lost,
            tuple(self.problems), self.facilities,
        )  # fmt: skip

    def run(
        self, tests: Sequence[Lowered], timeout: float, trace: bool, observed: Callable[[Observation], None]
    ) -> None:
        """``observed`` is called with an observation for each test, in their order."""
        from cowcatcher.real.qemu import log_of, remember

        backends = [name for lowered in tests for name in lowered.backends]
        migrates = any(s.step.statement.op == "migrate" for lowered in tests for s in lowered.steps)
        self.settings = equipped(self.settings, backends, migrates)
        modules = self._modules() if tests else []
        left, why = tests, ""
        while left and self.lost < MOST_LOST:
            texts = [lowered.text(number, timeout, trace) for number, lowered in enumerate(left)]
            machine = Machine(self.image.vmlinux, self.agent, modules, "".join(texts), self.settings, self.log)
            done, lost, crashed = self._converse(machine, left, timeout, observed)
            left = left[done:]
            if lost and self.settings.accelerator == "kvm":  # which may be KVM's own fault: once more without
                remember("tcg", lost)
                self.settings = replace(self.settings, accelerator="tcg")
            elif lost:
                self.lost += 1
                why = f"{self.lost} virtual machines were lost; the last one: {lost}"
                if crashed is None:  # it did not come up: no test is to blame, and none can be run
                    why = f"the virtual machine did not start: {lost}"
                    break
                observed(crashed)
                left = left[1:]
            if left:
                self.log = log_of(self.name)  # the one before is quoted
        for lowered in left:
            observed(Observation(lowered.test.name, "could not tell", why, kernel=self.release))

    def _modules(self) -> list[Path]:
        """Those that this kernel has: not every one needs all of them, and a test says what it lacks."""
        from cowcatcher.real.images import ImageError, module_files

        files: dict[Path, None] = {}
        for name in (*WANTED_MODULES, *self.settings.modules):
            with suppress(ImageError):
                files.update(dict.fromkeys(module_files(self.image, [name])))
        return list(files)

    def _converse(
        self, machine: Machine, tests: Sequence[Lowered], timeout: float, observed: Callable[[Observation], None]
    ) -> tuple[int, str, Observation | None]:
        """One machine's life: how many tests it finished; why it got lost, or "", and with which test."""
        from cowcatcher.real.host import GRACE, read_answers

        done = 0
        answers: list[list[str]] = []
        try:
            with closing(machine.lines(timeout + GRACE, self.stop)) as lines:
                for words in lines:
                    self._up(machine)
                    if words[0] == "test":
                        answers = []
                    answers.append(words)
                    if words[0] == "done":
                        observed(replace(read_answers(tests[done], answers, timeout), kernel=machine.release))
                        done, answers = done + 1, []
            if done < len(tests):
                raise Lost(f"the agent ended before its work was done (console: {machine.log})")
        except Lost as e:
            if not machine.facts:
                return done, str(e), None
            self._up(machine)
            if done < len(tests):
                crashed = read_answers(tests[done], answers, timeout)
                reason = crashed.reason.replace("the agent did not survive", "the virtual machine was lost in", 1)
                crashed = replace(crashed, status="crash", reason=f"{reason}: {e}", kernel=machine.release)
                return done, str(e), crashed
        self._up(machine)
        return done, "", None

    def _up(self, machine: Machine) -> None:
        """The machine is there, and has told what it has."""
        if machine.facts:
            self.facts, self.problems = machine.facts, machine.problems
            self.boot = self.boot or machine.boot


def version_of(image: KernelImage) -> str:
    """What the kernel was made from, such as 5.10.223; ``uname -r`` of a distribution may say 5.10.0 for all of it."""
    packages = image.record.get("packages") or [{}]
    version = str(packages[0].get("version", "")).rpartition(":")[2]
    return version.partition("-")[0] or image.release
