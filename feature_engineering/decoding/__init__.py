"""Files -> pixels: videos and pictures, decoded in processes that may die."""
