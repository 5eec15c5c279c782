"""Segments or classifies radiographs and volumes with a fine-tuned model.

    python examples/predict.py INPUT... --model FOLDER_OR_HUB_NAME --output FOLDER

An INPUT is an image, a volume, a folder of them, or a data set on the Hub. The folder gets
predictions.csv and, of a segmentation, a label map of each input on its own grid. Run it again to
continue a run that was stopped.
"""

import logging
import sys

from transformers.utils.logging import disable_progress_bar

from unimiss_hf.prediction import parse_settings, run_prediction


def main() -> int:
    logging.basicConfig(format="%(message)s")
    disable_progress_bar()  # one bar is enough: the run's own
    try:
        inputs, settings = parse_settings()
        result = run_prediction(inputs, settings)
    except (ValueError, OSError, TypeError, ImportError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. Run the same command again to continue.", file=sys.stderr)
        return 130
    of_all = "" if result.num_inputs is None else f" of {result.num_inputs}"
    if not result.finished:
        print(f"Stopped: {result.num_predicted}{of_all} inputs have predictions.")
        print("Run the same command again to continue.")
        return 0
    if result.num_predicted:
        new = f"{result.num_new} new" if result.num_new else "nothing new"
        print(f"Predictions: {result.table}  ({result.num_predicted}{of_all} inputs, {new})")
    if result.errors:
        print(
            f"error: {result.num_bad} inputs gave no prediction, listed in {result.errors}; they "
            "are tried again next time.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
