"""Predictions of files are those of the models, each on its input's grid, and runs go on."""

import csv
import json
import shutil

import datasets
import nibabel
import numpy as np
import pytest
from PIL import Image
from transformers import pipeline

from dicom_files import write_series
from unimiss_hf.prediction import loop as loop_module
from unimiss_hf.prediction import run_prediction


def table(folder) -> dict[str, dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def files_in(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def mixed(tmp_path, images, volumes):
    """A folder with two radiographs, two volumes and an array."""
    root = tmp_path / "data"
    (root / "deep").mkdir(parents=True)
    for index in range(2):
        shutil.copy(images / f"{index}.png", root / f"film{index}.png")
        shutil.copy(volumes / f"{index}.nii.gz", root / "deep" / f"ct{index}.nii.gz")
    np.save(root / "array.npy", np.zeros((8, 40, 44), np.float32))
    return root


class TestSegmentation:
    def test_label_maps_lie_on_their_inputs_grids(self, mixed, make_settings, models, tmp_path):
        result = run_prediction([str(mixed)], make_settings())
        out = tmp_path / "out"
        assert result.finished and result.errors is None
        assert (result.num_inputs, result.num_predicted, result.num_new) == (5, 5, 5)
        wanted = {"film0.png", "film1.png", "deep/ct0.nii.gz", "deep/ct1.nii.gz", "array.npy"}
        assert files_in(out) == {*wanted, "predictions.csv", "predictions.json"}
        rows, segment = table(out), pipeline("medical-image-segmentation", models["segmentation"])
        for place in wanted:
            row = rows[str(mixed / place)]
            assert row["files"] == place
            found = (
                np.load(out / place)
                if place.endswith(".npy")
                else np.asarray(Image.open(out / place))
                if place.endswith(".png")
                else nibabel.load(out / place)
            )
            expected = segment(mixed / place)["segmentation"]
            if place.endswith(".nii.gz"):
                np.testing.assert_array_equal(found.affine, nibabel.load(mixed / place).affine)
                assert found.get_data_dtype() == np.uint8
                found, expected = np.asarray(found.dataobj), np.asarray(expected.dataobj)
            # Two classes may be equal to rounding in a voxel.
            assert np.mean(found == np.asarray(expected)) > 0.999
            for number, name in enumerate(("background", "left lung", "heart")):
                count = int(row[f"{name} voxels"])
                assert count == np.count_nonzero(found == number)
                ml = f"{count * 3 / 1000:.6g}" if place.endswith(".nii.gz") else ""
                assert row[f"{name} ml"] == ml

    def test_classes_that_overlap_have_a_file_each(self, mixed, make_settings, tmp_path):
        run_prediction(
            [str(mixed / "deep"), str(mixed / "film0.png")], make_settings("overlapping")
        )
        out = tmp_path / "out"
        wanted = {
            f"{stem}.{name}{ending}"
            for stem, ending in (("ct0", ".nii.gz"), ("ct1", ".nii.gz"), ("film0", ".png"))
            for name in ("left_lung", "heart")
        }
        assert files_in(out) == {*wanted, "predictions.csv", "predictions.json"}
        row = table(out)[str(mixed / "film0.png")]
        assert row["files"] == "film0.left_lung.png;film0.heart.png"
        for name, file in (("left lung", "film0.left_lung.png"), ("heart", "film0.heart.png")):
            mask = Image.open(out / file)
            assert mask.mode == "1" and mask.size == Image.open(mixed / "film0.png").size
            assert int(row[f"{name} voxels"]) == np.count_nonzero(np.asarray(mask))
        row = table(out)[str(mixed / "deep" / "ct1.nii.gz")]
        mask = nibabel.load(out / "ct1.heart.nii.gz")
        assert int(row["heart voxels"]) == np.count_nonzero(np.asarray(mask.dataobj))

    @pytest.mark.parametrize("kind", ["segmentation", "overlapping"])
    def test_probabilities_agree_with_labels(self, mixed, make_settings, tmp_path, kind):
        words = [str(mixed / "deep" / "ct0.nii.gz"), str(mixed / "film0.png")]
        run_prediction(words, make_settings(kind, probabilities=True))
        out = tmp_path / "out"
        volume = nibabel.load(out / "ct0.probabilities.nii.gz")
        classes = 3 if kind == "segmentation" else 2
        assert volume.shape == (*nibabel.load(words[0]).shape, classes)
        assert volume.get_data_dtype() == np.uint16
        film = np.load(out / "film0.probabilities.npz")
        assert film["probabilities"].dtype == np.float16
        assert film["probabilities"].shape == (classes, 40, 48)
        assert list(film["classes"])[-1] == "heart"
        values = volume.get_fdata()
        assert values.min() >= 0 and values.max() <= 1
        if kind == "segmentation":
            np.testing.assert_allclose(values.sum(-1), 1, atol=1e-4)
            labels = np.asarray(nibabel.load(out / "ct0.nii.gz").dataobj)
            # In steps of the file, two may be equal.
            assert np.mean(values.argmax(-1) == labels) > 0.99
        else:
            mask = np.asarray(nibabel.load(out / "ct0.heart.nii.gz").dataobj)
            assert np.mean((values[..., 1] > 0.5) == mask) > 0.99
        # they are what is predicted without them
        before = files_in(out)
        other = make_settings(kind, output=str(tmp_path / "other"))
        run_prediction(words, other)
        kept = files_in(tmp_path / "other")
        assert before - kept == {"ct0.probabilities.nii.gz", "film0.probabilities.npz"}
        for name in kept:
            if name.startswith("ct0"):
                pair = [
                    np.asarray(nibabel.load(at / name).dataobj) for at in (out, tmp_path / "other")
                ]
                assert np.mean(pair[0] == pair[1]) > 0.999

    def test_a_series_and_mirrored_windows(self, make_settings, tmp_path):
        hu = np.random.default_rng(0).integers(-1000, 1000, (9, 40, 36))
        write_series(tmp_path / "patient" / "series", hu)
        run_prediction([str(tmp_path / "patient")], make_settings(mirror=[2, 0], overlap=0.25))
        out = tmp_path / "out"
        labels = nibabel.load(out / "series.nii.gz")
        assert labels.shape == (36, 40, 9)
        (row,) = table(out).values()
        ml = float(row["background ml"]) / int(row["background voxels"] or 1)
        assert ml == pytest.approx(2.5 * 0.8 * 0.7 / 1000, rel=1e-3)
        assert json.loads((out / "predictions.json").read_text())["mirror"] == [0, 2]

    def test_an_axis_that_an_image_lacks_is_told(self, images, make_settings, tmp_path):
        result = run_prediction([str(images / "0.png")], make_settings(mirror=[2]))
        assert result.num_bad == 1
        assert "wanted different axes among 0 (height)" in result.errors.read_text()

    def test_records_of_a_data_set_have_a_folder(self, make_settings, tmp_path):
        records = [Image.fromarray(np.full((40, 44), 40 * index, np.uint8)) for index in range(3)]
        features = datasets.Features({"scan": datasets.Image()})
        (tmp_path / "set").mkdir()
        data_set = datasets.Dataset.from_dict({"scan": records}, features=features)
        data_set.to_parquet(tmp_path / "set" / "train.parquet")
        settings = make_settings(dimension="2d")
        assert run_prediction([str(tmp_path / "set")], settings).num_predicted == 3
        (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
        assert folder.name.endswith("set_train")
        assert {path.name for path in folder.iterdir()} == {"0.png", "1.png", "2.png"}
        assert run_prediction([str(tmp_path / "set")], settings).num_new == 0


class TestClassification:
    def test_each_class_has_a_column(self, mixed, make_settings, models, tmp_path):
        result = run_prediction([str(mixed)], make_settings("classification", batch_size=2))
        assert result.num_predicted == 5
        out = tmp_path / "out"
        assert files_in(out) == {"predictions.csv", "predictions.json"}
        rows = table(out)
        classify = pipeline("medical-image-classification", models["classification"])
        for name, row in rows.items():
            # a class has the name of a column
            assert list(row) == ["name", "files", "label", "normal", "covid", "name (2)"]
            ranked = {entry["label"]: entry["score"] for entry in classify(name)}
            found = {"normal": row["normal"], "covid": row["covid"], "name": row["name (2)"]}
            for label, score in ranked.items():
                assert float(found[label]) == pytest.approx(score, abs=1e-4)
            assert row["label"] == next(iter(ranked))
            assert row["files"] == ""

    def test_several_labels_and_values(self, images, make_settings, tmp_path):
        run_prediction([str(images)], make_settings("findings"))
        for row in table(tmp_path / "out").values():
            above = [name for name in ("mass", "nodule") if float(row[name]) > 0.5]
            assert row["label"] == ";".join(above)
        run_prediction([str(images)], make_settings("regression", output=str(tmp_path / "ages")))
        rows = table(tmp_path / "ages").values()
        assert len(rows) == 8
        assert all(row["label"] == "" and np.isfinite(float(row["age"])) for row in rows)


class TestGoingOn:
    def test_only_what_is_missing_is_predicted(self, mixed, make_settings, tmp_path, monkeypatch):
        settings, out = make_settings(), tmp_path / "out"
        run_prediction([str(mixed)], settings)
        first = table(out)
        (out / "deep" / "ct0.nii.gz").unlink()
        shutil.copy(mixed / "film0.png", mixed / "film9.png")
        kept = {name: (out / name).stat().st_mtime_ns for name in ("film0.png", "array.npy")}
        result = run_prediction([str(mixed)], settings)
        assert (result.num_inputs, result.num_predicted, result.num_new) == (6, 6, 2)
        assert (out / "deep" / "ct0.nii.gz").exists()
        assert kept == {name: (out / name).stat().st_mtime_ns for name in kept}
        rows = table(out)
        assert {name: rows[name] for name in first} == first
        assert run_prediction([str(mixed)], settings).num_new == 0

    def test_a_run_that_breaks_keeps_what_it_has(
        self, images, make_settings, tmp_path, monkeypatch
    ):
        settings, out, segment = make_settings(), tmp_path / "out", loop_module.segment

        def break_at_the_fourth(item, *rest):
            if item.name.endswith("3.png"):
                raise KeyboardInterrupt
            return segment(item, *rest)

        monkeypatch.setattr(loop_module, "segment", break_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            run_prediction([str(images)], settings)
        assert len(table(out)) == 3
        assert not list(out.rglob("*.partial")) and not (out / ".lock").exists()
        monkeypatch.undo()
        result = run_prediction([str(images)], settings)
        assert (result.num_predicted, result.num_new) == (8, 5)

    def test_bad_inputs_are_named_listed_and_tried_again(
        self, images, make_settings, tmp_path, capsys
    ):
        good = (images / "2.png").read_bytes()
        (images / "2.png").write_bytes(b"nothing")
        result = run_prediction([str(images)], make_settings())
        assert (result.finished, result.num_predicted, result.num_bad) == (True, 7, 1)
        assert result.errors == tmp_path / "out" / "errors.csv"
        with result.errors.open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert row["name"] == str(images / "2.png") and row["error"]
        assert f"bad: {images / '2.png'}: " in capsys.readouterr().err
        (images / "2.png").write_bytes(good)
        result = run_prediction([str(images)], make_settings())
        assert (result.num_predicted, result.num_new, result.errors) == (8, 1, None)
        assert not (tmp_path / "out" / "errors.csv").exists()

    def test_other_settings_do_not_mix(self, images, make_settings, tmp_path, models):
        run_prediction([str(images)], make_settings())
        for changes, named in (
            ({"overlap": 0.25}, r"overlap 0\.5 \(now 0\.25\)"),
            ({"processor": {"image_size": {"height": 48, "width": 48}}}, "processor"),
            ({"kind": "overlapping"}, "weights"),
            ({"probabilities": True}, "probabilities False"),
        ):
            with pytest.raises(ValueError, match=f"made with other settings: .*{named}"):
                run_prediction([str(images)], make_settings(**changes))
        # another name of the same model is none
        shutil.copytree(models["segmentation"], tmp_path / "copy")
        assert run_prediction([str(images)], make_settings(model=str(tmp_path / "copy"))).finished
