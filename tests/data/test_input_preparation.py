"""Threads change the speed of reading, not what is read."""

import functools
import threading

import numpy as np
import pytest

from image_files import grid, nifti
from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.input_preparation import BadInput, prepare_inputs
from unimiss_hf.data.inputs import NamedInput


def arrays(count: int) -> list[NamedInput]:
    return [
        NamedInput(str(index), functools.partial(np.full, (4, 6), index / count))
        for index in range(count)
    ]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_each_input_gives_one_result_in_order(workers):
    inputs = arrays(20)
    inputs[7] = NamedInput("7", functools.partial(np.zeros, (0, 6)))
    results = list(prepare_inputs(iter(inputs), MiTImageProcessor(image_size=None), workers))
    assert [result.name for result in results] == [str(index) for index in range(20)]
    assert isinstance(results[7], BadInput)
    for index in (0, 1, 19):
        assert results[index].pixel_values.shape == (1, 1, 4, 6)
        assert results[index].pixel_values.unique().item() == pytest.approx(index / 20)


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_is_a_few_inputs_ahead_and_ends_with_its_reader(workers):
    opened = []

    def open_input(index):
        opened.append(index)
        return np.zeros((4, 6))

    inputs = [NamedInput(str(i), functools.partial(open_input, i)) for i in range(100)]
    prepared = prepare_inputs(inputs, MiTImageProcessor(image_size=None), workers)
    next(prepared)
    prepared.close()
    assert 1 <= len(opened) <= 1 + 2 * workers
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prepare")]


@pytest.mark.parametrize("error", [MemoryError, RuntimeError("a\n  b"), OSError("x: a\n b")])
def test_whatever_reading_raises_is_told_in_a_line(error):
    def open_input():
        raise error

    (bad,) = prepare_inputs([NamedInput("x", open_input)], MiTImageProcessor(), 1)
    assert bad == BadInput("x", "MemoryError" if error is MemoryError else "a b")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_package_ends_the_run(workers):
    def open_input():
        raise ImportError("pip install it")

    with pytest.raises(ImportError, match="pip install it"):
        list(prepare_inputs([NamedInput("x", open_input)], MiTImageProcessor(), workers))


def test_a_volume_may_be_given_its_true_spacing():
    volume = nifti(grid(6, 5, 4), (1, 1, 1))
    inputs = [NamedInput("3d", lambda: volume), NamedInput("2d", lambda: np.zeros((4, 6)))]
    results = list(prepare_inputs(inputs, MiTImageProcessor(image_size=None), 0, (6.0, 1.0, 1.0)))
    assert [tuple(result.pixel_values.shape[2:]) for result in results] == [(8, 5, 6), (4, 6)]
