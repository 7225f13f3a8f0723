"""What every method shares: settings, the contract of a method, the one training loop, metrics and the one judgement, a
run's folder. Imports dataloader, model and common.
"""
