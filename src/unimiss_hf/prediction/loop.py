"""The loop of predictions: inputs, the network, rows and files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..data.errors import one_line
from ..data.input_preparation import BadInput, PreparedInput, prepare_inputs
from ..data.input_reporting import Reporter
from ..data.inputs import find_inputs
from ..training.signals import StopRequest
from .folder import ERRORS, TABLE, PredictionFolder
from .network import Network, describe_predictions, load_network
from .outputs import require_apart, require_own_files
from .settings import PredictionSettings
from .tasks import classify, segment, table_columns


@dataclass(frozen=True)
class PredictionResult:
    """How predicting ended.

    Attributes:
        table: The table of all inputs that are predicted.
        finished: Whether every input was dealt with; if not, the run was asked to stop.
        num_inputs: How many inputs there are; `None` if a data set did not tell.
        num_predicted: How many of them have predictions now.
        num_new: How many of these this run made.
        num_bad: How many gave none in this run.
        errors: The list of those, if there are any.
    """

    table: Path
    finished: bool
    num_inputs: int | None
    num_predicted: int
    num_new: int
    num_bad: int
    errors: Path | None


def run_prediction(words: list[str], settings: PredictionSettings) -> PredictionResult:
    """Segment or classify inputs into a folder, going on with what an earlier run left.

    `predictions.csv` has a row for each input, see `table_columns`. A segmentation has, at the
    input's path within the folder that was given, a label map on the input's own grid: a NIfTI
    file for a volume, a PNG file for an image, a `.npy` file for an array; of a multi-label model
    one for each class, `<input>.<class>`; and with `settings.probabilities`
    `<input>.probabilities`, see `write_probabilities`. `predictions.json` says what they were made
    with.

    An input that cannot be read or computed is reported, listed in `errors.csv`, and tried again
    by the next run. SIGINT and SIGTERM end the run after the input or batch at hand.

    Args:
        words: Files, folders, lists of paths, data sets; see `find_inputs`.
        settings: Everything else.

    Returns:
        How it ended.

    Raises:
        OSError: If an input or the model is not there, or the output cannot be written.
        ValueError: If a word or setting cannot be had, if two inputs' predictions would be the same
            files, if the model has no head for a task, or if the output holds something else.
        TypeError: If the processor has no such setting.
        ImportError: If a package that a kind of file needs is missing.
        MemoryError: If a batch is too large for the GPU.
    """
    inputs = find_inputs(words, settings)
    require_own_files(inputs)
    output = Path(settings.output).expanduser()
    require_apart(output, inputs)
    with PredictionFolder(output) as folder:
        network = load_network(settings)
        folder.begin(describe_predictions(network, settings), table_columns(network))
        before = inputs.count_of(folder.rows)
        with Reporter(inputs.num_inputs, before) as reporter, StopRequest(work="input") as stop:
            if inputs.passed_over:
                reporter.say(
                    f"Files that are no images are passed over: {inputs.describe_passed_over()}"
                )
            prepared = prepare_inputs(
                inputs.without(set(folder.rows)),
                network.processor,
                settings.workers,
                settings.source_spacing,
            )
            finished = False
            try:
                for batch in _batches(prepared, network, settings.batch_size):
                    for row in _rows(batch, network, settings, folder):
                        if isinstance(row, BadInput):
                            reporter.add_bad(row)
                        else:
                            folder.add(row)
                            reporter.done()
                    if stop.requested:
                        break
                else:
                    finished = True
            finally:
                prepared.close()
                folder.write_bad_inputs(reporter.bad)
        after = inputs.count_of(folder.rows)
    return PredictionResult(
        output / TABLE,
        finished,
        inputs.num_inputs,
        after,
        after - before,
        len(reporter.bad),
        output / ERRORS if reporter.bad else None,
    )


def _batches(
    prepared: Iterator[PreparedInput | BadInput], network: Network, batch_size: int
) -> Iterator[list[PreparedInput] | list[BadInput]]:
    """Gather inputs of one shape that follow one another; segmentations come by themselves."""
    waiting: list[PreparedInput] = []
    most = batch_size if network.task == "classification" else 1
    for item in prepared:
        if isinstance(item, BadInput):
            yield [item]
            continue
        if waiting and waiting[0].pixel_values.shape != item.pixel_values.shape:
            yield waiting
            waiting = []
        waiting.append(item)
        if len(waiting) == most:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _rows(
    batch: list[PreparedInput] | list[BadInput],
    network: Network,
    settings: PredictionSettings,
    folder: PredictionFolder,
) -> Iterator[dict[str, Any] | BadInput]:
    if isinstance(batch[0], BadInput):
        yield from batch
        return
    try:
        if network.task == "classification":
            rows = classify(batch, network)
        else:
            with folder.explained():
                rows = [segment(batch[0], network, settings, folder.folder)]
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"The GPU has too little memory for {settings.batch_size} inputs or windows at once. "
            "Give a smaller batch_size, or device cpu."
        ) from error
    # On a CPU, a RuntimeError is how memory shortage is told.
    except (RuntimeError, MemoryError, ValueError) as error:
        if len(batch) == 1:
            yield BadInput(batch[0].name, f"the prediction failed: {one_line(error, '')}")
            return
        for item in batch:
            yield from _rows([item], network, settings, folder)
        return
    yield from rows
