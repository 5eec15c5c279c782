"""Extracts features of radiographs and volumes into a Parquet file.

    python examples/extract_features.py INPUT... --model FOLDER_OR_HUB_NAME \
        --output features.parquet

An INPUT is an image, a volume, a folder of them, or a data set on the Hub. Run it again to continue
a run that was stopped.
"""

import logging
import sys

from transformers.utils.logging import disable_progress_bar

from unimiss_hf.extraction import parse_settings, run_extraction


def main() -> int:
    logging.basicConfig(format="%(message)s")
    disable_progress_bar()  # one bar is enough: the run's own
    try:
        inputs, settings = parse_settings()
        result = run_extraction(inputs, settings)
    except (ValueError, OSError, TypeError, ImportError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. Run the same command again to continue.", file=sys.stderr)
        return 130
    of_all = "" if result.num_inputs is None else f" of {result.num_inputs}"
    if not result.finished:
        print(f"Stopped: {result.num_extracted}{of_all} inputs have features.")
        print("Run the same command again to continue.")
        return 0
    if result.errors:
        print(f"Bad inputs: {result.num_bad}, listed in {result.errors}; tried again next time.")
    if not result.num_extracted:
        print(f"error: none{of_all} inputs gave features.", file=sys.stderr)
        return 1
    if result.num_new:
        print(f"Features: {result.output}  ({result.num_extracted}{of_all} inputs)")
    else:
        print(
            f"Nothing new: {result.output} has the features of {result.num_extracted}{of_all} "
            "inputs already."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
