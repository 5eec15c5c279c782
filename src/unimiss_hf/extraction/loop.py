"""The loop of an extraction: inputs of one shape go through the network together."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..data.errors import one_line
from ..data.input_preparation import BadInput, PreparedInput, prepare_inputs
from ..data.input_reporting import Reporter, error_file, write_bad_inputs
from ..data.inputs import find_inputs
from ..sliding_windows_mit import extract_features, feature_window
from ..training.signals import StopRequest
from .network import Network, describe_features, load_network
from .settings import ExtractionSettings
from .table import FeatureRow, FeatureTable

# Batches' worth of inputs that may wait for others of their shape.
_WAITING_BATCHES = 8


@dataclass(frozen=True)
class ExtractionResult:
    """How an extraction ended.

    Attributes:
        output: The table; it exists if `finished`, or if an earlier run finished it.
        finished: Whether every input was dealt with; if not, the run was asked to stop.
        num_inputs: How many inputs there are; `None` if a data set did not tell.
        num_extracted: How many of them have features now.
        num_new: How many of these this run extracted.
        num_bad: How many gave no features in this run.
        errors: The list of those, if there are any.
    """

    output: Path
    finished: bool
    num_inputs: int | None
    num_extracted: int
    num_new: int
    num_bad: int
    errors: Path | None


def run_extraction(words: list[str], settings: ExtractionSettings) -> ExtractionResult:
    """Extract the features of inputs into a Parquet file, going on with what an earlier run left.

    The file has the columns `name`; `dimension`, "2d" or "3d"; `shape`, the prepared size
    `([depth,] height, width)`; `pooled`, float32; and, if asked for, `patches`, flattened, with
    `patch_shape`, `(channels, [depth,] height, width)`. Rows are in the order in which they were
    extracted. The schema's metadata say under `unimiss_hf` what they were extracted with.

    An input that cannot be read is reported, listed in `<output>.errors.csv`, and tried again by
    the next run. SIGINT and SIGTERM end the run after the batch at hand.

    Args:
        words: Files, folders, lists of paths, data sets; see `find_inputs`.
        settings: Everything else.

    Returns:
        How it ended.

    Raises:
        OSError: If an input or the model is not there, or the output cannot be written.
        ValueError: If a word or setting cannot be had, or the output was made with other settings.
        TypeError: If the processor has no such setting.
        ImportError: If a package that a kind of file needs is missing.
        MemoryError: If a batch is too large for the GPU.
    """
    inputs = find_inputs(words, settings)
    output = Path(settings.output).expanduser()
    with FeatureTable(output) as table:
        network = load_network(settings)
        table.begin(describe_features(network, settings), network.model.config.hidden_sizes[-1])
        before = inputs.count_of(table.names)
        with Reporter(inputs.num_inputs, before) as reporter, StopRequest(work="batch") as stop:
            if inputs.passed_over:
                reporter.say(
                    f"Files that are no images are passed over: {inputs.describe_passed_over()}"
                )
            prepared = prepare_inputs(
                inputs.without(table.names.copy()),
                network.processor,
                settings.workers,
                settings.source_spacing,
            )
            finished = False
            try:
                for batch in _batches(prepared, network, settings.batch_size):
                    for row in _rows(batch, network, settings):
                        if isinstance(row, BadInput):
                            reporter.add_bad(row)
                        else:
                            table.add(row)
                            reporter.done()
                    if stop.requested:
                        break
                else:
                    finished = True
            finally:
                prepared.close()
                write_bad_inputs(error_file(output), reporter.bad, table.names)
        after = inputs.count_of(table.names)
        if finished:
            table.finish()
    return ExtractionResult(
        output,
        finished,
        inputs.num_inputs,
        after,
        after - before,
        len(reporter.bad),
        error_file(output) if reporter.bad else None,
    )


def _batches(
    prepared: Iterator[PreparedInput | BadInput], network: Network, batch_size: int
) -> Iterator[list[PreparedInput] | list[BadInput]]:
    """Gather inputs of one shape; what needs several windows, and what is bad, comes by itself."""
    waiting: dict[tuple[int, ...], list[PreparedInput]] = {}
    for item in prepared:
        if isinstance(item, BadInput):
            yield [item]
            continue
        shape = tuple(item.pixel_values.shape)
        window = feature_window(network.model, len(shape) - 2)
        if any(n > length for n, length in zip(shape[2:], window, strict=True)):
            yield [item]
            continue
        waiting.setdefault(shape, []).append(item)
        if len(waiting[shape]) == batch_size:
            yield waiting.pop(shape)
        elif sum(map(len, waiting.values())) > _WAITING_BATCHES * batch_size:
            yield waiting.pop(max(waiting, key=lambda shape: len(waiting[shape])))
    yield from waiting.values()


def _rows(
    batch: list[PreparedInput] | list[BadInput], network: Network, settings: ExtractionSettings
) -> Iterator[FeatureRow | BadInput]:
    if isinstance(batch[0], BadInput):
        yield from batch
        return
    pixel_values = torch.cat([item.pixel_values for item in batch])
    try:
        features = extract_features(
            network.model,
            pixel_values,
            overlap=settings.overlap,
            batch_size=settings.batch_size,
        )
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"The GPU has too little memory for {settings.batch_size} inputs or windows at once. "
            "Give a smaller batch_size, or device cpu."
        ) from error
    except (RuntimeError, MemoryError) as error:  # On a CPU, it is how memory shortage is told.
        if len(batch) == 1:
            yield BadInput(batch[0].name, f"the network failed: {one_line(error, '')}")
            return
        for item in batch:
            yield from _rows([item], network, settings)
        return
    patches = features.patches.numpy() if settings.patches else [None] * len(batch)
    for item, pooled, patch_features in zip(batch, features.pooled.numpy(), patches, strict=True):
        if patch_features is not None:
            patch_features = patch_features.astype(settings.patches_dtype)
        values = [pooled] if patch_features is None else [pooled, patch_features]
        if all(np.isfinite(array).all() for array in values):
            shape = tuple(item.pixel_values.shape[2:])
            yield FeatureRow(item.name, shape, pooled, patch_features)
        else:
            kept = f" as {settings.patches_dtype}" if np.isfinite(pooled).all() else ""
            yield BadInput(item.name, f"its features are not finite numbers{kept}")
