"""The common model: one small copy-on-write machine, written several times, to compare how fast each is explored."""
