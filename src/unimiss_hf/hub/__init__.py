"""The Hub: model cards, what goes there, and how it gets there."""

from .fetching import fetch_model
from .model_pushing import push_model
from .pushing import Pushed, push

__all__ = ["Pushed", "fetch_model", "push", "push_model"]
