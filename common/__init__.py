"""What knows no word of the field: errors, the command line, settings, atomic files, their digests, locks, blocks of
arrays, devices, seeds.

Imports the standard library, numpy and (on use) filelock and torch; nothing of the other rooms.
"""
