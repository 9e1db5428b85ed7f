"""Searching for tests that nobody wrote: every program of an alphabet up to a bound, every interleaving of each.

``alphabet`` says what actors may do, ``space`` makes one machine in which they may do any of it at any time, ``hunt``
explores that, and ``story`` turns a way to a violation back into a test.
"""
