"""Ways into a data set: tables, feature files, splits, scaling, published pickles. Imports dataloader and common."""
