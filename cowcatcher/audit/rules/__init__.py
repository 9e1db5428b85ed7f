"""The rules of an audit, by name."""

from __future__ import annotations

from cowcatcher.audit.rules.advice import DoforkMissing, DontforkTooLate
from cowcatcher.audit.rules.dontfork import DontforkChildTouches, DontforkNeighbours
from cowcatcher.audit.rules.forks import DirectIoAcrossFork, ForkSharesPinned, HugeCopyAtFork
from cowcatcher.audit.rules.good import AllInOrder
from cowcatcher.audit.rules.growth import VmaGrowth
from cowcatcher.audit.rules.lost import LostSight
from cowcatcher.audit.rules.partial import PartialPage
from cowcatcher.audit.rules.pinned import FreedWhilePinned, MovedUnderPin, OverwrittenInFlight
from cowcatcher.audit.rules.protection import ForkProtection
from cowcatcher.audit.rules.rule import Rule as Rule
from cowcatcher.audit.rules.rule import Text as Text

#: Good news last: there is none where something was found.
ALL: tuple[type[Rule], ...] = (
    ForkSharesPinned,
    DirectIoAcrossFork,
    DontforkNeighbours,
    DontforkChildTouches,
    DontforkTooLate,
    DoforkMissing,
    FreedWhilePinned,
    PartialPage,
    ForkProtection,
    VmaGrowth,
    HugeCopyAtFork,
    OverwrittenInFlight,
    MovedUnderPin,
    LostSight,
    AllInOrder,
)

#: What each rule says, why it matters, and where that comes from.
RULES: dict[str, Text] = {rule.name: rule.text for rule in ALL}
