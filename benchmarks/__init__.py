"""Measurements, never tests: medians over several runs, and ratios of what was measured in the same run."""
