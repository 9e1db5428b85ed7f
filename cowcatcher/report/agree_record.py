"""The dictionary behind ``agree``: how many random tests came out alike on each kernel, and which did not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from cowcatcher.agree.campaign import Campaign
from cowcatcher.agree.judge import Status
from cowcatcher.agree.keep import command
from cowcatcher.litmus import to_text
from cowcatcher.report.record import Record, document, kernel_record

#: The share of flaky tests, of those that were compared, up to which the others say enough of a kernel.
MOST_FLAKY: Final = 0.01


def agree_document(campaigns: Sequence[Campaign], kept: Sequence[Sequence[Path]], interrupted: bool = False) -> Record:
    """``kept``: for each campaign the files that its disagreements were written to."""
    rows = [_campaign_record(campaign, files) for campaign, files in zip(campaigns, kept, strict=True)]
    return document("agree", kernels=rows, interrupted=interrupted, exit=130 if interrupted else exit_status(campaigns))


def exit_status(campaigns: Sequence[Campaign]) -> int:
    """1 if anything disagrees; 3 if anything could not be told or too much was flaky; else 0."""
    if any(c.statuses[Status.DISAGREE] for c in campaigns):
        return 1
    return 0 if campaigns and all(map(_was_told, campaigns)) else 3


def _was_told(campaign: Campaign) -> bool:
    """Was something compared, all done, and nothing lost on the way? A few flaky tests there are on a busy machine."""
    of = campaign.statuses
    few = of[Status.FLAKY] <= MOST_FLAKY * (of[Status.AGREE] + of[Status.FLAKY])
    whole = campaign.done == campaign.count and not of[Status.COULD_NOT_TELL] and not campaign.on.lost
    return bool(of[Status.AGREE]) and few and whole


def _campaign_record(campaign: Campaign, kept: Sequence[Path]) -> Record:
    on, left = campaign.on, campaign.count - campaign.done
    return {
        "name": on.name,
        "release": on.release,
        "kernel": kernel_record(on.model) | {"summary": on.model.summary},
        "facilities": asdict(on.facilities),
        "seed": campaign.seed,
        "first": campaign.first,
        "tests": campaign.done,
        "seconds": round(campaign.seconds, 3),
        "lost": on.lost,
        **{status.value.replace(" ", "_"): campaign.statuses[status] for status in Status},
        "registers": campaign.registers,
        "questions": campaign.asked,
        "open": campaign.open,
        "mapcounts": campaign.counted,
        "not_applicable_because": dict(campaign.reasons.most_common()),
        "unsure": [{"number": number, "reason": reason} for number, reason in sorted(campaign.unsure.items())],
        "disagreements": [
            {
                "number": found.number,
                "shrunk": found.shrunk,
                "like": found.like if found.like >= 0 else None,
                "again": command(on, campaign.seed, first=found.number, count=1),
                "differences": list(found.compared.differences),
                "test": to_text(found.compared.test),
            }
            for found in campaign.found
        ],
        "kept": [str(path) for path in kept],
        "go_on": command(on, campaign.seed, first=campaign.first + campaign.done, count=left) if left else None,
    }
