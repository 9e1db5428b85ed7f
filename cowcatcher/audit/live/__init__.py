"""Watching a program that runs: its system calls by strace or bpftrace, what those cannot see by a small preloaded
library, and /proc.
"""

from cowcatcher.audit.live.tracer import TraceError
from cowcatcher.audit.live.watch import Options, Watched, attach, launch

__all__ = ["Options", "TraceError", "Watched", "attach", "launch"]
