"""Kernels and their decisions as dictionaries, with the commits they came from."""

from __future__ import annotations

from collections.abc import Sequence

from cowcatcher.decision import Decisions
from cowcatcher.kernels import PROPOSAL_NAMES, QUESTIONS, Decision, Kernel, introduced_by
from cowcatcher.kernels.commits import COMMITS, PROPOSALS
from cowcatcher.report.record import Record, document


def decision_record(decision: Decision) -> Record:
    """``taken_by`` is the first kernel of the line that takes it; None for a proposal or a user's own."""
    first = introduced_by(decision)
    return {
        "name": decision.name,
        "question": decision.question,
        "doc": " ".join(decision.doc.split()),
        "source": decision.source,
        "taken_by": first.name if first else None,
        "commits": [commit_record(identity) for identity in decision.commits],
    }


def commit_record(identity: str) -> Record:
    """What is known of a commit; a user's decision may name one that is not known here."""
    commit = COMMITS.get(identity)
    return {
        "id": identity,
        "subject": commit.subject if commit else "",
        "first": commit.first if commit else "",
        "stable": list(commit.stable) if commit else [],
        "link": commit.link if commit else "",
        "note": commit.note if commit else "",
    }


def full_kernel_record(kernel: Kernel) -> Record:
    """A kernel with the answers it changed and the whole table."""
    proposal = PROPOSALS.get(kernel.name)
    return {
        "name": kernel.name,
        "place": kernel.place,
        "kind": "line" if kernel.place is not None else "proposal" if kernel.name in PROPOSAL_NAMES else "stable",
        "summary": kernel.summary,
        "base": kernel.base,
        "changes": [decision_record(d) for d in kernel.changes],
        "decisions": {question: d.name for question, d in kernel.decisions.items()},
        "proposal": None
        if proposal is None
        else {
            "title": proposal.title,
            "date": proposal.date,
            "who": proposal.who,
            "link": proposal.link,
            "note": proposal.note,
        },
    }


def kernels_document(kernels: Sequence[Kernel]) -> Record:
    return document("kernels", kernels=[full_kernel_record(k) for k in kernels])


def diff_document(before: Kernel, after: Kernel) -> Record:
    pairs = before.diff(after)
    return document(
        "kernels diff",
        before=before.name,
        after=after.name,
        differences=[
            {"question": a.question, "before": decision_record(a), "after": decision_record(b)} for a, b in pairs
        ],
    )


def decisions_document(decisions: Sequence[Decision]) -> Record:
    """Every question with what it asks and the facts it gives, and every answer."""
    return document(
        "kernels decisions",
        questions={question: _question_record(question) for question in QUESTIONS},
        decisions=[decision_record(d) for d in decisions],
    )


def _question_record(question: str) -> Record:
    asked = getattr(Decisions, question)
    code = asked.__code__
    facts = code.co_varnames[1 : code.co_argcount]
    return {"asks": " ".join((asked.__doc__ or "").split()), "facts": list(facts)}
