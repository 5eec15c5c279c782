import pytest

from unimiss_hf.extraction import ExtractionSettings, parse_settings


def test_a_command_line_gives_inputs_and_settings():
    words = "a.png b --model m --output o.parquet --patches --batch_size 3 --spacing 3 1 1"
    inputs, settings = parse_settings([*words.split(), "--processor", '{"window": "lung"}'])
    assert inputs == ["a.png", "b"]
    assert settings == ExtractionSettings(
        "m",
        "o.parquet",
        patches=True,
        batch_size=3,
        spacing=[3, 1, 1],
        processor={"window": "lung"},
    )
    assert settings.processor_overrides() == {"window": "lung", "spacing": [3, 1, 1]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"workers": -1}, "workers is -1; it must be 0 or more"),
        ({"overlap": 1.0}, "overlap is 1.0"),
        ({"device": "gpu"}, "device is 'gpu'; it must be auto or cpu or cuda"),
        ({"dtype": "float16"}, "dtype is 'float16'; it must be float32 or bfloat16"),
        ({"patches_dtype": "int8"}, "it must be float32 or float16"),
        ({"dimension": "4d"}, "dimension is '4d'; it must be 2d or 3d"),
        ({"spacing": [1.0, 1.0]}, "spacing must be 3 positive mm"),
        ({"source_spacing": [0.0, 1.0, 1.0]}, "source_spacing must be 3 positive mm"),
        ({"processor": "{window: lung}"}, "not JSON"),
        ({"processor": '"lung"'}, "wanted settings by name"),
        ({"processor": {"spacing": None}, "spacing": [1, 1, 1]}, "Give the spacing once"),
        ({"output": ""}, "must be given"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        ExtractionSettings(**{"model": "m", "output": "o.parquet", **changes})


def test_the_output_is_parquet_by_name():
    with pytest.raises(ValueError, match=r"output is 'features\.csv'; features are Parquet"):
        ExtractionSettings(model="m", output="features.csv")
