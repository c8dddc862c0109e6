"""Products whose rows do not depend on the rows beside them."""

import numpy as np

from workers.engines.reference.tiles import Tiles, proven_widths


def test_each_row_has_the_same_bits_in_every_company() -> None:
    random = np.random.default_rng(0)
    matrix = random.standard_normal((576, 192), dtype=np.float32)
    rows = random.standard_normal((100, 576), dtype=np.float32)
    tiles = Tiles(proven_widths([matrix], 64))
    whole = tiles.matmul(rows, matrix)
    assert np.allclose(whole, rows @ matrix, atol=1e-3)
    for first, last in [(0, 1), (5, 6), (99, 100), (3, 12), (40, 72), (1, 100)]:
        assert tiles.matmul(rows[first:last], matrix).tobytes() == whole[first:last].tobytes()


def test_widths_are_multiples_of_the_narrowest_within_bounds() -> None:
    matrix = np.random.default_rng(1).standard_normal((64, 32), dtype=np.float32)
    widths = proven_widths([matrix], 20)
    assert widths
    assert all(width % widths[0] == 0 for width in widths)
    assert max(widths) <= 20
