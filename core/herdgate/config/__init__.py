"""Settings: command line, environment, `.env`, `plugins.toml` and defaults, in this order; see `load`."""

from herdgate.config.loading import load
from herdgate.config.pluginlist import builtin_plugins, settings_problems
from herdgate.config.problems import MASK, ConfigError, Problem
from herdgate.config.report import ReferenceRow, Row, describe, reference
from herdgate.config.schema import (
    OLLAMA_ORIGINS,
    DiscoverySettings,
    MetricsSettings,
    PluginEntry,
    ServerSettings,
    Settings,
)

__all__ = [
    "MASK",
    "OLLAMA_ORIGINS",
    "ConfigError",
    "DiscoverySettings",
    "MetricsSettings",
    "PluginEntry",
    "Problem",
    "ReferenceRow",
    "Row",
    "ServerSettings",
    "Settings",
    "builtin_plugins",
    "describe",
    "load",
    "reference",
    "settings_problems",
]
