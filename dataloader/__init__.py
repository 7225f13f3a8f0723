"""A data set on disk -> batches: its description, items, features, neighbours, splits. Imports common alone."""
