import math

import pytest

from unimiss_hf.training.ranking import Ranking


def test_the_mean_is_over_the_steps_that_have_the_number():
    ranking = Ranking("loss/image_to_image")
    for values in ({"loss/image_to_image": 1.0}, {"loss": 50.0}, {"loss/image_to_image": 2}):
        ranking.observe(values)
    assert ranking.take() == 1.5


def test_each_mean_begins_anew():
    ranking = Ranking("loss")
    ranking.observe({"loss": 1.0})
    assert ranking.take() == 1.0
    assert ranking.take() is None
    ranking.observe({"loss": 5.0})
    assert ranking.take() == 5.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_judges_nothing(value):
    ranking = Ranking("spread/image")
    ranking.observe({"spread/image": 0.5})
    ranking.observe({"spread/image": value})
    assert ranking.take() is None


@pytest.mark.parametrize(("mode", "best"), [("min", -2.0), ("max", 3.0)])
def test_the_best_has_the_least_key(mode, best):
    assert min((3.0, -2.0, 0.5), key=Ranking("loss", mode).key) == best


def test_an_unknown_mode():
    with pytest.raises(ValueError, match="'least'; it must be 'min' or 'max'"):
        Ranking("loss", "least")
