"""MicroLens-100k as published: what differs from the other data sets."""

FRAME_NUM = 10  # frames captured of each video
