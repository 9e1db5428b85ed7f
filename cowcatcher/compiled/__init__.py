"""The model's functions compiled: the same source as the interpreter runs, for searches of millions of states.

``source`` turns a module of ``mm/`` into what numba can compile (types dropped, questions and operands spelled out),
``context`` puts a machine into a record that compiled code reads, ``expand`` is the transition relation, and ``build``
puts the three together. Needs the extra ``fast``; nothing here is imported by a small check.
"""
