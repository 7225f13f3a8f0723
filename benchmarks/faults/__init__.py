"""The campaign of faults: kills, damage, races and full disks against the real scripts, and what came of each.

world.py is what they are tried on, running.py runs commands, trials.py disturbs them, judging.py says what came of it.
Imports whatever it disturbs; nothing imports it.
"""
