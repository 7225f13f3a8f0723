"""What knows no word of the field: errors, the command line, settings, atomic files, their digests, locks, what is read
of others' files, blocks of arrays, devices, seeds, several processes and clusters.

Imports the standard library, numpy and (on use) filelock, torch, pandas and Ray; nothing of the other rooms.
"""

from common.ends import quiet_interrupts

quiet_interrupts()
