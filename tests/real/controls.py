"""``python -m tests.real.controls`` runs the whole catalogue on every known-bad kernel and writes docs/controls.md.

Wanted: ``cowcatcher kernels build 5.10`` and ``cowcatcher kernels build 7.3``. What is written is what was seen.
Exit status 1 if a kernel did what its model rules out.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cowcatcher.explore.ordered import predict
from cowcatcher.explore.verdict import Verdict as ModelVerdict
from cowcatcher.kernels import CONTROLS, Kernel, kernel_of_release, modelled
from cowcatcher.litmus import parse_file
from cowcatcher.litmus.ast import Test
from cowcatcher.real import controls, images
from cowcatcher.real.compare import Comparison, Verdict, compare
from cowcatcher.real.host import Observation
from cowcatcher.real.images import KernelImage
from cowcatcher.real.vm import Job, Report, run_vm, run_vms, version_of
from tests.catalogue.checked import PATHS, checker

PAGE = Path(__file__).parents[2] / "docs" / "controls.md"
BUILDS = ("5.10-controls", "7.3-controls")
#: The seed's tests, the second with a child that lives on.
SEED = ("rdma_fork_wait", "rdma_fork_child_alive")
#: What brings that bug back, by build: the state of the kernel that it is about, or the rule that keeps it away.
SEED_CONTROLS = {"5.10-controls": "v5.9-rc4", "7.3-controls": "fork-ignores-pins"}

_HEAD = """# Controls: kernels that are wrong on purpose

A test that has never been seen to fail on a real kernel proves little when it passes on one. `cowcatcher kernels
build` makes kernels in which a boot parameter breaks one rule at a time; each corresponds to a modelled kernel that
answers the same question otherwise. This page is what came out when the whole catalogue was run on all of them, in its
ordered form; `python -m tests.real.controls` runs it again and writes it again.

*Turned red* are tests that hold on the same build without the parameter and are violated with it, *turned green* the
other way round. *As the model says* counts the tests that could be run, and those of them in which every register and
every claim came out as the model of that broken kernel says.
"""


@dataclass(frozen=True)
class Ran:
    """The catalogue on one kernel. ``found``: one comparison a test; ``agree``: None where there is nothing to say;
    ``claims``: what the model says of each."""

    image: KernelImage
    model: Kernel
    found: Mapping[str, Comparison]
    agree: Mapping[str, bool | None]
    claims: Mapping[str, Sequence[bool]]
    lost: int

    def named(self, *verdicts: Verdict) -> set[str]:
        return {name for name, one in self.found.items() if one.verdict in verdicts}

    @property
    def differ(self) -> list[str]:
        return [name for name, agrees in self.agree.items() if agrees is False]

    @property
    def told(self) -> list[str]:
        return [name for name, agrees in self.agree.items() if agrees is not None]


def variants(image: KernelImage) -> list[KernelImage]:
    """The kernel as built, then with each of its controls."""
    return [image, *(images.image(f"{image.name}+{control}") for control in image.controls)]


def run(tests: Sequence[Test], on: Sequence[KernelImage]) -> dict[str, Ran]:
    done = 0

    def finished(job: Job, report: Report) -> None:
        nonlocal done
        done += 1
        lost = f", {report.lost} machines lost" if report.lost else ""
        print(f"{done}/{len(on)} {job.name}: {report.seconds:.0f} s{lost}", file=sys.stderr, flush=True)

    reports = run_vms([Job(image.name, image, tests) for image in on], finished=finished)
    return {image.name: judged(tests, image, reports[image.name]) for image in on}


def judged(tests: Sequence[Test], image: KernelImage, report: Report) -> Ran:
    model = modelled(version_of(image), image.broken)
    found, agree, claims = {}, {}, {}
    for test, seen in zip(tests, report.observations, strict=True):
        predicted = predict(test, model)
        one = compare(test, [seen], None, predicted.registers)
        found[test.name] = one
        agree[test.name] = _agrees(one, predicted.claims, seen)
        claims[test.name] = predicted.claims
    return Ran(image, model, found, agree, claims, report.lost)


def _agrees(one: Comparison, claims: Sequence[bool], seen: Observation) -> bool | None:
    """Did registers and claims come out as predicted? None if the test could not be run, or not to its end."""
    if seen.status == "not applicable":
        return None
    if seen.status != "ok":
        return False
    for claim, truth in zip(one.claims, claims, strict=True):
        said = {Verdict.HOLDS: True, Verdict.VIOLATED: False}.get(claim.verdict)
        if said is not None and said != (truth == (claim.claim.kind != "never")):
            return False
    return bool(one.as_predicted)


def traced(tests: Sequence[Test], built: Sequence[KernelImage]) -> dict[str, Observation]:
    """The seed's tests with frames, on each build as it is and with what brings the bug back, by ``TEST on KERNEL``."""
    seed = [test for test in tests if test.name in SEED]
    return {
        f"{seen.test} on {one}": seen
        for image in built
        if image.name in SEED_CONTROLS
        for one in (image.name, f"{image.name}+{SEED_CONTROLS[image.name]}")
        for seen in run_vm(seed, images.image(one), trace=True)
    }


# --- the page ---------------------------------------------------------------------------------------------------------


def page(
    tests: Sequence[Test], builds: Sequence[str], ran: Mapping[str, Ran], traces: Mapping[str, Observation]
) -> str:
    lines = [_HEAD]
    for build in builds:
        lines += _build(build, ran)
    lines += _never_red(tests, builds, ran)
    lines += _seed(traces)
    return "\n".join(lines) + "\n"


def _build(name: str, ran: Mapping[str, Ran]) -> Iterator[str]:
    base = ran[name]
    about = base.image.record["build"]
    yield f"## {name}: Linux {about['version']}\n"
    yield (
        f"Built from {about['source']} by {about['compiler']}, model {base.model.name}. "
        f"Without the parameter: {_figures(base)}.{_stock(base, ran)}\n"
    )
    yield "| control | what is broken | model: answer instead | as the model says | turned red | turned green |"
    yield "|---|---|---|---|---|---|"
    for variant in variants(base.image)[1:]:
        yield _row(ran[variant.name], base)
    yield ""
    for variant in variants(base.image):
        for test in (one := ran[variant.name]).differ:
            yield f"- **{variant.name}, {test}**: {_difference(one.found[test])}\n"


def _figures(one: Ran) -> str:
    counts = {
        "hold": Verdict.HOLDS, "are violated": Verdict.VIOLATED, "could not be told": Verdict.COULD_NOT_TELL,
        "are not applicable": Verdict.NOT_APPLICABLE,
    }  # fmt: skip
    said = [f"{len(one.named(verdict))} {words}" for words, verdict in counts.items() if one.named(verdict)]
    return f"of {len(one.found)} tests {', '.join(said)}; {_agreement(one)} as the model says"


def _agreement(one: Ran) -> str:
    return f"{len(one.told) - len(one.differ)} of {len(one.told)}"


def _stock(base: Ran, ran: Mapping[str, Ran]) -> str:
    """Whether kernels of the same source that nobody edited do the same."""
    said = []
    for other in ran.values():
        if other.image.controls or other.image.broken or version_of(other.image) != version_of(base.image):
            continue
        both = set(base.told) & set(other.told)
        odd = sorted(name for name in both if base.found[name].verdict is not other.found[name].verdict)
        what = "a stock build of the same source" if "build" in other.image.record else "Debian's own kernel"
        said.append(f" On `{other.image.name}`, {what}, {len(both)} of these tests could be run too, and "
                    + (f"came out otherwise: {_names(odd)}." if odd else "each verdict is the same."))  # fmt: skip
    return "".join(said)


def _row(one: Ran, base: Ran) -> str:
    control = one.image.name.removeprefix(f"{base.image.name}+")
    says = {r.name: r.says for r in controls.rules()} | {s.name: s.says for s in controls.states()}
    answers = ", ".join(f"`{new.name}`" for _, new in base.model.diff(one.model))
    red = one.named(Verdict.VIOLATED) & base.named(Verdict.HOLDS)
    green = one.named(Verdict.HOLDS) & base.named(Verdict.VIOLATED)
    agree = f"{len(one.told) - len(one.differ)} of {len(one.told)}" + (
        f", {one.lost} machines lost" if one.lost else ""
    )
    shown = _names(sorted(red)) or f"none{_why_none(control, one, base)}"
    return _cells(f"`+{control}`", says[control], answers, agree, shown, _names(sorted(green)) or "none")


def _why_none(control: str, one: Ran, base: Ran) -> str:
    if control in _RACES:
        return ": only a race shows it"
    lost = [name for name, claims in one.claims.items() if claims != base.claims[name] and one.agree[name] is None]
    return f": in the model, {_names(lost)}, which cannot be run here" if lost else ""


_RACES = {control.rule for control in CONTROLS if not control.seen}


def _names(names: Sequence[str]) -> str:
    return ", ".join(names)


def _cells(*cells: str) -> str:
    """A row of a table. A bar would begin another cell, in code as well."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _difference(one: Comparison) -> str:
    if one.verdict is Verdict.COULD_NOT_TELL:
        return one.reason
    return "; ".join(one.differences) or "a claim came out otherwise than in the model"


def _never_red(tests: Sequence[Test], builds: Sequence[str], ran: Mapping[str, Ran]) -> Iterator[str]:
    """Tests that no control turns red, by the reason."""
    reasons: dict[str, list[str]] = {}
    for test in tests:
        bases = [ran[build] for build in builds]
        all_of = [(base, [ran[v.name] for v in variants(base.image)[1:]]) for base in bases]
        if any(
            base.found[test.name].verdict is Verdict.HOLDS and one.found[test.name].verdict is Verdict.VIOLATED
            for base, ones in all_of
            for one in ones
        ):
            continue
        reasons.setdefault(_why_never(test, bases, [one for _, ones in all_of for one in ones]), []).append(test.name)
    total = sum(map(len, reasons.values()))
    yield "## Tests that no control turns red\n"
    yield (
        f"{total} of {len(tests)} tests. That they hold on a real kernel is no evidence yet that they could have "
        "failed there. The reason is told by the model and by the runs:\n"
    )
    yield "| reason | tests |\n|---|---|"
    for reason, names in sorted(reasons.items(), key=lambda item: -len(item[1])):
        yield _cells(reason, _names(names))
    yield ""


def _why_never(test: Test, bases: Sequence[Ran], broken: Sequence[Ran]) -> str:
    def everywhere(verdict: Verdict) -> bool:
        return all(one.found[test.name].verdict is verdict for one in (*bases, *broken))

    if everywhere(Verdict.NOT_APPLICABLE):
        return f"not applicable on these machines: {_short(bases[0].found[test.name].reason)}"
    if red := [base.image.name for base in bases if base.found[test.name].verdict is Verdict.VIOLATED]:
        return f"it is violated already where nothing is broken: on {' and '.join(red)}"
    if all(base.found[test.name].verdict is not Verdict.HOLDS for base in bases):
        return "it claims `sometimes`, which one run in a fixed order cannot refute"
    (path,) = (p for p in PATHS if p.stem == test.name)
    verdicts = {one.model.name: checker(path).check(one.model).verdict for one in (*bases, *broken)}
    races = [
        one.model.name for one in broken
        if verdicts[one.model.name] is ModelVerdict.VIOLATED
        and verdicts[kernel_of_release(version_of(one.image)).name] is ModelVerdict.HOLDS
    ]  # fmt: skip
    if races:
        return "only a race shows it: in the model, another interleaving is violated on a control"
    return "it is about a rule that no control breaks"


def _short(reason: str) -> str:
    """Without the statement or mapping that it is about, and without details: one row for each reason."""
    return re.sub(r"^(.*\)|\S+|\S+ is \S+): ", "", reason).split(" (")[0]


def _seed(traces: Mapping[str, Observation]) -> Iterator[str]:
    yield "## The seed's bug, frame by frame\n"
    yield (
        "Two tests on each build, without the parameter and with one that lets fork share what is pinned. Frame "
        "numbers as `/proc/PID/pagemap` has them after each statement; the pinned frame is the one that io_uring's "
        "registration took.\n"
    )
    for name, seen in traces.items():
        yield f"### {name}\n"
        pinned = ", ".join(f"{pin}[{index}] holds frame {pfn:#x}" for (pin, index), pfn in seen.pinned.items())
        processes = list(dict.fromkeys(page.process for done in seen.log for page in done.pages))
        yield f"{pinned or seen.reason or 'nothing was pinned'}; {_registers(seen)}.\n"
        yield f"| statement | came to | {' | '.join(f'{p} has' for p in processes)} |"
        yield "|---|---|" + "---|" * len(processes)
        for done in seen.log:
            frames = {page.process: _frame(page) for page in done.pages}
            came = "" if done.result is None else str(done.result)
            yield _cells(f"{done.actor}: `{done.statement}`", came, *(frames.get(p, "") for p in processes))
        yield ""


def _frame(page: object) -> str:
    pfn, state = getattr(page, "pfn", None), getattr(page, "state", "")
    return f"{pfn:#x}" if pfn is not None else state


def _registers(seen: Observation) -> str:
    return ", ".join(f"{name} = {value}" for name, value in seen.registers.items())


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs="*", default=BUILDS, metavar="NAME", help=f"default: {' '.join(BUILDS)}")
    parser.add_argument("--output", type=Path, default=PAGE, metavar="FILE", help="default: docs/controls.md")
    args = parser.parse_args(words)
    tests = [parse_file(path) for path in PATHS]
    built = [images.image(name) for name in args.builds]
    releases = {version_of(image) for image in built}
    stock = [i for i in images.installed() if version_of(i) in releases and not i.controls and i.flavour != "full"]
    ran = run(tests, [*(v for image in built for v in variants(image)), *stock])
    args.output.write_text(page(tests, args.builds, ran, traced(tests, built)))
    differ = {name: one.differ for name, one in ran.items() if one.differ}
    for name, tests_of in differ.items():
        print(f"{name} differs from its model in: {_names(tests_of)}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
