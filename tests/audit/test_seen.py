"""What was watched, in numbers."""

from __future__ import annotations

from cowcatcher.audit.seen import Seen
from tests.audit.rules.tale import Tale


def test_who_lives_on() -> None:
    seen = Seen()
    for event in Tale().thread().fork(200).fork(300).exit(200).exit(100).events:
        seen.count(event)
    assert seen.living == {300}
    assert (seen.record()["processes"], seen.record()["living"]) == (3, 1)
