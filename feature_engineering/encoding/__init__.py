"""Pixels, sound and texts -> vectors and captions, by encoders of transformers and sentence-transformers, and by words."""
