"""What compare.py is made of: rows, cells, folds, trivial rows, tables, verdicts, the ablation.

Imports baselines, engine, dataloader and common.
"""
