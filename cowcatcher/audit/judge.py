"""What the checker says about a finding: on the kernel at hand, on all others, and which decision makes the difference.

Nothing is looked up in a table of releases. The test derived from the finding's case is checked on every kernel; where
it holds, answers are exchanged one at a time until it does not, and where it is violated, until it is not.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final

from cowcatcher.audit.derive import CannotDerive, Derived, derived
from cowcatcher.audit.draft import SOME_FILE
from cowcatcher.audit.events import Advised
from cowcatcher.audit.finding import Case, Finding, Judged, OnKernel, Severity
from cowcatcher.audit.ledger import ORDER
from cowcatcher.audit.smaller import smallest
from cowcatcher.explore.bisect import Flip, bisect, cures
from cowcatcher.explore.guards import guards
from cowcatcher.explore.search import Limits
from cowcatcher.explore.verdict import Checker, CheckResult, Verdict
from cowcatcher.kernels import LINE, Decision, Kernel, is_known
from cowcatcher.kernels.commits import COMMITS
from cowcatcher.litmus.ast import Expect, KernelRange, Test
from cowcatcher.litmus.printer import to_text

#: Rules that ask whether something has to be protected: where their test holds, it has not.
PROTECTION: Final = frozenset({"fork-shares-pinned", "direct-io-across-fork", "dontfork-too-late", "fork-protection"})
#: What a file that nobody told of may lie on: each has a way of its own to hold the buffer.
FILESYSTEMS: Final = ("BLOCK", "NFS", "FUSE")
#: Rules whose findings were seen to happen: what a test of it assumes makes them no less.
SEEN: Final = frozenset({"moved-under-pin", "overwritten-in-flight"})
#: For each search. A derived test has some hundred states.
LIMITS: Final = Limits(states=100_000, seconds=2.0)
#: Statements of one actor, and processes, that the model takes.
MOST_STATEMENTS: Final = 200
MOST_PROCESSES: Final = 12


@dataclass(frozen=True, slots=True)
class _Known:
    """All that was found out about one test."""

    here: OnKernel | None
    groups: tuple[OnKernel, ...]
    expects: tuple[Expect, ...]
    small: Test | None
    why_not: str = ""


@dataclass(slots=True)
class Judge:
    """Judges findings on ``here`` and on all of ``kernels``; equal tests once.

    ``seconds`` are for one test, without making it smaller, which takes ``shrink_seconds`` at most.
    """

    here: Kernel | None
    kernels: Sequence[Kernel] = LINE
    limits: Limits = LIMITS
    seconds: float = 5.0
    shrink_seconds: float = 5.0
    _known: dict[str, _Known] = field(default_factory=dict)

    def judge(self, finding: Finding) -> Finding:
        """The finding with what the checker says and the severity that follows. One without a case stays as it is.

        Of a finding that has several situations in it the gravest counts, and is what it tells of from then on.
        """
        if finding.case is None:
            return finding
        cases = [(finding.case, finding.timeline), *finding.others]
        found = [self._one(replace(finding, case=case, timeline=timeline, others=())) for case, timeline in cases]
        worst = min(found, key=lambda f: ORDER.index(f.severity))
        if finding.unjudged and worst.severity is Severity.GOOD:
            why = f"{finding.unjudged} more sorts of memory in it were not asked about"
            worst = replace(worst, severity=Severity.UNSURE, title=f"{worst.title}: could not tell, {why}")
        if len({f.severity for f in found}) > 1 and worst.case is not None:
            where = f"Of {len(found)} sorts of memory in it this is the gravest, at {worst.case.page.start:#x}."
            worst = replace(worst, explanation=f"{worst.explanation} {where}".strip())
        return worst

    def _one(self, finding: Finding) -> Finding:
        assert finding.case is not None
        case = judged_case(finding)
        try:
            found = derived(case)
        except CannotDerive as why:
            return _without_test(finding, why.reason)
        known = self._all_about(found, case)
        small = known.small
        test = replace(found.test, expects=known.expects)
        judged = Judged(test, known.here, known.groups, small, known.why_not)
        settled = self._settled(replace(finding, judged=judged), found)
        if settled.severity is Severity.GOOD and finding.severity is not Severity.GOOD and SOME_FILE in found.guessed:
            return self._on_any_file(settled, case)
        return settled

    def _on_any_file(self, finding: Finding, case: Case) -> Finding:
        """Good news only if it is that wherever the file lies: nobody saw where it does."""
        for filesystem in FILESYSTEMS:
            try:
                found = derived(case, filesystem)
            except CannotDerive:
                verdicts = {Verdict.UNKNOWN.value}
            else:
                known = self._all_about(found, case)
                verdicts = {known.here.verdict} if known.here else {g.verdict for g in known.groups}
            if verdicts != {Verdict.HOLDS.value}:
                why = f"the filesystem was not seen, and on {filesystem} it does not hold"
                if Verdict.VIOLATED.value not in verdicts:
                    why = f"the filesystem was not seen, and for {filesystem} there is no answer"
                return _could_not_tell(finding, why)
        return finding

    def _all_about(self, found: Derived, case: Case) -> _Known:
        text = to_text(found.test)
        if text not in self._known:
            self._known[text] = self._find_out(found, case)
        return self._known[text]

    # --- verdicts -------------------------------------------------------------------------------------------------

    def _find_out(self, found: Derived, case: Case) -> _Known:
        test = found.test
        if why := _too_large(test):
            unsure = OnKernel(self.here.name, Verdict.UNKNOWN.value, why) if self.here else None
            return _Known(unsure, (), (), None, why)
        until = time.monotonic() + self.seconds
        checker = Checker(test, self.limits)
        here = None if self.here is None else checker.check(self.here)
        results = [_checked(checker, kernel, until) for kernel in self.kernels]
        # To exchange answers takes more searches than there are kernels: only for tests that are searched in no time.
        easy = time.monotonic() < until - self.seconds * 3 / 4
        flips = bisect(test, self.kernels, self.limits) if easy else []
        judged = None if here is None else self._on_this(test, here, flips, easy)
        everywhere = [r for r in (here, *reversed(results)) if r is not None]
        why_not = next((r.reason for r in everywhere if r.verdict is Verdict.NOT_APPLICABLE), "")
        return _Known(
            judged, _groups(results, flips), expectations(results), self._small(case, test, everywhere), why_not
        )

    def _small(self, case: Case, test: Test, results: Sequence[CheckResult]) -> Test | None:
        """On the first kernel that violates it: the one at hand, or the newest."""
        violated = next((r for r in results if r.verdict is Verdict.VIOLATED), None)
        small = violated and smallest(test, case.question, violated, self.limits, self.shrink_seconds)
        if not small:
            return None
        checker = Checker(small, self.limits)
        return replace(small, expects=expectations([checker.check(kernel) for kernel in self.kernels]))

    def _on_this(self, test: Test, result: CheckResult, flips: Sequence[Flip], easy: bool) -> OnKernel:
        """With the decision that protects here, or the one that would."""
        because = result.reason or _vacuous(result)
        if not because and easy:
            if result.verdict is Verdict.HOLDS:
                because = told(_telling([g.decision for g in guards(test, result.kernel, self.limits)], flips))
            elif result.verdict is Verdict.VIOLATED:
                # Later answers come first; one is enough to know what is missing.
                because = told(cure.replaced_by for cure in cures(test, result.kernel, self.limits)[:1])
                because = f"what would help: {because}" if because else "no decision of any kernel helps"
        return OnKernel(result.kernel.name, _verdict(result).value, because)

    # --- severity -------------------------------------------------------------------------------------------------

    def _settled(self, finding: Finding, found: Derived) -> Finding:
        judged = finding.judged
        assert judged is not None
        notes = list(found.guessed)
        verdict, cap = self._decisive(judged, finding, notes)
        severity = _severity(finding, verdict, found.further)
        if cap is not None and ORDER.index(severity) < ORDER.index(cap):
            severity = cap
        told_so = (f"{note[0].upper()}{note[1:]}." for note in notes)
        explanation = " ".join(filter(None, (finding.explanation, *told_so)))
        told_as = _where_told(finding, judged, severity)
        return replace(finding, title=told_as, severity=severity, explanation=explanation)

    def _decisive(self, judged: Judged, finding: Finding, notes: list[str]) -> tuple[str, Severity | None]:
        """The verdict that counts, and the most that can come of it where the kernel is not known."""
        if judged.here is not None:
            return judged.here.verdict, None
        unknown = "the kernel that it ran on is not known"
        verdicts = {group.verdict for group in judged.groups}
        if not verdicts:
            return Verdict.UNKNOWN.value, None
        newest = self.kernels[-1].name
        last = next((g.verdict for g in judged.groups if newest in re.split(r", |\.\.", g.kernel)), "")
        if finding.rule not in PROTECTION:
            notes.append(f"{unknown}: judged as on {newest}")
            return last, None
        violated = ", ".join(g.kernel for g in judged.groups if g.verdict == Verdict.VIOLATED.value)
        if len(verdicts) == 1:
            notes.append(f"{unknown}; it is the same on all that are modelled")
            return verdicts.pop(), None
        if violated:
            notes.append(f"{unknown}, and {violated} let it happen, others do not: name the kernel with --kernel")
            return Verdict.VIOLATED.value, Severity.WARNING if last == Verdict.VIOLATED.value else Severity.UNSURE
        notes.append(f"{unknown}, and not for all of them there is an answer")
        return Verdict.UNKNOWN.value, None


def _where_told(finding: Finding, judged: Judged, severity: Severity) -> str:
    """The title, with the kernels that let it happen where nobody knows which one it was."""
    if judged.here is not None or finding.rule not in PROTECTION or severity is Severity.GOOD:
        return finding.title
    violated = [g.kernel for g in judged.groups if g.verdict == Verdict.VIOLATED.value]
    word = "needed" if finding.rule == "fork-protection" else "at risk"
    return f"{finding.title}; {word} on {', '.join(violated)}" if violated else finding.title


def _without_test(finding: Finding, reason: str) -> Finding:
    """Whether it needs protection was not answered: that is no error, and no good news either."""
    asked = finding.rule in PROTECTION and finding.severity in (Severity.ERROR, Severity.WARNING)
    if asked:
        finding = _could_not_tell(finding, reason)
    return replace(finding, judged=Judged(None, None, (), why_not=reason))


def _could_not_tell(finding: Finding, why: str) -> Finding:
    return replace(
        finding,
        severity=Severity.UNSURE,
        explanation=f"{finding.explanation} Could not tell whether it is at risk: {why}.".strip(),
    )


def applies(finding: Finding) -> bool:
    """False for pages that fork() was said to copy, on a kernel that was found not to."""
    here = finding.judged.here if finding.judged is not None else None
    return finding.rule != "huge-copy-at-fork" or here is None or here.verdict != Verdict.VIOLATED.value


def _groups(results: Sequence[CheckResult], flips: Sequence[Flip]) -> tuple[OnKernel, ...]:
    """Neighbours of one verdict together, with the decision that made the difference to those before."""
    made = {flip.after.name: told(flip.decisions) for flip in flips}
    groups = []
    for verdict, members in groupby(results, _verdict):
        found = list(members)
        because = made.get(found[0].kernel.name, "") or found[0].reason or _vacuous(found[0])
        groups.append(OnKernel(_range_text(found), verdict.value, because))
    return tuple(groups)


def _telling(protecting: Sequence[Decision], flips: Sequence[Flip]) -> Sequence[Decision]:
    """Of several answers that all have to be there, those to questions that have made a difference in history."""
    questions = {decision.question for flip in flips for decision in flip.decisions}
    return [d for d in protecting if d.question in questions] or protecting


def judge(finding: Finding, here: Kernel | None, kernels: Sequence[Kernel] = LINE, limits: Limits = LIMITS) -> Finding:
    """One finding. For many use a ``Judge``, which remembers."""
    return Judge(here, kernels, limits).judge(finding)


def _severity(finding: Finding, verdict: str, further: bool) -> Severity:
    """The rule's own word, where the verdict does not say that it is less.

    ``further``: it takes one more step than the trace has. What a rule itself is unsure of is not made sure here.
    """
    severity = finding.severity
    if finding.rule in SEEN or severity is Severity.UNSURE:
        return severity
    if verdict == Verdict.UNKNOWN.value:
        return Severity.UNSURE
    if finding.rule in PROTECTION:
        if verdict == Verdict.HOLDS.value:
            return Severity.GOOD
        if verdict == Verdict.NOT_APPLICABLE.value:
            return Severity.UNSURE if severity in (Severity.ERROR, Severity.WARNING) else severity
        if severity is Severity.GOOD:  # the rule found nothing, and the model did
            return Severity.UNSURE
    if verdict == Verdict.VIOLATED.value and further and severity is Severity.ERROR:
        return Severity.WARNING
    return severity


def judged_case(finding: Finding) -> Case:
    """The finding's case; where the finding is about protection, without it, to see whether it is needed."""
    case = finding.case
    assert case is not None
    if finding.rule != "fork-protection":
        return case
    kept = (e for e in case.events if not (isinstance(e, Advised) and e.advice.endswith(("DONTFORK", "DOFORK"))))
    return replace(case, events=tuple(kept))


def _too_large(test: Test) -> str:
    most = max(len(actor.body) for actor in test.actors)
    processes = sum(actor.kind == "process" for actor in test.actors)
    if most > MOST_STATEMENTS or processes > MOST_PROCESSES:
        return f"{processes} processes and {most} statements of one of them are too many for the model"
    return ""


def _checked(checker: Checker, kernel: Kernel, until: float) -> CheckResult:
    if time.monotonic() < until:
        return checker.check(kernel)
    return CheckResult(checker.test, kernel, Verdict.UNKNOWN, reason="not looked at: the others took too long")


def _verdict(result: CheckResult) -> Verdict:
    """A claim that was never put to the test tells nothing."""
    return Verdict.UNKNOWN if result.verdict is Verdict.HOLDS and _vacuous(result) else result.verdict


def _vacuous(result: CheckResult) -> str:
    if result.verdict is not Verdict.HOLDS:
        return ""
    return next((why for why in result.vacuous if why.startswith(("always", "no execution"))), "")


# --- words ------------------------------------------------------------------------------------------------------------


def told(decisions: Iterable[Decision]) -> str:
    """``fork_copies_pinned: 70e806e4e645 ("mm: Do early cow for …"), in v5.9-rc7``"""
    return "; ".join(map(_told_once, decisions))


def _told_once(decision: Decision) -> str:
    commits = [COMMITS[name] for name in decision.commits]
    said = " and ".join(f'{commit.id} ("{commit.subject}"), in {commit.first}' for commit in commits)
    return f"{decision.name}: {said}" if said else decision.name


def _range_text(results: Sequence[CheckResult]) -> str:
    return ", ".join(f"{a}..{b}" if a != b else a for a, b in _runs(results))


def _runs(results: Sequence[CheckResult]) -> list[tuple[str, str]]:
    """(first, last) of each stretch of neighbours on the line; one that stands beside it is alone."""
    runs: list[list[Kernel]] = []
    for kernel in (r.kernel for r in results):
        last = runs[-1][-1].place if runs else None
        if kernel.place is not None and last is not None and kernel.place == last + 1:
            runs[-1].append(kernel)
        else:
            runs.append([kernel])
    return [(run[0].name, run[-1].name) for run in runs]


def expectations(results: Sequence[CheckResult]) -> tuple[Expect, ...]:
    """``expect`` lines that say what came out, as the language writes ranges; nothing for what could not be told."""
    lines = []
    for verdict, word in ((Verdict.VIOLATED, "violated"), (Verdict.HOLDS, "holds")):
        found = [r for r in results if _verdict(r) is verdict and is_known(r.kernel.name)]
        if found:
            check = _common_check(found) if verdict is Verdict.VIOLATED else None
            lines.append(Expect(word, tuple(_range(*run) for run in _runs(found)), check))  # type: ignore[arg-type]
    return tuple(lines)


def _range(first: str, last: str) -> KernelRange:
    """Open where the line begins and where it ends so far."""
    if first == last != LINE[-1].name:
        return KernelRange(first, last, single=True)
    if last == LINE[-1].name:
        return KernelRange(first, None)
    return KernelRange(None if first == LINE[0].name else first, last)


def _common_check(results: Sequence[CheckResult]) -> str | None:
    """The standing check that all of them violate; None for several, or none."""
    shared = set.intersection(*(r.violated_checks() for r in results))
    return shared.pop().upper() if len(shared) == 1 else None
