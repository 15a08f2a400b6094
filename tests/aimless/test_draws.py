import numpy as np

from aimless.draws import generator


def test_a_draw_depends_on_its_key_alone():
    first = generator("segment", 3, 1, 4).random(5)
    generator("segment", 3, 1, 5).random(100)
    np.random.default_rng().random(100)
    assert np.array_equal(first, generator("segment", 3, 1, 4).random(5))


def test_other_keys_give_other_draws():
    keys = [("a", 0, 0), ("a", 0, 1), ("a", 1, 0), ("b", 0, 0), ("a", 0), ("a", 0, 0, 0)]
    draws = {float(generator(*key).random()) for key in keys}
    assert len(draws) == len(keys)
