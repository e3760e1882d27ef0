"""Backends that are dead or keep failing are asked last, and a request that waits for a dead one goes elsewhere."""

from herdgate_plugins.health.plugin import Health

__all__ = ["Health"]
