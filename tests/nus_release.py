"""An invented release of NUS (Vine), as it is distributed."""

from __future__ import annotations

import numpy as np

CAPTIONS = [
    "",
    "plain",
    "with \r inside",
    "line \u2028 separator \x0b \x85",
    "emoji 😀 ::::",
    " spaces ",
    '"quoted", NA',
]


MOMENT = np.datetime64("2006-03-21T20:50:13.497", "ms")  # that ids count from


def id_of(time: str, i: int) -> str:
    """An id as the release has them: the time in it, in milliseconds, with something below."""
    return str((int((np.datetime64(time, "ms") - MOMENT).astype(int) + 13 * i % 400) << 22) + i)


class Release:
    """An invented release of n videos, written to a folder; change a field before `write` to break it.

    Row i of every field is video i of video_id.txt. `lines`: which video stands in each line of the other text files.
    """

    def __init__(self, folder, n=40):
        self.folder, self.n = folder, n
        generator = np.random.default_rng(0)
        self.lines = list(range(n))
        self.texts = [CAPTIONS[i % len(CAPTIONS)] for i in range(n)]
        self.counts = generator.integers(0, 10**6, (n, 4))
        self.times = [
            f"2014-{1 + i % 12:02}-{1 + i % 28:02}T10:00:{i % 60:02}.000000" for i in generator.permutation(n)
        ]
        self.ids = [id_of(time, i) for i, time in enumerate(self.times)]
        self.users = [f"user{i}" for i in generator.integers(0, n // 2, n)]

    def truth(self, row, with_id=False):
        loops, *others = self.counts[row]
        fields = [f"{float(loops)}", *map(str, others), self.times[row]]
        return "::::".join([self.ids[row], *fields] if with_id else fields)

    def write(self, with_id=False, order=None, users=True):
        """order: that of ground_truth.txt alone, with its ids in it."""
        self.folder.mkdir(exist_ok=True)
        self.put("video_id.txt", self.ids)
        self.put("video_text.txt", [self.texts[row] for row in self.lines])
        order = self.lines if order is None else order
        self.put("ground_truth.txt", [self.truth(row, with_id) for row in order])
        if users:
            self.put("video_user.txt", [f"{self.ids[row]}::::{self.users[row]}" for row in self.lines])
        return self

    def put(self, name, lines):
        (self.folder / name).write_bytes("".join(f"{line}\n" for line in lines).encode())
