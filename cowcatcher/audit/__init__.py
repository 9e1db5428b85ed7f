"""A real program watched: its mappings, madvise calls, forks and pins; turned into findings and into tests."""
