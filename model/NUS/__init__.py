"""MMRA as published for NUS."""
