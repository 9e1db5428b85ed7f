"""How much was watched, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cowcatcher.audit.events import Event, Execed, Exited, Forked, Lost, Pinned, Present

_COUNTED = frozenset({Forked, Present, Execed, Exited, Pinned, Lost})


@dataclass(slots=True)
class Seen:
    """Counts of what an audit was told. ``started``: when the first thing happened that has a time."""

    events: int = 0
    lines: int = 0
    forks: int = 0
    pins: int = 0
    lost: int = 0
    started: float = 0.0
    ended: float = 0.0
    living: set[int] = field(default_factory=set)  # processes whose end was not seen
    _processes: set[int] = field(default_factory=set)
    _threads: set[int] = field(default_factory=set)

    def count(self, event: Event) -> None:
        self.events += 1
        self.lines = event.line or self.lines
        if event.time:
            self.started = self.started or event.time
            self.ended = event.time
        kind = type(event)
        if kind in _COUNTED:
            self._more(event)
        elif event.task not in self._threads:
            self._processes.add(event.task)

    def _more(self, event: Event) -> None:
        match event:
            case Forked():
                self.forks += not event.shares_mm
                (self._threads if event.thread else self._processes).add(event.child)
                if not event.thread:
                    self.living.add(event.child)
            case Present():
                self._processes.add(event.process)
                self._threads.add(event.task)
            case Execed():
                self._threads.discard(event.task)
                self._processes.add(event.task)
                self.living.add(event.task)
            case Exited():
                self.living.discard(event.task)
                if event.task not in self._threads:
                    self._processes.add(event.task)
            case Pinned():
                self.pins += 1
            case Lost():
                self.lost += 1
            case _:
                pass

    def record(self) -> dict[str, Any]:
        return {
            "events": self.events,
            "lines": self.lines,
            "processes": len(self._processes),
            "forks": self.forks,
            "pins": self.pins,
            "lost": self.lost,
            "living": len(self.living),
            "started": self.started,
            "seconds": self.ended - self.started,
        }
