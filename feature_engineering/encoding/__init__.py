"""Pixels and texts -> vectors and captions, by encoders of transformers, and by words."""
