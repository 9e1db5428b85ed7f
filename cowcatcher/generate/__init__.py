"""Tests from short words of events, as diy7 makes them from cycles of relaxations; and the axes of cow.c."""
