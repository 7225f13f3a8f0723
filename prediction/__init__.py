"""A trained run meets new videos: encode, retrieve, predict, explain; the page; the app.

Stands on engine, baselines and feature_engineering, below test.py alone.
"""
