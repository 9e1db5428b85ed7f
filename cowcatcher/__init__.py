"""cowcatcher: litmus tests for copy-on-write, fork and pinned pages.

A test is a small program of memory events; a kernel is a set of decisions; an outcome is what the actors saw.
``litmus`` reads tests, ``mm``, ``kernels`` and ``device`` are the model, ``explore`` runs it through every
interleaving, ``real`` runs the same test on the kernel of this machine.
"""

__version__ = "0.1.0"
