import json
import math
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoImageProcessor, AutoModel

from unimiss_hf import MiTImageProcessor, MiTModel
from unimiss_hf.data.stream import TooManyBadRecordsError
from unimiss_hf.pretraining import NonFiniteLossError, Pretrainer
from unimiss_hf.training.checkpoints import CheckpointStore
from unimiss_hf.training.run_log import RunLog

# What a line of the log tells of the clock, which no two runs share.
TIMES = ("seconds", "data_wait", "view_share")


def log_of(folder) -> list[dict]:
    return RunLog(Path(folder) / "log.jsonl").read()


def weights_of(folder) -> dict[str, torch.Tensor]:
    newest = sorted(Path(folder, "checkpoints").glob("step-*"))[-1]
    return {
        "teacher": load_file(newest / "model.safetensors"),
        "student": load_file(newest / "training_state" / "student.safetensors"),
        "objective": load_file(newest / "training_state" / "objective.safetensors"),
    }


def terminate_when(condition) -> threading.Thread:
    """Send this process SIGTERM, as a batch system does, once a condition holds."""

    def wait():
        for _ in range(6000):
            if condition():
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.005)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_run_alternates_and_leaves_what_it_promises(settings):
    result = Pretrainer(settings(checkpoint_every=5, max_checkpoints=2)).run()
    assert result.finished and result.step == 14
    lines = log_of(result.output)
    assert [line["step"] for line in lines] == list(range(14))
    # 8 images in batches of 4 and 4 volumes in batches of 2: two steps an epoch
    assert [line["dimension"] for line in lines] == ["2d"] * 4 + ["3d"] * 4 + ["2d"] * 4 + [
        "3d"
    ] * 2
    assert set(lines[0]) >= {"loss", "loss/image_to_image", "entropy/image_to_image"}
    terms = [name for name in lines[4] if name.startswith("loss/")]
    assert terms == [
        "loss/volume_to_volume",
        "loss/volume_to_slices",
        "loss/slices_to_slices",
        "loss/slices_to_volume",
    ]
    assert lines[4]["loss"] == pytest.approx(sum(lines[4][term] for term in terms))
    assert all(0 < line["spread/image"] <= 1 for line in lines if "spread/image" in line)

    kept = sorted(path.name for path in (result.output / "checkpoints").iterdir())
    assert kept == ["step-00000010", "step-00000014"]
    for folder in (result.model, result.output / "checkpoints" / "step-00000014"):
        model = AutoModel.from_pretrained(folder)
        assert isinstance(model, MiTModel)
        for pixel_values in (torch.rand(1, 1, 40, 40), torch.rand(1, 1, 5, 40, 40)):
            assert torch.isfinite(model(pixel_values).pooler_output).all()
        assert isinstance(AutoImageProcessor.from_pretrained(folder), MiTImageProcessor)
    assert not (result.model / "training_state").exists()
    assert yaml.safe_load((result.output / "settings.yaml").read_text())["batch_size_3d"] == 2


def test_training_moves_student_and_teacher_apart_from_the_start(settings, tmp_path):
    result = Pretrainer(settings()).run()
    weights = weights_of(result.output)
    start = load_file(tmp_path / "start" / "model.safetensors")
    name = "encoder.stages.0.layers.0.mlp.up_projection.weight"
    moved = (weights["student"][name] - start[name]).abs().mean()
    followed = (weights["teacher"][name] - start[name]).abs().mean()
    assert 0 < followed < moved
    assert weights["objective"]["centre"].abs().max() > 0


@pytest.mark.parametrize("stop_after", [3, 6])
def test_a_stopped_run_continues_bit_for_bit(settings, tmp_path, stop_after):
    whole = Pretrainer(settings(output=str(tmp_path / "whole"))).run()

    output = tmp_path / "stopped"
    log = output / "log.jsonl"
    pretrainer = Pretrainer(settings(output=str(output)))
    thread = terminate_when(lambda: log.exists() and log.read_text().count("\n") >= stop_after)
    stopped = pretrainer.run()
    thread.join()
    assert not stopped.finished
    assert stop_after <= stopped.step < 14
    continued = Pretrainer(settings(output=str(output)))
    assert continued.state.step == stopped.step
    assert continued.run().finished

    for part, weights in weights_of(whole.output).items():
        for name, tensor in weights_of(output)[part].items():
            assert torch.equal(tensor, weights[name]), (part, name)
    for ours, theirs in zip(log_of(output), log_of(whole.output), strict=True):
        assert {k: v for k, v in ours.items() if k not in TIMES} == {
            k: v for k, v in theirs.items() if k not in TIMES
        }


def test_the_log_tells_what_share_of_a_step_data_and_views_take(settings):
    lines = log_of(Pretrainer(settings(max_steps=4)).run().output)
    for name in ("data_wait", "view_share"):
        assert max(line[name] for line in lines) > 0
        assert all(0 <= line[name] < 1 for line in lines)
    assert all(line["data_wait"] + line["view_share"] < 1 for line in lines)


def test_a_run_continues_from_an_older_checkpoint_and_drops_later_lines(settings, tmp_path):
    first = Pretrainer(settings(checkpoint_every=6)).run()
    expected = log_of(first.output)
    shutil.rmtree(first.output / "checkpoints" / "step-00000014")
    shutil.rmtree(first.output / "checkpoints" / "step-00000012")
    again = Pretrainer(settings(checkpoint_every=6))
    assert again.state.step == 6
    assert [line["step"] for line in log_of(first.output)] == list(range(6))
    again.run()
    assert [line["loss"] for line in log_of(first.output)] == [line["loss"] for line in expected]


def test_a_finished_run_is_left_as_it_is(settings):
    first = Pretrainer(settings()).run()
    before = (first.output / "log.jsonl").read_bytes()
    second = Pretrainer(settings()).run()
    assert second.finished
    assert (first.output / "log.jsonl").read_bytes() == before


def test_other_settings_do_not_continue_a_run(settings):
    Pretrainer(settings(max_steps=2)).run()
    with pytest.raises(ValueError, match=r"max_steps was 2 and is now 14.*another --output"):
        Pretrainer(settings())
    with pytest.raises(ValueError, match=r"already holds a run.*resume is 'never'"):
        Pretrainer(settings(max_steps=2, resume="never"))
    assert Pretrainer(settings(max_steps=2, checkpoint_every=7)).state.step == 2


def test_a_run_without_an_intact_checkpoint_is_not_begun_anew(settings):
    result = Pretrainer(settings(max_steps=2)).run()
    (result.output / "checkpoints" / "step-00000002" / "model.safetensors").write_bytes(b"?")
    with pytest.raises(ValueError, match=r"No checkpoint in .*checkpoints is intact"):
        Pretrainer(settings(max_steps=2))


def test_a_loss_that_is_no_number_stops_the_run_with_a_saved_state(settings, volumes):
    with pytest.raises(NonFiniteLossError, match=r"The loss is nan\. At step \d+ \(2d\).*\.png"):
        Pretrainer(settings(base_learning_rate=1e30, gradient_clip=None)).run()
    output = Path(settings().output)
    saved = weights_of(output)
    assert torch.isfinite(saved["objective"]["centre"]).all()
    lines = log_of(output)
    assert all(math.isfinite(line["loss"]) for line in lines)
    step = json.loads(
        (next((output / "checkpoints").iterdir()) / "training_state" / "run.json").read_text()
    )["step"]
    assert step == len(lines)


def test_a_gradient_that_is_no_number_moves_nothing(settings):
    pretrainer = Pretrainer(settings())
    parameter = pretrainer.state.student.projection_head.mlp[0].weight
    parameter.register_hook(lambda gradient: gradient * math.nan)
    before = {name: p.clone() for name, p in pretrainer.state.student.named_parameters()}
    with pytest.raises(NonFiniteLossError, match=r"A gradient is not finite\. At step 0"):
        pretrainer.run()
    for name, now in pretrainer.state.student.named_parameters():
        assert torch.equal(now, before[name]), name
    assert (Path(settings().output) / "checkpoints" / "step-00000000").is_dir()


def test_weights_that_are_no_numbers_are_not_saved(settings):
    pretrainer = Pretrainer(settings())
    with torch.no_grad():
        pretrainer.state.student.projection_head.mlp[0].weight.fill_(math.inf)
    with pytest.raises(NonFiniteLossError, match="weights are not finite either"):
        pretrainer.run()
    assert CheckpointStore(Path(settings().output) / "checkpoints").steps() == []


def test_lines_of_a_run_that_died_before_its_first_checkpoint_are_dropped(settings):
    log = RunLog(Path(settings().output) / "log.jsonl")
    log.write({"step": 0, "loss": 1.0})
    log.close()
    result = Pretrainer(settings(max_steps=2)).run()
    assert [line["step"] for line in log_of(result.output)] == [0, 1]


def test_two_runs_do_not_write_into_one_folder(settings, monkeypatch):
    monkeypatch.setattr("unimiss_hf.training.run_folder._LOCK_SECONDS", 0.1)
    first = Pretrainer(settings(max_steps=2))
    with pytest.raises(OSError, match="Another run is writing into"):
        Pretrainer(settings(max_steps=2))
    first.run()
    assert Pretrainer(settings(max_steps=2)).state.step == 2


def test_readers_in_processes_of_their_own_give_the_same_run(settings, tmp_path):
    expected = Pretrainer(settings(max_steps=6, output=str(tmp_path / "alone"))).run()
    result = Pretrainer(settings(max_steps=6, num_workers=1)).run()
    assert [line["loss"] for line in log_of(result.output)] == [
        line["loss"] for line in log_of(expected.output)
    ]


def test_accelerates_own_accumulation_is_refused(settings):
    with pytest.raises(ValueError, match="Leave that at 1, and give --accumulation_2d"):
        Pretrainer(settings(), Accelerator(gradient_accumulation_steps=4))


def test_a_tracker_that_is_not_there_is_told(settings):
    with pytest.raises(ValueError, match=r"trackers \['mlflow'\] are not installed"):
        Pretrainer(settings(report_to=["mlflow"]))


def test_unreadable_files_are_skipped_named_and_counted(settings, volumes, caplog):
    whole = (volumes / "0.nii.gz").read_bytes()
    (volumes / "torn.nii.gz").write_bytes(whole[: len(whole) // 2])
    result = Pretrainer(settings(dataset_2d=[], max_bad_fraction=0.5, max_steps=4)).run()
    assert log_of(result.output)[-1]["bad_records"] >= 1
    assert "torn.nii.gz" in caplog.text


def test_too_many_unreadable_files_end_the_run(settings, images):
    for index in range(8):
        (images / f"broken{index}.png").write_bytes(b"not an image")
    with pytest.raises(TooManyBadRecordsError, match=r"8 of the 16 .*max_bad_fraction=0\.05"):
        Pretrainer(settings(dataset_3d=[])).run()


def test_without_data_nothing_is_built(settings, tmp_path):
    with pytest.raises(ValueError, match=r"no data to train on.*dataset_2d"):
        Pretrainer(settings(dataset_2d=[], dataset_3d=[], initial_checkpoint="/does/not/exist"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no 2d images"):
        Pretrainer(
            settings(dataset_2d=[str(tmp_path / "empty")], initial_checkpoint="/does/not/exist")
        )


def test_one_dimension_alone(settings):
    result = Pretrainer(settings(dataset_2d=[], max_steps=3)).run()
    assert {line["dimension"] for line in log_of(result.output)} == {"3d"}


def test_accumulation_takes_more_batches_a_step(settings):
    result = Pretrainer(
        settings(accumulation_2d=2, steps_per_epoch_2d=1, steps_per_epoch_3d=1, max_steps=3)
    ).run()
    assert [line["samples"] for line in log_of(result.output)] == [8, 8, 2]


@pytest.mark.parametrize("changes", [{"samples_per_backward": 1}, {"gradient_checkpointing": True}])
def test_cheaper_memory_gives_the_same_losses(settings, tmp_path, changes):
    expected = Pretrainer(settings(max_steps=6, output=str(tmp_path / "plain"))).run()
    result = Pretrainer(settings(max_steps=6, **changes)).run()
    assert [line["loss"] for line in log_of(result.output)] == pytest.approx(
        [line["loss"] for line in log_of(expected.output)], rel=1e-4
    )


def test_bfloat16_trains(settings):
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        result = Pretrainer(settings(max_steps=6), Accelerator(mixed_precision="bf16")).run()
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert result.finished
    assert all(math.isfinite(line["loss"]) for line in log_of(result.output))


def test_a_tracker_gets_the_numbers_once_also_of_steps_that_are_taken_again(settings):
    run = settings(max_steps=3, checkpoint_every=2, report_to=["tensorboard"])
    result = Pretrainer(run).run()
    shutil.rmtree(result.output / "checkpoints" / "step-00000003")
    Pretrainer(run).run()
    shown = EventAccumulator(str(result.output / "unimiss")).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in shown] == [
        (line["step"], pytest.approx(line["loss"])) for line in log_of(result.output)
    ]
