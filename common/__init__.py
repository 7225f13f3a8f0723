"""What knows no word of the field: errors, the command line, settings, atomic files, blocks of arrays, devices, seeds.

Imports the standard library, numpy and (on use) torch; nothing of the other rooms.
"""
