"""A trained run meets new videos: encode, retrieve, predict, explain; the page; the app. Below test.py alone.

Imports engine, baselines, feature_engineering, dataloader and common.
"""
