"""The benchmark of the switches for GPUs, in miniature and on a CPU."""

from dataclasses import replace

import pytest

import gpu_step

MINIATURE = ["--device", "cpu", "--size", "tiny", "--batch-size", "1", "--prototypes", "64"]
MINIATURE += ["--image-size", "32", "32", "--volume-size", "4", "32", "32", "--matrix-size", "64"]
MINIATURE += ["--steps", "1", "--warmup", "0", "--backend", "eager"]


def rows_of(printed: str) -> dict[str, list[str]]:
    """The table's numbers by the name of their row."""
    rows = {}
    for line in printed.splitlines():
        for name in gpu_step.VARIANTS:
            if line.startswith(f"{name}  "):
                rows[name] = line.removeprefix(name).split()
    return rows


@pytest.fixture(autouse=True)
def variants(monkeypatch):
    """What a CPU does in a moment: bf16 takes it seconds, and compiling minutes."""
    switches = replace(gpu_step.ALL, autocast=False, compiled=False)
    monkeypatch.setitem(gpu_step.VARIANTS, "all, not compiled", switches)
    yield
    gpu_step.choose_float32_arithmetic(tf32=False)


def test_each_switch_is_measured_against_the_plain_step(capsys):
    names = ["float32", "all, not compiled"]
    words = ["--dimensions", "3d", "--variants", *names]
    gpu_step.main([*MINIATURE, *words], run=gpu_step.measure)
    printed = capsys.readouterr().out
    assert "TFLOP/s in bfloat16" in printed
    assert "MiT-tiny, 3d, batch 1, 64 prototypes" in printed
    rows = rows_of(printed)
    assert list(rows) == names
    assert rows["float32"][4] == "1.00x"
    losses = [float(row[-1]) for row in rows.values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_switches_are_added_one_by_one():
    cumulative = [
        switches for name, switches in gpu_step.VARIANTS.items() if not name.startswith("all")
    ]
    counts = [sum(vars(switches).values()) for switches in cumulative]
    assert counts == list(range(7))
    assert cumulative[-1] == gpu_step.ALL


def test_a_row_that_fails_is_told_and_the_rest_goes_on(capsys):
    def run(name, dimension, options):
        if name == "float32":
            return {"error": "out of memory (CUDA out of memory)"}
        return gpu_step.measure(name, dimension, options)

    words = ["--dimensions", "2d", "--variants", "float32", "all, not compiled"]
    gpu_step.main([*MINIATURE, *words], run=run)
    rows = rows_of(capsys.readouterr().out)
    assert rows["float32"][:3] == ["out", "of", "memory"]
    assert rows["all, not compiled"][4] == "1.00x"
