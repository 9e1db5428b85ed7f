"""The transition relation, for the compiler: what ``explore.successors`` yields, written into the engine's buffers.

These functions are never run as Python. They are compiled together with the shadows of the model's modules, which
bring ``op_step``, ``phase_step``, ``canonicalize``, ``broken_in_state``, and with the engine's ``beyond`` and
``copy_state``. A state takes ``m.stride`` bytes, its size rounded up to whole words.
"""
# mypy: ignore-errors
# ruff: noqa: F821  (names bound when this is compiled: see build)

from __future__ import annotations

from cowcatcher.explore.commuting import TOGETHER
from cowcatcher.mm.phases import EXIT_MMAP, VFORK_WAIT, WP_PAGE_COPY, WP_PAGE_COPY_INSTALL
from cowcatcher.state import (
    BROKEN,
    EXITED,
    EXITING,
    HELD,
    MM_FORKING,
    MM_SIZE,
    MODE_WRITE,
    NOT_TAKEN,
    P_STATE,
    PIN_HELD,
    PIN_MODE,
    PIN_PAGE_SIZE,
    PIN_PAGES,
    PIN_PFN,
    PRESENT,
    PROC_SIZE,
    PTE_BITS,
    PTE_PFN,
    PTE_SIZE,
    PTE_SLOT,
    RUNNING,
    SLOT_PFN,
    T_PC,
    T_PHASE,
    T_PROC,
    TASK_SIZE,
    UNBORN,
)

#: Engine flag: the step belongs to a statement that has begun, so it costs nothing where statements are counted.
STAY = 128
#: Said of a state in which the test is over.
FINAL = 64
#: Where single tests are checked, a state is also said, from this bit on, to break standing checks by itself; from the
#: next, that in it the test is over and unbalanced, that a pin is held that promises something, that it is one of the
#: states looked for; and which of the kernel's own tasks can act. Flags of a step have no such bits.
STATE_BREAKS, UNBALANCED, PROMISE, TARGET, KERNEL_ACTS = 8, 11, 12, 13, 29
MOST_TARGETS = KERNEL_ACTS - TARGET

#: Where a chooser stands that does nothing: so far past its end. (A thread that exec ended stands at its end.)
IDLE = 1

#: What has to be so before a chooser may begin a statement; see context.guard_of().
ALWAYS, CHILD_UNBORN, PIN_FREE, PIN_IS_HELD, PIN_MAY_WRITE = 0, 1, 2, 3, 4


def current_op(m, s, t):
    """Where the operands of the statement at hand begin in ``m.code``."""
    return m.op_at[(t - m.tasks) // TASK_SIZE][byte_at(s, t + T_PC)]


def can_begin(m, state, op):
    """A program in which every statement is begun at most once for a child and a pin, and uses only pins that are held.

    Without this a hunt would find what a test cannot say: a second fork of the same child, a DMA before its pin.
    """
    guard = m.guards[op]
    if guard == ALWAYS:
        return 1
    operand = m.code[op + 2]
    if guard == CHILD_UNBORN:
        if operand > 1 and byte_at(state, m.procs + (operand - 1) * PROC_SIZE + P_STATE) == UNBORN:
            return 0  # children are born in the order of their names, which are as good as any other
        for mm in range(m.n_procs):
            if byte_at(state, m.mms + mm * MM_SIZE + MM_FORKING) == operand + 1:
                return 0  # somebody is forking it
        return 1 if byte_at(state, m.procs + operand * PROC_SIZE + P_STATE) == UNBORN else 0
    held = byte_at(state, m.pins + operand * m.pin_size + PIN_HELD)
    if guard == PIN_FREE:
        if operand > 0 and byte_at(state, m.pins + (operand - 1) * m.pin_size + PIN_HELD) == NOT_TAKEN and m.n_pins > 1:
            return 0
        return 1 if held == NOT_TAKEN else 0
    if guard == PIN_MAY_WRITE and not byte_at(state, m.pins + operand * m.pin_size + PIN_MODE) & MODE_WRITE:
        return 0
    return 1 if held == HELD else 0


def finish_step(m, s, t, index, pc, before):
    """A step of statement ``pc`` has run on ``s``: it gets its one name. Returns the standing checks that it broke.

    In a hunt these are also those that the state breaks and the one ``before`` did not.

    Who chooses has no memory of what it did last. But a statement without a phase may have to be repeated: a load or
    store whose page fault has just been handled; it is over when the task stands at the next one.
    """
    if m.chooses[index] and not byte_at(s, t + T_PHASE):
        if m.is_kernel[index]:
            s[t + T_PC] = 0
        elif byte_at(s, t + T_PC) == pc + 1 or has_exited(m, s, t):
            s[t + T_PC] = m.n_ops[index] + IDLE
    broken = byte_at(s, BROKEN)
    s[BROKEN] = 0
    if m.hunts:
        for register in range(m.regs, m.regs + m.n_regs):
            s[register] = 0  # nobody asks
    canonicalize(m, s)
    if m.hunts:
        broken |= broken_in_state(m, s) & ~before
    return broken


def has_exited(m, s, t):
    process = byte_at(s, t + T_PROC)
    return process and byte_at(s, m.procs + (process - 1) * PROC_SIZE + P_STATE) == EXITED


def expand(m, state, out, fps, labels, flags):
    """Every step that can happen next. Labels: task * 256 + statement.

    Returns the number of steps, and from bit 16 on what is to be said of the state itself: FINAL if only the idle
    kernel can act, and see STATE_BREAKS; of a hunt's states nothing, since there the step tells what it broke.
    A hunt puts what has begun before what begins, so a step's number does not depend on whether anything may begin.
    """
    before = broken_in_state(m, state)
    said = 0 if m.hunts else before << STATE_BREAKS
    if m.reduces and lone_step(m, state, out, labels, flags, before):
        if promise_held(m, state):
            said |= 1 << PROMISE
        return 1 | said << 16
    n = 0
    final = FINAL
    for place in range(2 * m.n_tasks if m.hunts else m.n_tasks):
        index = place % m.n_tasks
        t = m.tasks + index * TASK_SIZE
        phase = byte_at(state, t + T_PHASE)
        process = byte_at(state, t + T_PROC)
        if process:
            running = byte_at(state, m.procs + (process - 1) * PROC_SIZE + P_STATE)
            if running != RUNNING and not (running == EXITING and phase):
                continue
        first = byte_at(state, t + T_PC)
        end = first + 1 if first < m.n_ops[index] else first
        goes_on = phase != 0 or (m.hunts != 0 and first < m.n_ops[index] and m.is_kernel[index] == 0)
        if not goes_on and m.chooses[index]:
            first = 0
            end = m.n_ops[index] if m.is_kernel[index] or byte_at(state, t + T_PC) == m.n_ops[index] + IDLE else 0
        if m.hunts and goes_on != (place < m.n_tasks):
            continue
        if not goes_on and not m.begins:
            continue
        if phase:
            end = first + 1
            if m.is_kernel[index]:
                final = 0
        for pc in range(first, end):
            op = m.op_at[index][pc]
            if m.hunts and not goes_on and not can_begin(m, state, op):
                continue
            s = beyond(out, n * m.stride)
            copy_state(s, state, m.stride)
            s[t + T_PC] = pc
            if phase:
                ran = phase_step(m, s, t, phase)
            else:
                ran = op_step(m, s, t, m.code[op])
            if ran:
                labels[n] = index * 256 + pc
                flags[n] = finish_step(m, s, t, index, pc, before) | (m.stay if goes_on else 0)
                n += 1
                if m.is_kernel[index]:
                    said |= 1 << (KERNEL_ACTS + index)
                else:
                    final = 0
    if m.hunts:
        return n | final << 16
    if promise_held(m, state):
        said |= 1 << PROMISE
    if final:
        said |= ending(m, state, beyond(out, n * m.stride))
    return n | (said | final) << 16


def lone_step(m, state, out, labels, flags, before):
    """The step that is explored alone, as the first of ``out``; 0 if there is none. The first task wins."""
    for index in range(m.n_tasks):
        t = m.tasks + index * TASK_SIZE
        phase = byte_at(state, t + T_PHASE)
        pc = byte_at(state, t + T_PC)
        if m.is_kernel[index]:
            continue
        if phase:
            if phase != WP_PAGE_COPY and phase != WP_PAGE_COPY_INSTALL and phase != EXIT_MMAP:
                continue
        elif m.alone[index][pc] & 15 == TOGETHER:
            continue
        process = byte_at(state, t + T_PROC)
        if process:
            running = byte_at(state, m.procs + (process - 1) * PROC_SIZE + P_STATE)
            if running != RUNNING and not (running == EXITING and phase):
                continue
        if not goes_alone(m, state, t):
            continue
        copy_state(out, state, m.stride)
        if phase:
            ran = phase_step(m, out, t, phase)
        else:
            ran = op_step(m, out, t, m.code[m.op_at[index][pc]])
        if ran:
            labels[0] = index * 256 + pc
            flags[0] = finish_step(m, out, t, index, pc, before)
            return 1
    return 0


def ending(m, state, scratch):
    """The test is over in this state, which is kept. What there is to say of it."""
    said = 0
    copy_state(scratch, state, m.stride)
    if left_over(m, scratch):
        said |= 1 << UNBALANCED
    if m.endings:
        place = fetch_add(m.endings, 1)
        if place < m.endings_room:
            copy_state(bytes_at(m.endings + 8 + place * m.stride), state, m.stride)
    for number in range(m.n_targets):
        if same_state(m, bytes_at(m.targets + number * m.stride), state):
            said |= 1 << (TARGET + number)
    return said


def same_state(m, a, b):
    for word in range(m.stride >> 3):
        if load_word(a, word << 3) != load_word(b, word << 3):
            return 0
    return 1


# --- two kernels side by side -----------------------------------------------------------------------------------------

#: What differs since this statement: a register, a standing check, which pages are the same.
REGISTERS_DIFFER, CHECKS_DIFFER, PAGES_DIFFER = 1, 2, 4
#: Steps of one statement after which it is taken to wait: answers that no kernel gives together can go round for ever.
MOST_STEPS = 4096


def expand_pair(ms, state, out, fps, labels, flags):
    """Every statement that can come next, executed to its end on two kernels: ``ms`` are their records.

    A state is the one kernel's state and then the other's; nobody else runs before a statement has ended, which is how
    a test in ordered form is executed. Where somebody would have to wait, on either of them, there is no order.
    """
    m, other = ms[0], ms[1]
    size = m.stride
    scratch = beyond(out, 2 * size * m.width)
    n = 0
    pages_agree = same_pages(m, state, beyond(state, size))
    checks_agree = broken_in_state(m, state) == broken_in_state(other, beyond(state, size))
    for index in range(m.n_tasks):
        t = m.tasks + index * TASK_SIZE
        if not may_begin(m, state, t) or not may_begin(other, beyond(state, size), t):
            continue
        for pc in range(m.n_ops[index]):
            op = m.op_at[index][pc]
            if not can_begin(m, state, op) or not can_begin(other, beyond(state, size), op):
                continue
            s = beyond(out, n * 2 * size)
            s_other = beyond(s, size)
            copy_state(s, state, 2 * size)
            ended = execute(m, s, t, pc, scratch)
            ended_other = execute(other, s_other, t, pc, scratch)
            if not ended or not ended_other:
                continue
            differs = 0
            for register in range(m.regs, m.regs + m.n_regs):
                if byte_at(s, register) != byte_at(s_other, register):
                    differs |= REGISTERS_DIFFER
                s[register] = 0
                s_other[register] = 0
            canonicalize(m, s)
            canonicalize(other, s_other)
            by_step = byte_at(s, BROKEN) != byte_at(s_other, BROKEN)
            if by_step or (checks_agree and broken_in_state(m, s) != broken_in_state(other, s_other)):
                differs |= CHECKS_DIFFER
            s[BROKEN] = 0
            s_other[BROKEN] = 0
            if pages_agree and not same_pages(m, s, s_other):
                differs |= PAGES_DIFFER
            labels[n] = index * 256 + pc
            flags[n] = differs
            n += 1
    return n


def may_begin(m, s, t):
    """Is the task idle, and its process there?"""
    if byte_at(s, t + T_PHASE):
        return 0
    process = byte_at(s, t + T_PROC)
    return 1 if not process or byte_at(s, m.procs + (process - 1) * PROC_SIZE + P_STATE) == RUNNING else 0


def execute(m, s, t, pc, scratch):
    """One statement to its end, or until its caller is suspended in vfork(). 0 if it would have to wait."""
    s[t + T_PC] = pc
    ended = advance(m, s, t, pc, scratch)
    for index in range(m.n_tasks):
        suspended = m.tasks + index * TASK_SIZE
        if byte_at(s, suspended + T_PHASE) == VFORK_WAIT:
            advance(m, s, suspended, byte_at(s, suspended + T_PC), scratch)
        if not byte_at(s, suspended + T_PHASE):
            s[suspended + T_PC] = 0
    return ended


def advance(m, s, t, pc, scratch):
    """As many steps of statement ``pc`` as the task can take by itself. Is it over, or suspended?"""
    for _ in range(MOST_STEPS):
        if not byte_at(s, t + T_PHASE) and (byte_at(s, t + T_PC) != pc or has_exited(m, s, t)):
            return 1
        copy_state(scratch, s, m.stride)
        phase = byte_at(s, t + T_PHASE)
        if phase:
            ran = phase_step(m, s, t, phase)
        else:
            ran = op_step(m, s, t, m.code[m.op_at[(t - m.tasks) // TASK_SIZE][pc]])
        if not ran:
            copy_state(s, scratch, m.stride)
            return 1 if phase == VFORK_WAIT else 0
    return 0


def page_at(m, s, place):
    """The frame behind the ``place``-th of all page table entries and then of all pages of pins; 0 for none.

    As ``same_page`` asks for it: behind a swap entry stands its page in the swap cache.
    """
    n_ptes = m.n_procs * m.n_pages
    if place < n_ptes:
        pte = m.ptes + place * PTE_SIZE
        if byte_at(s, pte + PTE_SLOT):
            return byte_at(s, m.slots + (byte_at(s, pte + PTE_SLOT) - 1) * m.slot_size + SLOT_PFN)
        return byte_at(s, pte + PTE_PFN) if byte_at(s, pte + PTE_BITS) & PRESENT else 0
    per_pin = (m.pin_size - PIN_PAGES) // PIN_PAGE_SIZE
    pin = m.pins + (place - n_ptes) // per_pin * m.pin_size
    return byte_at(s, pin + PIN_PAGES + (place - n_ptes) % per_pin * PIN_PAGE_SIZE + PIN_PFN)


def same_pages(m, s, s_other):
    """Are the same places the same page on both? Places without a page are equal to none."""
    places = m.n_procs * m.n_pages
    if m.n_pins:
        places += m.n_pins * ((m.pin_size - PIN_PAGES) // PIN_PAGE_SIZE)
    for a in range(places):
        for b in range(a + 1, places):
            here, there = page_at(m, s, a), page_at(m, s_other, a)
            same = here != 0 and here == page_at(m, s, b)
            same_other = there != 0 and there == page_at(m, s_other, b)
            if same != same_other:
                return 0
    return 1
