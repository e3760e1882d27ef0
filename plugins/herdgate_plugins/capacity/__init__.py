"""No backend runs more requests at the same time than it may; those that find all backends full wait, fairly."""

from herdgate_plugins.capacity.plugin import Capacity

__all__ = ["Capacity"]
