"""Answers of a kernel in plain English, and how a commit is cited."""

from __future__ import annotations

from cowcatcher.report.record import Record

#: (question, answer is non-zero) -> what the actor meets, with {facts} and the {decision} that answers.
_CLAUSES = {
    ("wp_takes_page_lock", False): "{decision} looks at the page without its lock",
    ("wp_takes_page_lock", True): "{decision} wants the page lock first",
    ("wp_waits_for_page_lock", False): "finds the page locked, so {decision} makes it copy at once",
    ("wp_waits_for_page_lock", True): "finds the page locked, and {decision} waits",
    ("wp_can_reuse", False): "finds the page with {counts}, so {decision} makes it copy",
    ("wp_can_reuse", True): "finds the page with {counts}, so {decision} lets it write in place",
    ("gup_read_breaks_cow", False): "asks to read, and {decision} takes the page as it is, shared or not",
    ("gup_read_breaks_cow", True): "asks to read, and {decision} makes it a write",
    ("gup_must_unshare", False): "takes a reference to the page, and {decision} does not unshare it first",
    ("gup_must_unshare", True): "takes a reference to the page, and {decision} unshares it first",
    ("gup_forced_write_ok", False): "finds a read-only pte, and {decision} refuses to write through it",
    ("gup_forced_write_ok", True): "finds a read-only pte, and {decision} writes through it",
    ("gup_fast_checks_write_protect_seq", False):
        "takes the page locklessly, and {decision} does not ask whether a fork is under way",
    ("gup_fast_checks_write_protect_seq", True):
        "takes the page locklessly, and {decision} asks whether a fork is under way",
    ("fork_copies_now", False): "meets a page {counts}, and {decision} shares it with the child instead of copying it",
    ("fork_copies_now", True): "meets a page {counts}, and {decision} copies it for the child",
    ("fork_leaves_out", False): "meets a page {counts}, and {decision} maps it in the child",
    ("fork_leaves_out", True): "meets a page {counts}, and {decision} leaves it out of the child",
    ("reclaim_keeps", False): "meets a page {counts}, and {decision} takes it",
    ("reclaim_keeps", True): "meets a page {counts}, and {decision} leaves it alone",
    ("unmap_refuses", False): "meets a page {counts}, and {decision} unmaps it",
    ("unmap_refuses", True): "meets a page {counts}, and {decision} refuses to unmap it",
    ("swap_entry_remembers_exclusive", False): "is unmapped, and {decision} does not note that it was exclusive",
    ("swap_entry_remembers_exclusive", True): "is unmapped, and {decision} notes that it was exclusive",
    ("swapin_sheds_swapcache", False): "brings the page back from swap, and {decision} leaves it in the swap cache",
    ("swapin_sheds_swapcache", True): "brings the page back from swap, and {decision} drops it from the swap cache",
    ("swapin_is_exclusive", False):
        "brings the page back from swap with {counts}, and {decision} does not take it for its own",
    ("swapin_is_exclusive", True): "brings the page back from swap with {counts}, and {decision} takes it for its own",
    ("swapin_read_maps_writable", False): "brings the page back from swap, and {decision} maps it read-only",
    ("swapin_read_maps_writable", True): "brings the page back from swap, and {decision} maps it writable",
    ("lazyfree_discards", False): "meets an MADV_FREE page with {counts}, and {decision} keeps it",
    ("lazyfree_discards", True): "meets an MADV_FREE page with {counts}, and {decision} throws it away",
    ("lazyfree_ends", False): "meets an MADV_FREE page that it cannot have, and {decision} leaves it given up",
    ("lazyfree_ends", True): "meets an MADV_FREE page that it cannot have, and {decision} makes it an ordinary page",
    ("uffd_resolve_restores_write", False): "releases the page, and {decision} leaves the pte read-only",
    ("uffd_resolve_restores_write", True): "releases the page, and {decision} makes the pte writable if it may",
    ("mprotect_restores_write", False): "gives write permission back, and {decision} leaves the pte read-only",
    ("mprotect_restores_write", True): "gives write permission back, and {decision} makes the pte writable at once",
    ("clear_refs_skips", False): "meets a page {counts}, and {decision} write-protects it",
    ("clear_refs_skips", True): "meets a page {counts}, and {decision} leaves it writable",
}  # fmt: skip


def clause(asked: Record) -> str:
    """What was found and decided, to be read after "parent's store(buf, 2) …"."""
    decision = f"`{asked['decision']['name']}`"
    text = _CLAUSES.get((asked["question"], bool(asked["answer"])))
    if text is None:
        facts = facts_text(asked["facts"], full=True)
        return f"asks {asked['question']}({facts}), and {decision} answers {answer_text(asked)}"
    return text.format(decision=decision, counts=_counts(asked["facts"]))


#: Facts that are yes or no.
_FLAGS = {
    "exclusive",
    "pinned",
    "has_pinned",
    "cow",
    "anon",
    "dirty",
    "write",
    "served",
    "readonly",
    "swapcache",
    "writable",
}


def facts_text(facts: dict[str, int], full: bool = False) -> str:
    """What a question was asked about; what is not the case is left out unless ``full``."""
    told = []
    for name, value in facts.items():
        if name == "foll":
            told.append(flags_text(value))
        elif full or value:
            told.append(name if name in _FLAGS and value else f"not {name}" if name in _FLAGS else f"{name} {value}")
    return ", ".join(told)


def answer_text(asked: Record) -> str:
    if asked["question"].startswith("foll_"):
        return flags_text(asked["answer"])
    return {0: "no", 1: "yes"}.get(asked["answer"], str(asked["answer"]))


def flags_text(foll: int) -> str:
    """``FOLL_PIN|WRITE|LONGTERM``."""
    from cowcatcher import state

    names = ("PIN", "GET", "TOUCH", "WRITE", "FORCE", "LONGTERM", "FAST")
    found = [name for name in names if foll & int(getattr(state, f"FOLL_{name}"))]
    return f"FOLL_{'|'.join(found)}" if found else "no flags"


def _counts(facts: dict[str, int]) -> str:
    """``refcount 1026 and mapcount 2, pinned``."""
    parts = [f"{name} {facts[name]}" for name in ("refcount", "mapcount") if name in facts]
    words = [" and ".join(parts)] if parts else []
    if "pinned" in facts:
        words.append("pinned" if facts["pinned"] else "not pinned")
    if facts.get("exclusive"):
        words.append("exclusive")
    if not parts:
        return "that is " + " and ".join(words) if words else "as it is"
    return ", ".join(words)


def cited(commits: list[Record]) -> str:
    """Commits as kernel people cite them: ``09854ba94c6a ("mm: do_wp_page() simplification")``."""
    return ", ".join(f'{c["id"]} ("{c["subject"]}")' if c["subject"] else str(c["id"]) for c in commits)


def with_commits(decision: Record) -> str:
    """`name` (its commits), or `name` alone for what was always there or was never merged."""
    name = f"`{decision['name']}`"
    return f"{name} ({cited(decision['commits'])})" if decision["commits"] else name


def listed(items: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))
