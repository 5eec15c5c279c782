"""Pretrains MiT on radiographs and CT volumes by self-distillation.

    accelerate launch examples/pretrain.py --config recipes/pretrain_small.yaml \
        --dataset_2d FOLDER_OR_HUB_NAME --dataset_3d FOLDER_OR_HUB_NAME

Run it again to continue a run that was stopped.
"""

import logging
import sys

from transformers.utils.logging import disable_progress_bar

from unimiss_hf.data.stream import TooManyBadRecordsError
from unimiss_hf.drawing import new_figure
from unimiss_hf.pretraining import NonFiniteLossError, Pretrainer, draw_figures, parse_settings


def main() -> int:
    logging.basicConfig(format="%(message)s")
    logging.getLogger("unimiss_hf").setLevel(logging.INFO)
    disable_progress_bar()  # one bar is enough: the run's own
    try:
        settings = parse_settings()
        if settings.figures:
            new_figure(1, 1)  # tells at once if matplotlib is missing
        pretrainer = Pretrainer(settings)
        result = pretrainer.run()
    except (ValueError, OSError, ImportError, NonFiniteLossError, TooManyBadRecordsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not pretrainer.accelerator.is_main_process:
        return 0
    if not result.finished:
        print(f"Stopped at step {result.step} of {result.total_steps}.")
        print("Run the same command again to continue.")
        return 0
    print(f"Finished {result.total_steps} steps.")
    print(f"Model: {result.model}  (AutoModel.from_pretrained opens it)")
    if result.best is not None:
        print(f"Best checkpoint, by {settings.best_metric}: {result.best}")
    if settings.figures:
        for figure in draw_figures(settings):
            print(f"Figure: {figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
