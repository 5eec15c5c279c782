import re
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard

from card_validation import card_errors
from unimiss_hf.conversion import ConversionReport
from unimiss_hf.conversion.model_card import make_card
from unimiss_hf.hub.widget import EXAMPLE


@pytest.fixture
def report(tmp_path) -> ConversionReport:
    return ConversionReport(
        checkpoint=tmp_path / "UniMiSS_small.pth",
        folder=tmp_path / "unimiss-small",
        sha256="0123456789abcdef" * 4,
        branch="teacher",
        epoch=200,
        size="small",
        encoder_parameters=28_520_000,
        decoder_parameters=15_420_000,
        head_parameters=21_600_000,
        num_prototypes=65536,
        matched=("encoder.a", "decoder.b", "projection_head.c"),
        missing=(),
        unexpected=(),
        converted={},
    )


def test_the_metadata_are_what_the_hub_reads(report):
    text = str(make_card(report))
    metadata = yaml.safe_load(re.match("---\n(.*?)\n---\n", text, re.DOTALL)[1])
    assert metadata["library_name"] == "transformers"
    assert metadata["pipeline_tag"] == "image-feature-extraction"
    assert metadata["license"] == "mit"
    assert {"medical-imaging", "ct", "unimiss_mit"} <= set(metadata["tags"])
    assert ModelCard(text).data.to_dict() == metadata
    assert metadata["widget"][0]["src"] == EXAMPLE
    assert card_errors(text) == []


def test_where_the_weights_are_from(report, tmp_path):
    text = str(make_card(report))
    for told in (
        "# MiT-small",
        "| file | `UniMiSS_small.pth` |",
        f"`{report.sha256}`",
        "| network | teacher |",
        "| epochs of pretraining | 200 |",
        "| projection head | the file's |",
        "| encoder | 28.52 M |",
        "projection head, 65,536 prototypes | 21.60 M |",
        "not for diagnosis",
        "arXiv:2112.09356",
        "xie2024unimissplus",
    ):
        assert told in text
    assert str(tmp_path) not in text
    assert "converted to float32" not in text
    assert "left out" not in text
    assert "{" not in text.split("```bibtex")[0]
    assert text.endswith("```\n")


def test_what_is_not_as_usual_is_told(report):
    text = str(
        make_card(
            replace(
                report,
                branch=None,
                epoch=None,
                matched=("encoder.a", "decoder.b"),
                missing=("projection_head.c",),
                unexpected=("seg_head.weight", "steps"),
                converted={"float16": 5},
            )
        )
    )
    for told in (
        "| network | the only one in the file |",
        "| epochs of pretraining | not recorded in the file |",
        "| projection head | new, randomly initialised",
        "| left out | 2 entries that the network has no place for |",
        "| converted to float32 | 5 weights, from float16 |",
        "values were not, but for their type",
    ):
        assert told in text


def test_the_example_runs(converted, monkeypatch, capsys):
    text = (converted.folder / "README.md").read_text(encoding="utf-8")
    example = re.search("```python\n(.*?)```", text, re.DOTALL)[1]
    monkeypatch.chdir(converted.folder.parent)
    exec(example, {})
    assert "torch.Size([1, 512])" in capsys.readouterr().out
