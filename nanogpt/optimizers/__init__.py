"""Optimizers: one module each, found by `nanogpt.config.components`.

Each has a `Config`, a subclass of `OptimizerConfig`, whose `build` returns a `torch.optim.Optimizer`.
"""
