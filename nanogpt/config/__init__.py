"""The configuration of a run: settings with defaults and bounds, components, presets, and merging of files and flags.

It imports no torch.
"""

from nanogpt.config.components import (
    ARCHITECTURE,
    KINDS,
    OPTIMIZER,
    SCHEDULE,
    ArchitectureConfig,
    Capabilities,
    ComponentConfig,
    OptimizerConfig,
    ScheduleConfig,
    component,
    component_settings,
    loadable_names,
    names,
)
from nanogpt.config.presets import Preset, load_preset, preset_names
from nanogpt.config.resolution import (
    FORMAT,
    Resolved,
    architecture_from,
    config_from_toml,
    config_to_toml,
    resolve,
    resolve_sampling,
    to_flags,
    with_settings,
)
from nanogpt.config.setting import Setting, setting
from nanogpt.config.settings import (
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    SamplingConfig,
    SystemConfig,
    every_setting,
    sampling_settings,
    settings,
)

__all__ = [
    "ARCHITECTURE",
    "FORMAT",
    "KINDS",
    "OPTIMIZER",
    "SCHEDULE",
    "ArchitectureConfig",
    "Capabilities",
    "CheckpointConfig",
    "ComponentConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "OptimizerConfig",
    "Preset",
    "Resolved",
    "SamplingConfig",
    "ScheduleConfig",
    "Setting",
    "SystemConfig",
    "architecture_from",
    "component",
    "component_settings",
    "config_from_toml",
    "config_to_toml",
    "every_setting",
    "load_preset",
    "loadable_names",
    "names",
    "preset_names",
    "resolve",
    "resolve_sampling",
    "sampling_settings",
    "setting",
    "settings",
    "to_flags",
    "with_settings",
]
