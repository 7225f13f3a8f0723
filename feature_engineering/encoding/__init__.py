"""Pixels, sound and texts -> vectors and captions, by transformers and sentence-transformers, and by words."""
