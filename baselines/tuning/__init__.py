"""What tune.py is made of: what is searched, the study on the disk, its trials, what is written of them.

Imports baselines, engine, dataloader and common; a trial's trainings are cells of baselines/comparison.
"""
