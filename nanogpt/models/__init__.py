"""Architectures: one module or package each, found by `nanogpt.config.components`.

Each has a `Config`, a subclass of `ArchitectureConfig`, whose `build` returns a `LanguageModel` (see `base.py`). Shared
parts are in `layers/`.
"""
