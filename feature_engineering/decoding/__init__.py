"""Files -> pixels and samples: videos, pictures and sound, decoded in processes that may die."""
