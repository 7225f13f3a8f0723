"""Ways in: tables, feature files, names of videos, splits, scaling, published pickles. Imports dataloader, common."""
