import json
import os
from pathlib import Path

import pytest

from unimiss_hf.pretraining import Pretrainer
from unimiss_hf.pretraining.log_line import number_names
from unimiss_hf.training.run_log import RunLog


def scores_of(output: Path) -> dict[int, float]:
    manifests = (json.loads(path.read_text()) for path in output.glob("checkpoints/step-*/*.json"))
    return {
        manifest["step"]: manifest["score"]["value"]
        for manifest in manifests
        if "score" in manifest
    }


def test_the_best_checkpoint_is_judged_by_the_steps_since_the_one_before(settings, capfd):
    metric = "entropy/image_to_image"
    run = settings(checkpoint_every=2, max_checkpoints=1, best_metric=metric, best_mode="max")
    result = Pretrainer(run).run()
    lines = RunLog(result.output / "log.jsonl").read()
    values = [line.get(metric) for line in lines]
    # only 2D steps have it, which come four at a time
    means = {
        step: (values[step - 2] + values[step - 1]) / 2
        for step in range(2, 15, 2)
        if values[step - 1] is not None
    }
    assert sorted(means) == [2, 4, 10, 12]
    best = max(means, key=means.get)
    assert result.best == result.output / "checkpoints" / f"step-{best:08d}"
    link = result.output / "checkpoints" / "best"
    assert link.resolve() == result.best.resolve()
    assert scores_of(result.output)[best] == pytest.approx(means[best])
    assert f"Best checkpoint so far: step {best}, {metric}" in capfd.readouterr().err


def test_a_metric_that_the_log_does_not_have_is_told_with_those_that_it_has(settings):
    with pytest.raises(ValueError, match=r"best_metric is 'los'.* has .*loss/image_to_image"):
        Pretrainer(settings(best_metric="los"))
    with pytest.raises(ValueError, match="no such number"):
        Pretrainer(settings(dataset_3d=[], best_metric="loss/volume_to_volume"))


def test_the_numbers_that_can_be_chosen_are_those_of_the_log(settings):
    result = Pretrainer(settings(max_steps=5)).run()
    lines = RunLog(result.output / "log.jsonl").read()
    found = {name for line in lines for name in line} - {"step", "dimension"}
    assert found == set(number_names(["2d", "3d"]))
    assert set(number_names(["2d"])) == set(lines[0]) - {"step", "dimension"}


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_continued(
    settings, tmp_path, caplog
):
    whole = Pretrainer(settings(max_steps=6, checkpoint_every=2)).run()
    expected = RunLog(whole.output / "log.jsonl").read()
    weights = whole.output / "checkpoints" / "step-00000006" / "training_state" / "state.pt"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)

    again = Pretrainer(settings(max_steps=6, checkpoint_every=2))
    assert again.state.step == 4
    assert "step-00000006 is damaged and passed over: training_state/state.pt has another" in (
        caplog.text
    )
    assert again.run().finished
    lines = RunLog(whole.output / "log.jsonl").read()
    assert [(line["step"], line["loss"]) for line in lines] == [
        (line["step"], line["loss"]) for line in expected
    ]
    assert weights.read_bytes() != bytes(data)


def test_a_checkpoint_is_not_ahead_of_the_log_on_the_disk(settings, monkeypatch):
    """What a machine's crash leaves of the log must reach up to the checkpoint."""
    flushed = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    Pretrainer(settings(max_steps=2)).run()
    log = next(index for index, path in enumerate(flushed) if path.endswith("log.jsonl"))
    manifest = next(index for index, path in enumerate(flushed) if path.endswith("checkpoint.json"))
    assert log < manifest
