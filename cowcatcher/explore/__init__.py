"""Every interleaving of a test on a modelled kernel: successors, canonical form, search, claims, verdicts."""
