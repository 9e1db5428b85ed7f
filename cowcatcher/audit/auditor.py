"""Events in, findings out."""

from __future__ import annotations

from cowcatcher.audit.events import Event
from cowcatcher.audit.finding import Finding
from cowcatcher.audit.ledger import Ledger
from cowcatcher.audit.rules import ALL
from cowcatcher.audit.rules.rule import Rule
from cowcatcher.audit.story import Story

NONE: list[Rule] = []


class Auditor:
    """``feed`` every event, in order; what is decided by then comes back at once, for those who watch.

    ``finish`` gives every finding, those that ``feed`` gave among them (they have the same ``key``): complete with how
    often each came, and with what became of the processes afterwards. A finding may come from ``feed`` a second time,
    with the same key, when it has become graver; and may be missing, or lighter, in the end, when what came after has
    explained it: growth that levelled off, memory given back just before exit().

    The severities are what the events alone say. Where there is a ``case``, ``judge`` settles them.
    """

    def __init__(self) -> None:
        self.story = Story()
        self._ledger = Ledger()
        self._rules = [rule(self._ledger) for rule in ALL]
        self._always: dict[type[Event], list[Rule]] = {}
        self._of_pinned: dict[type[Event], list[Rule]] = {}
        for rule in self._rules:
            for event in rule.wants:
                self._always.setdefault(event, []).append(rule)
            for event in rule.wants_of_pinned:
                self._of_pinned.setdefault(event, []).append(rule)

    def feed(self, event: Event) -> list[Finding]:
        rules = self._always.get(type(event), NONE)
        others = self._of_pinned.get(type(event))
        if others is not None and len(self.story.process_of(event.task).memory.pins):
            rules = rules + others
        seen = self.story.seen(event)
        self._ledger.next()
        for rule in rules:
            rule.see(self.story, seen)
        self.story.happened(seen)
        if self._ledger.is_following:
            self._ledger.feed(seen)
        return self._ledger.fresh()

    def finish(self) -> list[Finding]:
        self._ledger.no_more()
        for rule in self._rules:
            rule.finish(self.story)
        return list(self._ledger.found())
