"""Formats and services of other programs: weights, tokenizers, dashboards."""
