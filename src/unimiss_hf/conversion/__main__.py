"""The command `python -m unimiss_hf.conversion`."""

import argparse
import sys
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from .checkpoint_reading import BRANCHES
from .folder import convert_checkpoint


def main(arguments: list[str] | None = None) -> int:
    """Convert one checkpoint, and say what was done; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m unimiss_hf.conversion",
        description="Turn an official UniMiSS checkpoint, tiny or small, into a folder that "
        "transformers opens: weights, configuration, image processor and model card.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the official file")
    parser.add_argument("folder", type=Path, metavar="OUT_FOLDER", help="where to write the model")
    parser.add_argument(
        "--branch",
        choices=BRANCHES,
        help="which network of a file that has two (default: teacher; the official fine-tuning "
        "code starts from the student)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a folder of an earlier conversion"
    )
    options = parser.parse_args(arguments)
    disable_progress_bar()
    try:
        report = convert_checkpoint(
            options.checkpoint, options.folder, options.branch, options.overwrite
        )
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print("\n".join(report.lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
