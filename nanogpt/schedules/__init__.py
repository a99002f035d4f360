"""Learning-rate schedules: one module each, found by `nanogpt.config.components`. None of them imports torch.

Each has a `Config`, a subclass of `ScheduleConfig`, whose `learning_rate` gives the rate of a step.
"""
