"""What commands print, word for word: ``golden/NAME.txt``.

After a wanted change: ``COWCATCHER_ACCEPT=1 pytest tests/cli/test_golden.py``, then read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli import recorded
from tests.cli.conftest import HERE, Command, timeless

#: Golden file -> command line.
COMMANDS = {
    "check_one_kernel": "check rdma_fork_write.cow --kernel v5.9-rc4",
    "check_one_kernel_holds": "check rdma_fork_write.cow --kernel v5.9",
    "check_line": "check rdma_fork_write.cow",
    "check_unexpected": "check wrong_expectation.cow",
    "check_not_applicable": "check huge_page.cow --kernel v5.9",
    "check_could_not_tell": "check large.cow --kernel v5.9 --max-states 1000",
    "check_vacuous": "check nobody_runs.cow --kernel v5.9",
    "check_sometimes": "check sometimes_three.cow --kernel v6.12",
    "check_outcomes": "check rdma_fork_write.cow --outcomes --kernel v5.8..v5.9",
    "check_matrix": "check rdma_fork_write.cow rdma_fork_wait.cow wrong_expectation.cow huge_page.cow",
    "check_matrix_narrow": "check rdma_fork_write.cow rdma_fork_wait.cow --kernel all --width 50",
    "check_decision": "check rdma_fork_write.cow --kernel v5.8..v5.9 --decision copy_pinned.py",
    "check_json": "check rdma_fork_write.cow --kernel v5.9-rc4,v5.9 --json",
    "check_ktap": "check rdma_fork_write.cow rdma_fork_wait.cow huge_page.cow --kernel v5.8..v5.9,v5.10.y --ktap",
    "explain_shortest": "explain rdma_fork_write.cow --kernel v5.9-rc4",
    "explain_claim": "explain rdma_fork_write.cow --kernel v5.9-rc4 --check always",
    "explain_full": "explain rdma_fork_write.cow --kernel v5.9-rc4 --check always --full --width 120",
    "explain_narrow": "explain rdma_fork_write.cow --kernel v5.9-rc4 --check always --width 60",
    "explain_holds": "explain rdma_fork_write.cow --kernel v5.9",
    "explain_decision": "explain rdma_fork_write.cow --kernel v5.9-rc4 --decision copy_pinned.py",
    "explain_sometimes": "explain sometimes_three.cow --kernel v6.12",
    "explain_json": "explain rdma_fork_write.cow --kernel v5.9-rc4 --json",
    "audit_trace": "audit --strace ../../audit/real/recordings/reader.strace --kernel v6.1",
    "audit_trace_good": "audit --strace ../../audit/real/recordings/reader.strace --kernel v6.12 --width 72",
    "audit_trace_full": "audit --strace ../../audit/real/recordings/rdma_init_malloc_touch.strace --full",
    "audit_trace_json": "audit --strace ../../audit/real/recordings/workers.strace --kernel v5.9-rc4 --json",
    "audit_trace_nothing": "audit --strace ../../audit/real/recordings/workers-shared.strace --kernel v6.12",
    "audit_nothing_named": "audit",
    "bisect": "bisect rdma_fork_wait.cow",
    "bisect_decision": "bisect rdma_fork_wait.cow --kernel v5.9-rc4 --decision copy_pinned.py",
    "bisect_nothing": "bisect sometimes_three.cow --kernel v5.9..v6.0",
    "shrink": "shrink rdma_fork_write.cow --kernel v5.9-rc4",
    "shrink_claim": "shrink rdma_fork_write.cow --kernel v5.9-rc4 --claim 1",
    "shrink_json": "shrink rdma_fork_write.cow --kernel v5.9-rc4 --check coherent --holds-on v5.9.. --json",
    "generate": "generate RegMr Fork Store.p Dma.r",
    "generate_axes": "generate --axes cow.c --check",
    "generate_check": "generate RegMr Fork Store.p Dma.r --check --kernel v5.8..v5.9",
    "generate_every": "generate --all-words 2 --letters Store.p,Load.p",
    "generate_json": "generate --all-words 3 --letters Fork,Load.c,Store.p --check --kernel v5.9 --json",
    "generate_letters": "generate --list",
    "generate_mistake": "generate RegMr Fork Stor.p",
    "generate_parallel": "generate RegMr Fork Store.p | Load.c",
    "kernels_diff": "kernels diff v5.9-rc4 v5.9",
    "report_many": "report RECORDED/many.jsonl",
    "report_many_full": "report RECORDED/many.jsonl --full --width 120",
    "report_many_narrow": "report RECORDED/many.jsonl --width 60",
    "report_flaky": "report RECORDED/flaky.jsonl",
    "report_flaky_ktap": "report RECORDED/flaky.jsonl --ktap",
    "report_alone": "report RECORDED/alone.jsonl",
    "report_alone_json": "report RECORDED/alone.jsonl --json",
    "fmt_diff": "fmt --diff rdma_fork_write.cow",
    "mistake_test": "check ../mistakes/misspelt.cow rdma_fork_write.cow",
    "mistake_decision": "check rdma_fork_write.cow --decision ../mistakes/no_such_question.py",
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for RECORDED."""
    place = tmp_path_factory.mktemp("recorded")
    for made_up in (recorded.many, recorded.flaky, recorded.alone):
        made_up(place / f"{made_up.__name__}.jsonl")
    return place


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_golden(name: str, cowcatcher: Command, recordings: Path) -> None:
    said = cowcatcher(*COMMANDS[name].replace("RECORDED", str(recordings)).split())
    text = f"$ cowcatcher {COMMANDS[name]}\n{said.out}"
    if said.err:
        text += f"--- standard error\n{said.err}"
    text = timeless(f"{text}--- exit status {said.status}\n").replace(str(recordings), "RECORDED")
    golden = HERE / "golden" / f"{name}.txt"
    if os.environ.get("COWCATCHER_ACCEPT"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_golden_has_its_command() -> None:
    assert {p.stem for p in (HERE / "golden").glob("*.txt")} == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(n for n in COMMANDS if "json" not in n))
def test_what_a_person_reads_is_plain(name: str) -> None:
    """ASCII without escapes, and within the width that was asked for: fit for a mail."""
    words = COMMANDS[name].split()
    width = int(words[words.index("--width") + 1]) if "--width" in words else 100
    _, *lines = (HERE / "golden" / f"{name}.txt").read_text().rstrip("\n").split("\n")
    lines = [line for line in lines if not line.startswith("---")]
    assert all(" " <= c <= "~" for line in lines for c in line)
    if "fmt" not in name and "ktap" not in name:
        assert max(map(len, lines)) <= width
