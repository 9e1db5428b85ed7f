"""The same test on a real kernel: lowered to a schedule of system calls, executed by the agent, compared.

Nothing is imported here: reading a test must not pay for running one.
"""
