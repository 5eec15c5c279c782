"""Sample data, told by what their folders note."""

from unimiss_hf.data.sample_terms import SAMPLE_LICENSE, find_sample_data


def test_every_kind_of_sample_notes_what_it_is(tmp_path):
    for note, title in (
        ("sample.json", "the sample CT"),
        ("sample_organs.json", "organs of the sample CT"),
        ("sample_views.json", "views of the chest"),
    ):
        folder = tmp_path / note.removesuffix(".json")
        (folder / "part").mkdir(parents=True)
        (folder / note).write_text("{}")
        found = find_sample_data(folder / "part")
        assert found == find_sample_data(folder)
        assert found.title.startswith(title)
        assert found.terms_url == SAMPLE_LICENSE.url


def test_another_folder_is_none(tmp_path):
    assert find_sample_data(tmp_path) is None
    assert find_sample_data(tmp_path / "nothing") is None
