"""Lessons: short texts, each with an experiment that runs on this machine and shows its figures.

A lesson is a file (`lesson.py`), an experiment a module of `experiments/` (`experiment.py`), and what it shows is plain
values (`figures.py`). Importing this package does not import torch.
"""
