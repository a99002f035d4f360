"""Formats and services of other programs: Hugging Face and Weights & Biases."""
