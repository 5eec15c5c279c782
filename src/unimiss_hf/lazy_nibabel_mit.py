"""nibabel, loaded when it is first used: it takes a while, and images do not need it."""

from __future__ import annotations

import sys
from typing import Any


class _LazyNibabel:
    @property
    def is_loaded(self) -> bool:
        """Whether nibabel is in use already, without which there are no objects of it."""
        return sys.modules.get("nibabel") is not None

    def __getattr__(self, name: str) -> Any:
        try:
            import nibabel
        except ImportError as error:
            raise ImportError("Reading volumes needs nibabel: pip install nibabel") from error
        return getattr(nibabel, name)


nibabel = _LazyNibabel()
"""Stands for the package; an ImportError says what to do where it is missing."""
