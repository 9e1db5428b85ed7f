"""Model and real kernels held against each other: random tests with one order, run on both, compared in all they show.

``draw`` tells a random story, ``story`` turns it into a test, ``expect`` says how the test ends in the model,
``under_test`` runs it for real, ``judge`` compares the two, ``shrink`` makes smaller what disagrees, ``campaign`` does
all of that many times, and ``keep`` writes down what is left to be explained.
"""
