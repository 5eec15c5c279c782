"""What the Hub says against the metadata of a card, as far as its documentation and errors tell."""

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from huggingface_hub.utils import validate_repo_id

from unimiss_hf.hub.licenses import HUB_LICENSES

# The Hub's own expression for the metadata of a card.
_BLOCK = re.compile(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\n|$))")
_TASKS = """
    any-to-any audio-classification audio-text-to-text audio-to-audio automatic-speech-recognition
    depth-estimation document-question-answering feature-extraction fill-mask graph-ml
    image-classification image-feature-extraction image-segmentation image-text-to-text
    image-to-3d image-to-image image-to-text image-to-video keypoint-detection mask-generation
    multiple-choice object-detection other question-answering reinforcement-learning robotics
    sentence-similarity summarization table-question-answering table-to-text
    tabular-classification tabular-regression tabular-to-text text-classification text-generation
    text-ranking text-retrieval text-to-3d text-to-audio text-to-image text-to-speech text-to-video
    text2text-generation time-series-forecasting token-classification translation
    unconditional-image-generation video-classification video-text-to-text
    visual-document-retrieval visual-question-answering voice-activity-detection
    zero-shot-classification zero-shot-image-classification zero-shot-object-detection
"""
TASKS = frozenset(_TASKS.split())
LONGEST_LICENSE_NAME = 96
_LISTS_OF_TEXTS = ("tags", "datasets", "metrics", "task_categories", "size_categories")
_TEXTS = ("library_name", "pipeline_tag", "license_name", "license_link", "pretty_name")


def card_errors(text: str, kind: str = "model") -> list[str]:
    """Say why the Hub would refuse a card; nothing if it would take it.

    Args:
        text: The card.
        kind: "model", "dataset" or "space".
    """
    block = _BLOCK.match(text)
    if block is None:
        return []  # A card without metadata is one that says nothing.
    try:
        fields = yaml.load(block[2], _Strict)
    except (yaml.YAMLError, ValueError) as error:
        return [f"the metadata are not YAML: {error}"]
    if fields is None:
        return []
    if not isinstance(fields, dict):
        return [f"the metadata are {type(fields).__name__}; wanted fields by their names"]
    return [*_field_errors(fields, kind)]


def _field_errors(fields: dict[str, Any], kind: str) -> Iterator[str]:
    for name in _TEXTS:
        if name in fields and not _is_text(fields[name]):
            yield f'"{name}" must be a text, got {fields[name]!r}'
    for name in _LISTS_OF_TEXTS:
        value = fields.get(name, [])
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(_is_text(one) for one in listed):
            yield f'"{name}" must be an array of texts, got {value!r}'
    yield from _license_errors(fields, kind)
    tag = fields.get("pipeline_tag")
    if tag is not None and tag not in TASKS:
        yield f'"pipeline_tag" is {tag!r}, which is none of the tasks'
    yield from _name_errors(fields)
    yield from _widget_errors(fields.get("widget"))
    yield from _index_errors(fields)
    emissions = fields.get("co2_eq_emissions")
    grams = emissions.get("emissions") if isinstance(emissions, dict) else emissions
    if emissions is not None and not _is_number(grams):
        yield f'"co2_eq_emissions" must have a number of "emissions", got {emissions!r}'


def _license_errors(fields: dict[str, Any], kind: str) -> Iterator[str]:
    value = fields.get("license")
    named = value if isinstance(value, list) and kind == "dataset" else [value]
    for one in named if value is not None else []:
        if not isinstance(one, str) or one not in HUB_LICENSES:
            yield f'"license" must be one of the Hub\'s identifiers, got {one!r}'
    name, link = fields.get("license_name"), fields.get("license_link")
    if value == "other" and kind == "model" and name is None:
        yield '"license" is other, so "license_name" is wanted'
    if value != "other" and (name is not None or link is not None):
        yield '"license_name" and "license_link" are for a "license" that is other'
    if _is_text(name) and not re.fullmatch(rf"[a-z0-9.-]{{1,{LONGEST_LICENSE_NAME}}}", name):
        yield f'"license_name" must be lower case, without blanks, got {name!r}'
    if _is_text(link) and not re.fullmatch(r"https?://\S+|LICENSE(\.\w+)?", link):
        yield f'"license_link" must be an address or LICENSE, got {link!r}'


def _name_errors(fields: dict[str, Any]) -> Iterator[str]:
    for field in ("datasets", "base_model"):
        value = fields.get(field, [])
        for name in [value] if isinstance(value, str) else value:
            try:
                validate_repo_id(name)
            except HFValidationError:
                yield f'"{field}" names {name!r}, which cannot be a repository'


def _widget_errors(widget: Any) -> Iterator[str]:
    if widget is None:
        return
    if not isinstance(widget, list) or not widget:
        yield f'"widget" must be an array of examples, got {widget!r}'
        return
    for example in widget:
        if not isinstance(example, dict) or not {"src", "text"} & example.keys():
            yield f'an example of "widget" needs "src" or "text", got {example!r}'


def _index_errors(fields: dict[str, Any]) -> Iterator[str]:
    index = fields.get("model-index")
    if index is None:
        return
    try:
        name, results = model_index_to_eval_results(index)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        yield f'"model-index" lacks what it needs: {error!r}'
        return
    if eval_results_to_model_index(name, results) != index:
        yield '"model-index" does not come back as it is'
    for result in results:
        texts = (result.task_type, result.dataset_type, result.dataset_name, result.metric_type)
        if not all(_is_text(text) for text in (name, *texts)):
            yield f'"model-index" has a name or type that is no text: {texts}'
        if not _is_number(result.metric_value) and not _is_text(result.metric_value):
            yield f'"model-index" has the value {result.metric_value!r}, which is no number'


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class _Strict(yaml.SafeLoader):
    """Refuses a field that is there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is there twice")
        return super().construct_mapping(node, deep)
