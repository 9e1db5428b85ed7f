"""Searching large spaces of states: a compiled breadth-first search that knows nothing of what it searches.

``search`` is the way in, ``docs/engine.md`` the description. Needs numba (the extra ``fast``); nothing
outside this package and ``compiled`` imports it.
"""
