"""What a run can be asked: settings with defaults, bounds and meanings; presets; flags and files merged over them.

Knows nothing of torch, and starts no work.
"""

from nanogpt.config.presets import PRESETS, Preset, preset_names
from nanogpt.config.resolve import Resolved, config_from_toml, config_to_toml, resolve, resolve_sampling, with_settings
from nanogpt.config.settings import (
    SHAPE,
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    SamplingConfig,
    ScheduleConfig,
    Setting,
    SystemConfig,
    sampling_settings,
    settings,
)

__all__ = [
    "PRESETS",
    "SHAPE",
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Preset",
    "Resolved",
    "SamplingConfig",
    "ScheduleConfig",
    "Setting",
    "SystemConfig",
    "config_from_toml",
    "config_to_toml",
    "preset_names",
    "resolve",
    "resolve_sampling",
    "sampling_settings",
    "settings",
    "with_settings",
]
