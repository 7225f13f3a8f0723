"""Videos, sound and texts -> feature arrays: a script a step, and rooms behind them. Imports dataloader and common."""
