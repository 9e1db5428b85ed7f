"""The mechanism of anonymous memory, one file per area of the kernel's ``mm/``, functions named as the kernel's own.

Every function that takes ``(m, s, t)`` and returns BLOCKED or RAN is a *step*: one critical section of the kernel, run
by task ``t`` on state ``s``. What the task does next is its phase (``s[t + T_PHASE]``); between two steps every other
actor may run. BLOCKED means that the step cannot happen now: the caller throws away what it wrote and asks again later.
"""
