"""Known-bad kernels: which decisions a control answers otherwise than the kernel that it was made from.

``cowcatcher kernels build`` makes kernels with rules that a boot parameter breaks (``real/controls``). A rule that is
broken there is a question answered otherwise here, so the model of such a kernel is the model of its source with those
answers replaced. A test that turns red on no control has shown nothing yet about a real kernel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cowcatcher.kernels import decisions as d
from cowcatcher.kernels.decision import Decision, decision
from cowcatcher.kernels.kernel import KERNELS, Kernel, UnknownKernel, kernel_of_release


@dataclass(frozen=True, slots=True)
class Control:
    """``rule`` is the name that the boot parameter takes; ``base`` the modelled kernel that it is made for.

    ``decisions`` take the place of the base's answers. ``seen`` is false where only a race between two actors shows the
    difference, which a run in a fixed order cannot.
    """

    rule: str
    base: str
    decisions: tuple[Decision, ...]
    seen: bool = True

    def kernel(self) -> Kernel:
        """The model of the kernel that is broken so."""
        return break_rules(KERNELS[self.base], [self.rule])


# --- answers that no kernel ever gave ---------------------------------------------------------------------------------


@decision("wp_can_reuse", source="control: mm/memory.c:do_wp_page")
def reuse_always(exclusive: int, refcount: int, mapcount: int, swapcount: int, pinned: int) -> int:
    """Whoever writes first writes for everybody: no copy-on-write at all."""
    return 1


@decision("wp_can_reuse", source="control: mm/memory.c:do_wp_page")
def reuse_never(exclusive: int, refcount: int, mapcount: int, swapcount: int, pinned: int) -> int:
    """Every write fault copies, even for the only user of a page."""
    return 0


@decision("wp_can_reuse", source="control: mm/memory.c:do_wp_page")
def reuse_if_unreferenced(exclusive: int, refcount: int, mapcount: int, swapcount: int, pinned: int) -> int:
    """The exclusive marker is there and is not asked: references are counted, as in 5.18."""
    return 1 if refcount == 1 else 0


@decision("mprotect_restores_write", source="control: mm/mprotect.c:can_change_private_pte_writable")
def restore_write_always(exclusive: int, dirty: int) -> int:
    """mprotect(RW) makes every private anonymous pte writable, shared with a child or not."""
    return 1


@decision("swapin_is_exclusive", source="control: mm/memory.c:do_swap_page")
def swapin_always_exclusive(write: int, entry_exclusive: int, refcount: int, mapcount: int, swapcount: int) -> int:
    """A page that comes back from swap belongs to whoever asked first, and to whoever asks next."""
    return 1


# --- the table --------------------------------------------------------------------------------------------------------

_COUNTING, _MARKING = "v5.10.y", "v7.3"

CONTROLS: tuple[Control, ...] = (
    Control("fork-ignores-pins", _COUNTING, (d.fork_shares_everything,)),
    Control("reuse-by-mapcount", _COUNTING, (d.reuse_if_sole_mapping,)),
    Control("reuse-always", _COUNTING, (reuse_always,)),
    Control("reuse-never", _COUNTING, (reuse_never,)),
    Control("reclaim-takes-pinned", _COUNTING, (d.reclaim_takes_pinned,)),
    Control("lazyfree-ignores-references", _COUNTING, (d.discard_if_clean,)),
    Control("clear-refs-ignores-pins", _COUNTING, (d.clear_refs_protects_everything,)),
    Control("gup-fast-ignores-fork", _COUNTING, (d.no_fork_check_in_gup_fast,), seen=False),
    Control("fork-ignores-pins", _MARKING, (d.fork_shares_everything,)),
    Control("reuse-by-mapcount", _MARKING, (d.reuse_if_sole_mapping,)),
    Control("reuse-always", _MARKING, (reuse_always,)),
    Control("reuse-never", _MARKING, (reuse_never,)),
    Control("wp-ignores-exclusive", _MARKING, (reuse_if_unreferenced,)),
    Control("gup-never-unshares", _MARKING, (d.pin_shared_pages,)),
    Control("gup-unshares-anon-only", _MARKING, (d.unshare_anon_before_pin,)),
    Control("swap-ignores-pins", _MARKING, (d.reclaim_takes_pinned, d.unmap_whatever_is_pinned)),
    Control("swap-forgets-exclusive", _MARKING, (d.swap_forgets_exclusive,)),
    Control("swapin-always-exclusive", _MARKING, (swapin_always_exclusive,)),
    Control("lazyfree-ignores-references", _MARKING, (d.discard_if_clean,)),
    Control("mprotect-always-restores-write", _MARKING, (restore_write_always,)),
    Control("wp-keeps-swapcache", _MARKING, (d.count_swapcache,)),
    Control("gup-fast-ignores-fork", _MARKING, (d.no_fork_check_in_gup_fast,), seen=False),
)


def modelled(release: str, broken: Iterable[str] = ()) -> Kernel:
    """The model of a kernel of that release in which these rules are broken. Raises UnknownKernel."""
    return break_rules(kernel_of_release(release), broken)


def break_rules(kernel: Kernel, broken: Iterable[str]) -> Kernel:
    """The same kernel with these rules broken, named ``KERNEL+RULE``.

    The controls of one modelled kernel stand for others that know exclusive pages by the same means. Raises
    UnknownKernel for a rule that has no model.
    """
    known = {c.rule: c for c in CONTROLS if _generation(KERNELS[c.base]) == _generation(kernel)}
    changes: list[Decision] = []
    names = [kernel.name]
    for rule in broken:
        if rule not in known:
            there = ", ".join(known)
            raise UnknownKernel(f"{kernel.name} has no model with '{rule}' broken; there is one for: {there}")
        changes += known[rule].decisions
        names.append(rule)
    return kernel.with_decisions(*changes, name="+".join(names)) if changes else kernel


def _generation(kernel: Kernel) -> str:
    return kernel.decisions["tracks_exclusive"].name
