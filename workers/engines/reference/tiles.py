"""Matrix products whose rows do not depend on the rows beside them, to the bit.

BLAS picks its kernels by the shape of the product, and kernels add in different orders: the same row can come out with
other bits in a batch of 5 than in one of 16. A reply would then depend on what else is running. So rows are always
multiplied in tiles of a fixed number of rows, the last one padded with zeros. Whether tiles of a width give a row the
same bits at every place, and the bits that the narrowest tile gives, is tried at start on the shapes in use.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from precision.formats.minifloat import Float32s

_NARROW = (8, 4, 2, 1)
"""Widths for the narrowest tile, best first. One row at a time is independent by itself, and slow."""

_MULTIPLES = (2, 3, 4, 5, 6, 7, 8)


class Tiles:
    """Multiplies rows in tiles of proven widths."""

    def __init__(self, widths: Sequence[int]) -> None:
        """`widths` in ascending order: see `proven_widths`."""
        self.widths = tuple(widths)

    def matmul(self, rows: Float32s, matrix: Float32s) -> Float32s:
        """[rows, inputs] @ [inputs, outputs]; each row's bits are a function of that row and the matrix."""
        count = rows.shape[0]
        tiles = list(self._tiles(count))
        padded = sum(tiles)
        if padded != count:
            filled = np.zeros((padded, rows.shape[1]), dtype=np.float32)
            filled[:count] = rows
            rows = filled
        if len(tiles) == 1:
            return np.matmul(rows, matrix)[:count]
        product = np.empty((padded, matrix.shape[1]), dtype=np.float32)
        at = 0
        for width in tiles:
            np.matmul(rows[at : at + width], matrix, out=product[at : at + width])
            at += width
        return product[:count]

    def _tiles(self, count: int) -> Iterable[int]:
        """Widths of the tiles for some rows: the narrowest that holds them all, else the widest and again."""
        while count > 0:
            width = next((w for w in self.widths if w >= count), self.widths[-1])
            yield width
            count -= width


def proven_widths(matrices: Sequence[Float32s], most: int) -> tuple[int, ...]:
    """Widths up to `most` rows that give the same bits for a row at any place, tried on each of these matrices."""
    narrow = next(w for w in _NARROW if all(_alike(m, (w,)) for m in matrices))
    if narrow == 1:
        return (1,)
    wider = [narrow * multiple for multiple in _MULTIPLES if narrow * multiple <= most]
    return (narrow, *(w for w in wider if all(_alike(m, (narrow, w)) for m in matrices)))


def _alike(matrix: Float32s, widths: Sequence[int]) -> bool:
    """Whether one row, repeated, has the same product at every place of tiles of these widths.

    Random values with full mantissas: another order of additions shows in at least one of hundreds of outputs.
    """
    row = np.random.default_rng(0).standard_normal((1, matrix.shape[0]), dtype=np.float32)
    products = np.concatenate([np.repeat(row, width, axis=0) @ matrix for width in widths]).view(np.uint32)
    return bool((products == products[0]).all())
