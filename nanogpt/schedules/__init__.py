"""Learning-rate schedules: one module each, found by `nanogpt.config.components`. None of them imports torch.

Each has a `Config`, a subclass of `ScheduleConfig` (in `nanogpt/config/components.py`), whose `learning_rate` returns
the rate of a step. A training applies it in `OptimizerStep.run` (in `nanogpt/training/optimizer_step.py`).
"""
