"""Scores a fine-tuned model on a labelled data set: results.json, a row for each case, figures.

    accelerate launch examples/evaluate.py --model runs/finetuning/model --dataset FOLDER

The cases are the test split of its training; --part all takes every labelled case, of data that the
model has not seen.
"""

import logging
import sys
from pathlib import Path

from accelerate import Accelerator

from unimiss_hf.drawing import new_figure
from unimiss_hf.finetuning import (
    comparison_table,
    evaluate_model,
    main_numbers,
    parse_evaluation_settings,
    write_results,
)
from unimiss_hf.finetuning.figures import draw_scores


def main() -> int:
    logging.basicConfig(format="%(message)s")
    logger = logging.getLogger("unimiss_hf")
    logger.setLevel(logging.INFO)
    try:
        settings = parse_evaluation_settings()
        if settings.figures:
            new_figure(1, 1)  # tells at once if matplotlib is missing
        accelerator = Accelerator()
        tell = logger.info if accelerator.is_main_process else logger.debug
        evaluation = evaluate_model(settings, accelerator, tell)
        if accelerator.is_main_process:
            output = Path(settings.output)
            files = [write_results(evaluation.scores, output, evaluation.about)]
            if settings.figures:
                files += draw_scores(evaluation, output / "figures")
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if accelerator.is_main_process:
        numbers = main_numbers(evaluation.scores.summary, evaluation.task.is_segmentation)
        print(comparison_table({settings.part: numbers}))
        for path in files:
            print(f"Written: {path}")
    accelerator.end_training()
    return 0


if __name__ == "__main__":
    sys.exit(main())
