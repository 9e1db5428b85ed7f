"""What was found so far: each thing once, with how often; the first in full, until a heavier one of its kind comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

from cowcatcher.audit.finding import Finding, Severity
from cowcatcher.audit.trail import Trail
from cowcatcher.audit.vmas import Seen

Key: TypeAlias = tuple[object, ...]

#: Heaviest first.
ORDER = (Severity.ERROR, Severity.WARNING, Severity.UNSURE, Severity.NOTE, Severity.GOOD)
#: Findings of one rule that are kept apart; what comes after is counted with the last of them.
KEPT = 200
#: Further situations of one finding that are asked about.
OTHERS = 7


def is_heavier(a: Severity, b: Severity) -> bool:
    return ORDER.index(a) < ORDER.index(b)


#: The rule whose findings are part of a heavier one on the same page, and the rule that says as much and more. What
#: others say of the page may yet turn out to be good news.
PART, WHOLE = "partial-page", "dontfork-neighbours"


def _covers(heavy: Finding, light: Finding) -> bool:
    return heavy.process == light.process and any(
        a.pages().overlap(b.pages()) for a in (*heavy.ranges, *(o.range for o in heavy.owners)) for b in light.ranges
    )


class Ledger:
    """``report`` what was found, ``fresh`` what nobody was told yet, ``all`` of it at the end."""

    def __init__(self) -> None:
        self._findings: dict[Key, Finding] = {}
        self._trails: dict[Key, Trail] = {}
        self._fresh: dict[Key, None] = {}
        self._of_rule: dict[str, int] = {}
        self._found_in: set[tuple[str, str]] = set()
        self._following: dict[int, dict[Key, Trail]] = {}
        self._situations: dict[Key, set[Key]] = {}
        self._others: dict[Key, list[Trail]] = {}
        self._unjudged: dict[Key, int] = {}
        self._counted: set[Key] = set()  # of this event
        self._at_the_end = False

    def next(self) -> None:
        """Another event: what is found now is counted, once."""
        if self._counted:
            self._counted.clear()

    def no_more(self) -> None:
        """What is found from now on is of no event."""
        self.next()
        self._at_the_end = True

    def knows(self, key: Key, severity: Severity) -> bool:
        """Is it known, and at least as grave? Then it is counted, and need not be told again."""
        if not self.has_told(key, severity):
            return False
        self._count(key)
        return True

    def _count(self, key: Key) -> None:
        """However many pages or pins of one event it is about, that is once."""
        if self._at_the_end or key not in self._counted:
            self._counted.add(key)
            old = self._findings[key]
            self._findings[key] = replace(old, times=old.times + 1)

    def has_told(self, key: Key, severity: Severity) -> bool:
        """Is it known, and at least as grave? It is not counted."""
        old = self._findings.get(key)
        return old is not None and not is_heavier(severity, old.severity)

    def has(self, rule: str, program: str) -> bool:
        """Was anything found by this rule in this program, good news apart?"""
        return (rule, program) in self._found_in

    def again(self, keys: tuple[Key, ...]) -> None:
        for key in keys:
            if key in self._findings:
                self._count(key)

    def report(self, finding: Finding, trail: Trail | None = None, later: bool = False) -> Key:
        """Write it down. ``later``: not for those who watch, it may come to nothing until the end."""
        key = finding.key
        if self.knows(key, finding.severity):
            return key
        old = self._findings.get(key)
        if old is None:
            count = self._of_rule.get(finding.rule, 0)
            if count >= KEPT:
                return self._crowded(finding, trail)
            self._of_rule[finding.rule] = count + 1
        times = old.times if old is not None else finding.times  # graver now, and no other
        self._counted.add(key)
        if trail is not None:
            finding = replace(finding, case=trail.case(), timeline=finding.timeline or trail.timeline())
        self._findings[key] = replace(finding, times=times)
        if finding.severity is not Severity.GOOD:
            self._found_in.add((finding.rule, finding.program))
        if not later:
            self._fresh[key] = None
        if key in self._situations and key in self._trails:  # what the lighter one told of is still to be asked about
            self._others.setdefault(key, []).append(self._trails[key])
        self._follow(key, trail)
        return key

    def widen(self, key: Key, situations: Mapping[Key, Callable[[], Trail]], is_new: bool = False) -> None:
        """What was found is found in these situations too: each is asked about once, as far as there are not too many.

        ``is_new``: the finding was reported just now, and its own trail is about the first of them.
        """
        if key not in self._findings:
            return
        known = self._situations.setdefault(key, set())
        for number, (situation, make) in enumerate(situations.items()):
            if situation in known:
                continue
            known.add(situation)
            if is_new and number == 0:
                continue
            others = self._others.setdefault(key, [])
            if len(others) == OTHERS:
                self._unjudged[key] = self._unjudged.get(key, 0) + 1
                continue
            trail = make()
            others.append(trail)
            for pid in trail.followed:
                self._following.setdefault(pid, {})[*key, "situation", len(others)] = trail
            self._fresh[key] = None

    def _with_others(self, key: Key, finding: Finding) -> Finding:
        others = tuple((trail.case(), trail.timeline()) for trail in self._others.get(key, ()))
        return replace(finding, others=others, unjudged=self._unjudged.get(key, 0))

    def soften(self, key: Key, severity: Severity, because: str) -> None:
        """It is not as bad as it looked.

        An error stays one, and so does what was found more than once: not all of it is explained away.
        """
        finding = self._findings.get(key)
        if finding is not None and finding.severity is Severity.WARNING and finding.times == 1:
            explanation = f"{finding.explanation} {because}"
            self._findings[key] = replace(finding, severity=severity, explanation=explanation)

    def withdraw(self, key: Key) -> None:
        """It came to nothing."""
        if self._findings.pop(key, None) is not None:
            self._fresh.pop(key, None)
            self._situations.pop(key, None)
            self._others.pop(key, None)
            self._follow(key, None)

    def _crowded(self, finding: Finding, trail: Trail | None) -> Key:
        last = next(k for k in reversed(self._findings) if self._findings[k].rule == finding.rule)
        self._count(last)
        if trail is not None:
            self._unjudged[last] = self._unjudged.get(last, 0) + 1
        return last

    def _follow(self, key: Key, trail: Trail | None) -> None:
        old = self._trails.pop(key, None)
        if old is not None:
            for pid in old.followed:
                self._following.get(pid, {}).pop(key, None)
        if trail is not None:
            self._trails[key] = trail
            for pid in trail.followed:
                self._following.setdefault(pid, {})[key] = trail

    @property
    def is_following(self) -> bool:
        return bool(self._following)

    def feed(self, seen: Seen) -> None:
        """Pass an event on to the findings that its process is part of."""
        trails = self._following.get(seen.pid)
        if trails is None:
            return
        for key, trail in tuple(trails.items()):
            if not trail.feed(seen) or seen.pid not in trail.followed:
                trails.pop(key)
        if not trails:
            self._following.pop(seen.pid)

    def fresh(self) -> list[Finding]:
        """What was found since the last time somebody asked."""
        if not self._fresh:
            return []
        found = [self._with_others(key, self._findings[key]) for key in self._fresh]
        self._fresh.clear()
        return found

    def found(self) -> Iterator[Finding]:
        """Everything, as it is known by now. What a heavier finding says of the same pages is not said again."""
        heavy = [f for f in self._findings.values() if f.rule == WHOLE]
        for key, finding in self._findings.items():
            if finding.rule == PART and any(_covers(f, finding) for f in heavy):
                continue
            if finding.severity is Severity.GOOD and self.has(finding.rule, finding.program):
                continue
            trail = self._trails.get(key)
            if trail is not None:
                finding = replace(finding, case=trail.case(), timeline=trail.timeline())
            yield self._with_others(key, finding)
