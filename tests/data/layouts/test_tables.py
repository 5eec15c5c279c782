"""Tables are read by the names of their columns."""

import pytest

from unimiss_hf.data.layouts.tables import columns_of, read_rows


def test_rows_by_column(tmp_path):
    table = tmp_path / "table.csv"
    # With the mark that Excel sets, quotes, a trailing comma, a short row and an empty one.
    table.write_bytes(b'\xef\xbb\xbfname,range,rest,\na,"1, 2", x ,\n\nb,"3, 4"\n')
    assert columns_of(table) == ["name", "range", "rest", ""]
    assert list(read_rows(table, ["name"])) == [{"name": "a"}, {"name": "b"}]
    assert list(read_rows(table, ["rest"])) == [{"rest": "x"}, {"rest": ""}]
    table.write_bytes(b'name,range\na,"1, 2"\n')
    assert list(read_rows(table, ["range", "name"])) == [{"range": "1, 2", "name": "a"}]


def test_missing_columns_are_named(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("name,age\na,3\n")
    with pytest.raises(ValueError, match=r"table\.csv has no column range; its columns are name, "):
        list(read_rows(table, ["name", "range"]))
    table.write_text("")
    with pytest.raises(ValueError, match="its columns are none"):
        list(read_rows(table, ["name"]))


def test_values_may_be_parted_by_another_sign(tmp_path):
    path = tmp_path / "meta.csv"
    path.write_text("image_id;split\ns0000; train \n", encoding="utf-8-sig")
    rows = list(read_rows(path, ["image_id", "split"], delimiter=";"))
    assert rows == [{"image_id": "s0000", "split": "train"}]
