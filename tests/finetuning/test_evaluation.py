"""A fine-tuned model's folder, scored again: the same cases, the same numbers."""

import json
import shutil

import pytest
from accelerate import Accelerator

from finetuning_miniatures import organ_volumes
from unimiss_hf.finetuning import (
    EvaluationSettings,
    evaluate_model,
    parse_evaluation_settings,
    run_finetuning,
    write_results,
)


def evaluate(outcome, dataset, **changes):
    settings = {
        "model": str(outcome.result.model),
        "dataset": str(dataset),
        "output": str(outcome.result.output / "scored"),
        "figures": False,
    }
    return evaluate_model(EvaluationSettings(**settings | changes), Accelerator())


def as_written(summary):
    return json.loads(json.dumps(summary))


def test_the_numbers_of_the_run_come_back(finished, organs):
    run, outcome = finished
    evaluation = evaluate(outcome, organs)
    written = json.loads((outcome.result.output / "results.json").read_text())
    assert as_written(evaluation.scores.summary) == written["scores"]
    assert as_written(evaluation.about) == {
        name: written[name] for name in written if name not in ("unimiss_hf", "scores")
    }
    assert [case.name for case in evaluation.cases] == ["imagesTs/case_06", "imagesTs/case_07"]
    assert run.window_overlap == evaluation.windows.overlap


def test_those_of_a_classification_too(of_images, chests):
    outcome = run_finetuning(of_images())
    written = json.loads((outcome.result.output / "results.json").read_text())
    evaluation = evaluate(outcome, chests, bootstrap=20)
    assert as_written(evaluation.scores.summary) == written["scores"]
    rows = evaluation.scores.rows
    assert len(rows) == 6 and {row["target"] for row in rows} == {"normal", "pneumonia", "covid"}
    for row in rows:
        scores = {n: row[f"score/{n}"] for n in ("normal", "pneumonia", "covid")}
        assert sum(scores.values()) == pytest.approx(1)
        assert row["predicted"] == max(scores, key=scores.get)


def test_options_of_the_reader_are_those_of_training(of_images, chests):
    outcome = run_finetuning(of_images(layout_options={"test_split": "validation"}, max_steps=1))
    evaluation = evaluate(outcome, chests, bootstrap=20)
    assert {case.name.split("/")[0] for case in evaluation.cases} == {"validation"}
    # Another folder may be asked for.
    other = evaluate(outcome, chests, bootstrap=20, layout_options={"test_split": "test"})
    assert {case.name.split("/")[0] for case in other.cases} == {"test"}
    assert other.about["data"]["options"] == {"test_split": "test"}


def test_parts_are_those_of_the_training(finished, organs):
    _, outcome = finished
    names = {
        part: {case.name for case in evaluate(outcome, organs, part=part).cases}
        for part in ("train", "validation", "all")
    }
    assert len(names["train"]) == 5 and len(names["validation"]) == 1
    assert not names["train"] & names["validation"]
    assert len(names["all"]) == 8 and names["train"] | names["validation"] < names["all"]


def test_all_cases_of_data_too_few_to_be_split(finished, tmp_path):
    _, outcome = finished
    root = organ_volumes(tmp_path, train=1, test=0)
    evaluation = evaluate(outcome, root, part="all")
    assert [case.name for case in evaluation.cases] == ["imagesTr/case_00"]
    with pytest.raises(ValueError, match="No labelled case is left"):
        evaluate(outcome, root)


def test_other_classes_are_refused(finished, organs, tmp_path):
    _, outcome = finished
    root = shutil.copytree(organs, tmp_path / "own")
    text = (root / "dataset.json").read_text()
    (root / "dataset.json").write_text(text.replace("tumour", "spleen"))
    told = r"has the classes \['background', 'liver', 'tumour'\], and .*'spleen'\]"
    with pytest.raises(ValueError, match=told):
        evaluate(outcome, root)


def test_another_data_set_is_refused(finished, chests):
    with pytest.raises(ValueError, match="does not look like nnU-Net"):
        evaluate(finished[1], chests)


def test_a_folder_that_fine_tuning_did_not_write(checkpoint, organs):
    settings = EvaluationSettings(model=str(checkpoint), dataset=str(organs))
    told = r"has no finetuning\.json: it is no model that examples/finetune\.py wrote"
    with pytest.raises(FileNotFoundError, match=told):
        evaluate_model(settings, Accelerator())


def test_a_folder_that_is_not_there(finished, organs):
    folder = finished[1].result.model
    settings = EvaluationSettings(model=str(folder)[:-1], dataset=str(organs))
    with pytest.raises(
        FileNotFoundError, match=r"There is no folder .*/mode .*Did you mean .*model"
    ):
        evaluate_model(settings, Accelerator())


def test_a_description_of_another_kind(finished, organs, tmp_path):
    folder = shutil.copytree(finished[1].result.model, tmp_path / "model")
    (folder / "finetuning.json").write_text('{"layout": "nnunet"}')
    settings = EvaluationSettings(model=str(folder), dataset=str(organs))
    with pytest.raises(ValueError, match=r"finetuning\.json does not describe a task"):
        evaluate_model(settings, Accelerator())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": None}, "Give --model, a fine-tuned model's folder or name, and --dataset"),
        ({"part": "tests"}, "part is 'tests'; it must be one of train, validation, test, all"),
        ({"bootstrap": -1}, "bootstrap is -1"),
        ({"window_batch_size": 0}, "window_batch_size is 0"),
        ({"layout_options": "fold: 0"}, "layout_options is 'fold: 0', which is not JSON"),
    ],
)
def test_settings_that_cannot_be(changes, told):
    with pytest.raises(ValueError, match=told):
        EvaluationSettings(**{"model": "model", "dataset": "data"} | changes)


def test_settings_from_a_command():
    words = ["--model", "m", "--dataset", "d", "--part", "all", "--mirror", "1", "2"]
    settings = parse_evaluation_settings([*words, "--layout_options", '{"fold": 1}'])
    assert (settings.part, settings.mirror, settings.layout_options) == ("all", [1, 2], {"fold": 1})


def test_scores_of_something_else_are_not_written_over(finished, organs, tmp_path):
    _, outcome = finished
    first = evaluate(outcome, organs, output=str(tmp_path))
    write_results(first.scores, tmp_path, first.about)
    evaluate(outcome, organs, output=str(tmp_path))
    with pytest.raises(ValueError, match=r"results\.json is there already, with another data"):
        evaluate(outcome, organs, output=str(tmp_path), part="validation")
