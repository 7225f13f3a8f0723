"""MMRA as published for MicroLens."""
