"""The plugin `model_management`."""

from herdgate_plugins.model_management.plugin import ModelManagement

__all__ = ["ModelManagement"]
