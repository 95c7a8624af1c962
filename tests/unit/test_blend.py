"""What is painted fades into what surrounds it, and into nothing else."""

import numpy as np

from inference.blend import FADE, faded

SIDE = 100
AROUND = np.ones((SIDE, SIDE), np.bool_)
AROUND[20:80, 20:80] = False
PAINTED = np.full((SIDE, SIDE, 3), 40, np.float32)
VIEW = np.full((SIDE, SIDE, 3), 200, np.uint8)


def test_at_the_outline_there_is_no_step_and_deeper_inside_all_is_painted():
    new = faded(PAINTED, VIEW, AROUND)
    across = new[50, 20:50, 0]
    assert across[0] > 190
    assert (np.diff(across) <= 1e-3).all()
    depth = int(FADE * SIDE)
    np.testing.assert_array_equal(new[20 + depth : 80 - depth, 20 + depth : 80 - depth], 40)


def test_what_is_painted_or_kept_does_not_spread():
    other = VIEW.copy()
    other[~AROUND] = (255, 0, 0)
    np.testing.assert_array_equal(faded(PAINTED, other, AROUND), faded(PAINTED, VIEW, AROUND))


def test_the_middle_of_something_small_is_painted_beside_something_large():
    around = AROUND.copy()
    around[5:10, 5:10] = False
    new = faded(PAINTED, VIEW, around)
    np.testing.assert_array_equal(new[7, 7], 40)
    assert new[5, 7, 0] > 60


def test_without_surroundings_all_is_painted():
    np.testing.assert_array_equal(faded(PAINTED, VIEW, np.zeros_like(AROUND)), PAINTED)
