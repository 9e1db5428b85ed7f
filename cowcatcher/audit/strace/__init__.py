"""strace's output, read: text in, events out."""

from cowcatcher.audit.strace.lift import Reader, events
from cowcatcher.audit.strace.trace import TraceError, open_trace

__all__ = ["Reader", "TraceError", "events", "open_trace"]
