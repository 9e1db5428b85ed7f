"""The state of the modelled machine: one flat vector of small integers, and the names of its parts.

A state is a list of integers 0..255. Objects lie in it one after another, as structs lie in memory; a variable named
after an object (``folio``, ``pte``, ``t``) holds the object's *offset*, and ``s[folio + REFS]`` is a field of it.
Offset arithmetic stands for the kernel's pointers, so the model's functions read like the kernel's, a state can be
hashed and compared as ``bytes(s)``, and nothing in the model depends on Python objects.

How large each part is depends on the test; :class:`Machine` holds the offsets, the program and the kernel's decisions,
and never changes while a test is explored.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from cowcatcher.decision import Decisions

State: TypeAlias = list[int]

# --- header -------------------------------------------------------------------------------------------------------
#: Standing checks broken by the step just taken, as bits; cleared before every step, never part of a stored state.
BROKEN = 0
HEADER_SIZE = 1

BROKE_COHERENT = 1
BROKE_ISOLATED = 2
BROKE_ALIVE = 4

# --- process ------------------------------------------------------------------------------------------------------
P_STATE = 0  # one of the four below
P_MM = 1  # index + 1 of the mm it runs on; its own unless it was started by vfork
PROC_SIZE = 2

UNBORN, RUNNING, EXITING, EXITED = 0, 1, 2, 3

# --- mm -----------------------------------------------------------------------------------------------------------
MM_LOCK = 0  # mmap_lock: readers, or MMAP_WRITER
MM_HAS_PINNED = 1  # MMF_HAS_PINNED: sticky, set before the first FOLL_PIN, not inherited
MM_WP_SEQ = 2  # write_protect_seq, modulo 256; odd while fork copies this mm's page tables
MM_EPOCH = 3  # ghost: forks this mm has completed; stores are signed with it (see sign())
MM_BORN = 4  # ghost: the parent's epoch while it forked this mm
MM_PARENT = 5  # ghost: index + 1 of the mm this one was copied from
MM_FORKING = 6  # ghost: index + 1 of the mm being copied from this one right now
MM_PTL = 7  # page + 1 whose page-table lock a task holds from one step to the next; others never keep it
MM_SIZE = 8

MMAP_WRITER = 255

# --- vma: one per mm and page; a VMA of several pages is several equal ones, since no rule here looks at its extent ---
VMA_SIZE = 1  # its flags, and nothing else

VM_MAPPED = 1
VM_READ = 2
VM_WRITE = 4
VM_SHARED = 8
VM_DONTCOPY = 16
VM_WIPEONFORK = 32
VM_LOCKED = 64
VM_SOFTDIRTY = 128  # set on a new VMA; cleared by clear_refs, and only then are soft-dirty bits of ptes looked at

# --- pte ----------------------------------------------------------------------------------------------------------
PTE_PFN = 0  # frame, when present
PTE_SLOT = 1  # swap slot + 1, when a swap entry
PTE_BITS = 2
PTE_SIZE = 3

PRESENT = 1
WRITE = 2
DIRTY = 4
SOFT_DIRTY = 8
SWP_EXCLUSIVE = 16
UFFD_WP = 32  # write-protected by userfaultfd: a write waits for whoever listens there; kept in swap entries too

# --- folio (struct page): one per frame; frame 0 is "none", frame 1 the shared zero page -----------------------------
KIND = 0
REFS = 1  # references other than FOLL_PIN's; the refcount is folio_ref_count()
MAPCOUNT = 2
PINS = 3  # FOLL_PINs; each counts GUP_PIN_COUNTING_BIAS in the refcount
EXCLUSIVE = 4  # PageAnonExclusive; stays 0 on kernels that do not track it
SWAPCACHE = 5  # swap slot + 1 while in the swap cache
LRU_BATCH = 6  # a reference is held by a per-CPU LRU-add batch
LOCKED = 7  # folio lock: 1 + index of the task that holds it
DIRTY_FOLIO = 8
LAZYFREE = 9  # MADV_FREE took its swap backing away
CROWD = 10  # mapped by GUP_PIN_COUNTING_BIAS further processes, which sleep and are not modelled otherwise
DATA = 11  # then per cell: value, signature of who stored it

FREE, ANON, FILE, ZERO = 0, 1, 2, 3
NO_PFN = 0
ZERO_PFN = 1
FIRST_PFN = 2

GUP_PIN_COUNTING_BIAS = 1024

# --- swap slot ----------------------------------------------------------------------------------------------------
SLOT_COUNT = 0  # swap ptes that name it
SLOT_PFN = 1  # its folio in the swap cache, if any
SLOT_DATA = 2  # contents, once written out and dropped from the swap cache

# --- task: an actor's thread of control, or the kernel's own (reclaim) ------------------------------------------------
T_PROC = 0  # process index + 1; 0 for devices and the kernel's own
T_PC = 1  # statement
T_PHASE = 2  # which step of the statement comes next; 0: its first
T_RET = 3  # the phase that a page fault returns to
T_MM = 4  # mm index + 1 that the steps below work on (a remote one for peek, poke, process_vm_*, ODP)
T_PAGE = 5  # current page
T_END = 6  # one past the last page
T_FLAGS = 7  # FOLL_* of the request
T_FAULT = 8  # FAULT_FLAG_*
T_OLD = 9  # frame on which a temporary reference is held
T_NEW = 10  # frame freshly allocated, not yet mapped
T_ORIG_PFN = 11  # orig_pte: what the page table held when it was looked at
T_ORIG_SLOT = 12
T_ORIG_BITS = 13
T_SEQ = 14  # write_protect_seq as read at the start of GUP-fast
T_AUX = 15  # see the functions that use it
T_ERROR = 16  # what the statement will return at its end, if it goes on after an error
T_MODE = 17  # what the request is for, where steps are shared (populate; GUP with or without a handle)
TASK_SIZE = 18

# --- pin handle (a memory region, a registered buffer, an I/O in flight): fixed part, then per page PIN_PAGE_SIZE ---
PIN_HELD = 0
PIN_MODE = 1  # MODE_* bits
PIN_MM = 2  # mm index + 1 of its owner
PIN_PAGES = 3

NOT_TAKEN, TAKING, HELD, RELEASED = 0, 1, 2, 3
MODE_WRITE = 1
MODE_PROMISES = 2  # read-write or long-term: the page stays with the process that pinned it
MODE_IOMMU = 4  # the device reaches it through an IOMMU mapping that ends with the pin
MODE_ODP = 8  # no reference: the device follows the page table, told of changes by an MMU notifier
MODE_PIN = 16  # FOLL_PIN; else FOLL_GET
MODE_ALL_OR_ENOMEM = 64  # whoever asked takes too few pages for a lack of memory
MODE_DIRTIES = 128  # all pages are marked dirty as soon as they are taken, before the device is told
MODE_CLEAN = 32  # released without marking dirty what the device may have written

PIN_PFN = 0  # the frame
PIN_BOUND = 1  # page + 1 while the owner's address range is still what was pinned; 0 once the owner replaced it
PIN_PAGE_SIZE = 2

# --- registers ----------------------------------------------------------------------------------------------------
UNSET = 0  # never assigned
OK = 1  # a statement that gives no value succeeded
VALUE0 = 2  # VALUE0 + v: the value v
ERROR0 = 64  # ERROR0 + i: ERRORS[i]
ERRORS = (
    "SIGSEGV", "SIGBUS", "EFAULT", "ENOMEM", "EINVAL", "EBUSY", "EAGAIN", "EPERM", "EACCES", "EIO", "ESRCH",
    "IOMMU_FAULT",
)  # fmt: skip
SIGSEGV = ERROR0 + ERRORS.index("SIGSEGV")
EFAULT = ERROR0 + ERRORS.index("EFAULT")
ENOMEM = ERROR0 + ERRORS.index("ENOMEM")
EINVAL = ERROR0 + ERRORS.index("EINVAL")
EIO = ERROR0 + ERRORS.index("EIO")
ESRCH = ERROR0 + ERRORS.index("ESRCH")
EPERM = ERROR0 + ERRORS.index("EPERM")
IOMMU_FAULT = ERROR0 + ERRORS.index("IOMMU_FAULT")

# --- request flags --------------------------------------------------------------------------------------------------
FOLL_WRITE = 1
FOLL_FORCE = 2
FOLL_LONGTERM = 4
FOLL_PIN = 8
FOLL_GET = 16
FOLL_FAST = 32  # try GUP-fast first
FOLL_TOUCH = 64  # slow GUP marks dirty what will be written

FAULT_WRITE = 1
FAULT_UNSHARE = 2

#: One statement of a task's program: opcode, then its operands; what each means is the opcode's business.
Op: TypeAlias = tuple[int, ...]
OP_REG = 1  # every op: [opcode, register index + 1 or 0, …]
OP_ARGS = 2


class Machine(NamedTuple):
    """Where everything lies, what every task executes, and how this kernel decides. Immutable."""

    k: Decisions
    n_procs: int
    n_pages: int
    n_cells: int
    n_pfns: int
    n_slots: int
    n_tasks: int
    n_pins: int
    folio_size: int
    slot_size: int
    pin_size: int
    procs: int
    mms: int
    vmas: int
    ptes: int
    folios: int
    slots: int
    cache: int  # per page: the frame that backs it in the page cache, or NO_PFN
    tasks: int
    pins: int
    events: int
    regs: int
    inherited: int  # ghost: per mm, page and cell: 1 + the value a forked child took over and has not replaced
    size: int
    programs: tuple[tuple[Op, ...], ...]
    regions: tuple[tuple[int, int], ...]  # per page: the mapping it belongs to (first page, end)
    cached: tuple[int, ...]  # per page: 1 if the page cache has it from the start, so that a fault maps it with others
    hugetlb: tuple[int, ...]  # per page: 1 if it is a huge page of the pool (its size is not modelled)
    pfn_fields: tuple[int, ...]  # offsets of every field that holds a frame number, in canonical order
    # What others have to reckon with, by task and statement: see explore.effects.
    alone: tuple[tuple[int, ...], ...] = ()
    may_write: tuple[tuple[int, ...], ...] = ()
    may_reach: tuple[tuple[int, ...], ...] = ()
    may_hold: tuple[tuple[int, ...], ...] = ()
    may_unbind: tuple[tuple[int, ...], ...] = ()
    may_unpin: tuple[tuple[int, ...], ...] = ()
    may_count: tuple[tuple[int, ...], ...] = ()
    may_weigh: tuple[tuple[int, ...], ...] = ()
    waits: tuple[tuple[int, ...], ...] = ()
    born: tuple[int, ...] = ()
    vforks: int = 0  # whether any process may come to live in another's memory
    reduces: int = 0  # whether steps that commute are taken in one order only; then also:
    keeps_shared: int = 0  # what is known of this kernel, see explore.effects.keeps
    keeps_pinned: int = 0


# --- addresses ------------------------------------------------------------------------------------------------------


def mm_at(m: Machine, mm: int) -> int:
    return m.mms + mm * MM_SIZE


def vma_at(m: Machine, mm: int, page: int) -> int:
    return m.vmas + (mm * m.n_pages + page) * VMA_SIZE


def pte_at(m: Machine, mm: int, page: int) -> int:
    return m.ptes + (mm * m.n_pages + page) * PTE_SIZE


def folio_at(m: Machine, pfn: int) -> int:
    return m.folios + pfn * m.folio_size


def slot_at(m: Machine, slot: int) -> int:
    return m.slots + slot * m.slot_size


def pin_at(m: Machine, pin: int) -> int:
    return m.pins + pin * m.pin_size


def pin_page_at(m: Machine, pin: int, page: int) -> int:
    """The record of the ``page``-th page of the handle."""
    return m.pins + pin * m.pin_size + PIN_PAGES + page * PIN_PAGE_SIZE


def task_index(m: Machine, t: int) -> int:
    return (t - m.tasks) // TASK_SIZE


def current_op(m: Machine, s: State, t: int) -> Op:
    """The statement that the task executes."""
    return m.programs[(t - m.tasks) // TASK_SIZE][s[t + T_PC]]


def current_mm(m: Machine, s: State, t: int) -> int:
    """Index of the mm that the task's process runs on."""
    return s[m.procs + (s[t + T_PROC] - 1) * PROC_SIZE + P_MM] - 1
