"""A rule of a user's own."""

from cowcatcher.kernels import decision


@decision("fork_copies_now")
def copy_pinned(has_pinned: int, pinned: int, exclusive: int) -> int:
    """Copy whatever looks pinned, whoever asks."""
    return pinned
