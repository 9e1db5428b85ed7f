"""The decisions that changed over the years, and which kernel takes which.

>>> from cowcatcher.kernels import kernel
>>> [new.name for _, new in kernel("v5.9-rc4").diff(kernel("v5.9"))]
['fork_copies_pinned']
"""

from cowcatcher.kernels.controls import CONTROLS as CONTROLS
from cowcatcher.kernels.controls import Control as Control
from cowcatcher.kernels.controls import modelled as modelled
from cowcatcher.kernels.decision import QUESTIONS as QUESTIONS
from cowcatcher.kernels.decision import BadDecision as BadDecision
from cowcatcher.kernels.decision import Decision as Decision
from cowcatcher.kernels.decision import decision as decision
from cowcatcher.kernels.kernel import KERNELS as KERNELS
from cowcatcher.kernels.kernel import LINE as LINE
from cowcatcher.kernels.kernel import PROPOSAL_NAMES as PROPOSAL_NAMES
from cowcatcher.kernels.kernel import Kernel as Kernel
from cowcatcher.kernels.kernel import UnknownKernel as UnknownKernel
from cowcatcher.kernels.kernel import all_decisions as all_decisions
from cowcatcher.kernels.kernel import introduced_by as introduced_by
from cowcatcher.kernels.kernel import is_known as is_known
from cowcatcher.kernels.kernel import kernel as kernel
from cowcatcher.kernels.kernel import kernel_of_release as kernel_of_release
from cowcatcher.kernels.kernel import kernel_range as kernel_range
from cowcatcher.kernels.kernel import load_decisions as load_decisions
from cowcatcher.kernels.kernel import previous as previous
from cowcatcher.kernels.kernel import select as select

__all__ = [
    "CONTROLS",
    "KERNELS",
    "LINE",
    "PROPOSAL_NAMES",
    "QUESTIONS",
    "BadDecision",
    "Control",
    "Decision",
    "Kernel",
    "UnknownKernel",
    "all_decisions",
    "decision",
    "introduced_by",
    "is_known",
    "kernel",
    "kernel_of_release",
    "kernel_range",
    "load_decisions",
    "modelled",
    "previous",
    "select",
]
