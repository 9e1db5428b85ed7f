"""The JSON is the whole truth: every text can be made from it again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cowcatcher.report.bisect_text import bisect_text
from cowcatcher.report.check_ktap import check_ktap
from cowcatcher.report.check_text import check_text
from cowcatcher.report.doctor_text import doctor_text
from cowcatcher.report.explain_text import explain_text
from cowcatcher.report.generate_text import generate_text
from cowcatcher.report.kernels_text import decisions_text, diff_text, kernel_text, kernels_text
from cowcatcher.report.shrink_text import shrink_text
from cowcatcher.report.style import PLAIN, Style
from tests.cli.conftest import Command, timeless

RENDERINGS: dict[str, Any] = {
    "check rdma_fork_write.cow": lambda doc: check_text(doc, PLAIN),
    "check rdma_fork_write.cow --kernel v5.9-rc4": lambda doc: check_text(doc, PLAIN),
    "check rdma_fork_write.cow --outcomes": lambda doc: check_text(doc, PLAIN, outcomes=True),
    "check rdma_fork_write.cow rdma_fork_wait.cow huge_page.cow": lambda doc: check_text(doc, PLAIN),
    "check rdma_fork_write.cow huge_page.cow --ktap": check_ktap,
    "explain rdma_fork_write.cow --kernel v5.9-rc4": lambda doc: explain_text(doc, PLAIN),
    "explain rdma_fork_write.cow --kernel v5.9-rc4 --full": lambda doc: explain_text(doc, PLAIN, full=True),
    "explain rdma_fork_write.cow --kernel v5.9": lambda doc: explain_text(doc, PLAIN),
    "explain rdma_fork_write.cow --kernel v5.7 --color always": lambda doc: explain_text(doc, Style(color=True)),
    "bisect rdma_fork_wait.cow": lambda doc: bisect_text(doc, PLAIN),
    "shrink rdma_fork_write.cow --kernel v5.9-rc4": lambda doc: shrink_text(doc),
    "generate RegMr Fork Store.p Dma.r": lambda doc: generate_text(doc, PLAIN),
    "generate RegMr Fork Store.p Dma.r --check": lambda doc: generate_text(doc, PLAIN),
    "generate --axes cow.c --check --kernel v5.9": lambda doc: generate_text(doc, PLAIN),
    "kernels": lambda doc: kernels_text(doc, PLAIN),
    "kernels v5.19": lambda doc: kernel_text(doc["kernels"][0], PLAIN),
    "kernels diff v5.7 v7.3": lambda doc: diff_text(doc, PLAIN),
    "kernels decisions": lambda doc: decisions_text(doc, PLAIN),
    "doctor": lambda doc: doctor_text(doc, PLAIN),
}


@pytest.mark.parametrize("line", RENDERINGS)
def test_text_is_a_rendering_of_the_json(line: str, cowcatcher: Command) -> None:
    words = line.split()
    text = cowcatcher(*words)
    form = [w for w in words if w not in ("--ktap", "--full", "--outcomes")]
    printed = cowcatcher(*form, "--json")
    doc = json.loads(printed.out)
    assert timeless(RENDERINGS[line](doc)) == timeless(text.out)
    assert printed.status == text.status
    assert doc["schema"] == "cowcatcher/1"
    assert doc["command"].split()[0] == words[0]


def test_exit_status_stands_in_the_document(cowcatcher: Command) -> None:
    for name in ("rdma_fork_write", "rdma_fork_wait", "huge_page"):
        said = cowcatcher("check", f"{name}.cow", "--json")
        assert json.loads(said.out)["exit"] == said.status


def test_output_is_the_same_every_time(cowcatcher: Command) -> None:
    line = ("check", "rdma_fork_write.cow", "rdma_fork_wait.cow", "--kernel", "all", "--json")
    assert timeless(cowcatcher(*line).out) == timeless(cowcatcher(*line).out)
