import pytest

from unimiss_hf.data.errors import one_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a.png has 3 axes"), "has 3 axes"),
        (ValueError("a.png: 3 axes"), "3 axes"),
        (ValueError("in a.png, 3 axes"), "in a.png, 3 axes"),
        (ValueError("a.png/b has\n  3 axes"), "a.png/b has 3 axes"),
        (ValueError(), "ValueError"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_an_error_is_a_line_without_the_name(error, line):
    assert one_line(error, "a.png") == line
