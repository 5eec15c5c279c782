"""Fine-tunes MiT for classification or segmentation, in 2D or 3D, and scores it.

    accelerate launch examples/finetune.py --config recipes/finetune_btcv.yaml \
        --model runs/pretrain_sample/model --dataset FOLDER

Run it again to continue a run that was stopped.
"""

import logging
import sys

from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from unimiss_hf.drawing import new_figure
from unimiss_hf.finetuning import (
    NonFiniteLossError,
    comparison_table,
    parse_settings,
    run_finetuning,
)


def main() -> int:
    logging.basicConfig(format="%(message)s")
    logging.getLogger("unimiss_hf").setLevel(logging.INFO)
    disable_progress_bar()  # one bar is enough: the run's own
    set_verbosity_error()  # the run tells which weights are new
    try:
        settings = parse_settings()
        if settings.figures:
            new_figure(1, 1)  # tells at once if matplotlib is missing
        outcome = run_finetuning(settings, tell=logging.getLogger("unimiss_hf").info)
    except (ValueError, TypeError, OSError, ImportError, NonFiniteLossError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not outcome.is_main_process:
        return 0
    result = outcome.result
    if not result.finished:
        print(f"Stopped at step {result.step} of {result.total_steps}.")
        print("Run the same command again to continue.")
        return 0
    if settings.folds is not None and settings.fold is None:
        print(f"Finished {settings.folds} folds, each in a folder of its own in {settings.output}.")
    else:
        early = ", early" if result.stopped_early else ""
        print(f"Finished at step {result.step} of {result.total_steps}{early}.")
        print(f"Model: {result.model}, of the best checkpoint ({result.best})")
    if outcome.numbers:
        print(comparison_table(outcome.numbers))
    for path in outcome.files:
        print(f"Written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
