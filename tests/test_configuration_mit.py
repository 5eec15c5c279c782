import pytest

from unimiss_hf import MiTConfig


def test_named_sizes_differ_in_depth_alone():
    tiny, small = MiTConfig.tiny(), MiTConfig.small()
    assert tiny.depths == [1, 1, 1, 1]
    assert tiny.decoder_depths == [1, 1, 1]
    assert small.depths == [2, 3, 4, 3]
    assert small.decoder_depths == [3, 4, 3]
    assert tiny.hidden_sizes == small.hidden_sizes == [48, 128, 256, 512]
    assert MiTConfig.tiny(num_prototypes=8).num_prototypes == 8


def test_native_grids_are_those_of_the_official_position_embeddings():
    config = MiTConfig()
    assert config.native_grids(2) == [(56, 56), (28, 28), (14, 14), (7, 7)]
    assert config.native_grids(3) == [(8, 24, 24), (4, 12, 12), (2, 6, 6), (1, 3, 3)]


def test_survives_saving(tmp_path):
    config = MiTConfig.tiny(num_prototypes=128, image_size=[96, 64], out_features=["stage2"])
    config.save_pretrained(tmp_path)
    loaded = MiTConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert loaded.out_features == ["stage2"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"depths": [1, 1, 1]}, "depths"),
        ({"num_attention_heads": [5, 2, 4, 8]}, "5 heads do not divide a width of 48"),
        ({"decoder_hidden_sizes": [256, 128, 64]}, "must be \\[256, 128, 48\\]"),
        ({"image_size": [224]}, "image_size is \\[224\\]; 2 positive numbers"),
        ({"volume_size": [16, 96, 0]}, "volume_size"),
        ({"hidden_sizes": "48"}, "hidden_sizes"),
    ],
)
def test_refuses_what_does_not_fit(settings, named):
    with pytest.raises(Exception, match=named):
        MiTConfig(**settings)


def test_a_window_of_other_axes_is_refused():
    with pytest.raises(ValueError, match=r"window_size is \[8\]; 2 or 3 positive numbers"):
        MiTConfig.tiny(window_size=[8])
