"""Official UniMiSS checkpoints, turned into folders that transformers opens.

The command is `python -m unimiss_hf.conversion CHECKPOINT.pth OUT_FOLDER`.
"""

from .folder import convert_checkpoint
from .renaming import convert_state_dict
from .report import ConversionReport

__all__ = ["ConversionReport", "convert_checkpoint", "convert_state_dict"]
