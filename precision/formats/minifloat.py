"""Small binary floating-point formats: rounding, encoding and decoding, exact to the bit.

Both formats here are finite-only for our purpose: they saturate, and infinities and NaN are refused when a value is
encoded. Rounding is to nearest, ties to even, as in IEEE 754 and in the OCP specifications of FP8 and of microscaling
formats (MX 1.0), which define E4M3 and E2M1.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float32s = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_EXPONENT_MASK = np.uint32(0x7F80_0000)
_MAGNITUDE_MASK = np.uint32(0x7FFF_FFFF)
_FLOAT32_MANTISSA_BITS = 23
_FLOAT32_BIAS = 127

SMALLEST_SCALE = np.float32(2.0**-126)
"""Floor of every FP32 scale, the smallest normal number: a tensor of zeros needs no case of its own."""


@dataclass(frozen=True)
class MiniFloat:
    """A format of one sign bit, some exponent bits and some mantissa bits, at most eight in all.

    `largest` is the greatest finite value: what would round above it becomes it.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    bias: int
    largest: np.float32
    _table: Float32s = field(init=False, repr=False, compare=False)
    _smallest_normal: np.float32 = field(init=False, repr=False, compare=False)
    _magic: np.float32 = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_table", self._values_of_all_codes())
        object.__setattr__(self, "_smallest_normal", np.float32(2.0 ** (1 - self.bias)))
        # See round_into: a multiple of a power of two, so large that float32 keeps only our mantissa bits beside it.
        object.__setattr__(self, "_magic", np.float32(1.5 * 2.0 ** (_FLOAT32_MANTISSA_BITS - self.mantissa_bits)))

    @property
    def sign_bit(self) -> int:
        """The code of -0."""
        return 1 << (self.exponent_bits + self.mantissa_bits)

    @property
    def table(self) -> Float32s:
        """The value of each code, sign included: float32 [2 ** bits]. A code that means NaN gives NaN."""
        return self._table

    def _values_of_all_codes(self) -> Float32s:
        values = np.empty(2 * self.sign_bit, dtype=np.float32)
        for code in range(self.sign_bit):
            exponent, mantissa = divmod(code, 1 << self.mantissa_bits)
            fraction = mantissa / (1 << self.mantissa_bits)
            value = (1 + fraction) * 2.0 ** (exponent - self.bias) if exponent else fraction * 2.0 ** (1 - self.bias)
            values[code] = value if value <= self.largest else np.nan
            values[self.sign_bit + code] = -values[code]
        values.setflags(write=False)
        return values

    def round_into(self, values: Float32s, out: Float32s, scratch: Float32s | None = None) -> Float32s:
        """Rounds each value to the nearest one of the format, ties to even; too large ones saturate.

        Works on any shape. `out` may not be `values`; `scratch` (of the same shape) saves an allocation. The sign of
        zero is kept. Values must be finite: this is the hot path, and does not look.

        For a value in [2**e, 2**(e+1)) the format's numbers lie 2**(e - mantissa_bits) apart. Adding and taking away
        1.5 * 2**(e + 23 - mantissa_bits), next to which float32's own numbers lie just that far apart, lets the
        adder do the rounding, ties to even included. Below the smallest normal number the distance stays the same.
        """
        step = np.empty_like(values) if scratch is None else scratch
        np.clip(values, -self.largest, self.largest, out=out)
        np.bitwise_and(out.view(np.uint32), _EXPONENT_MASK, out=step.view(np.uint32))
        np.maximum(step, self._smallest_normal, out=step)
        np.multiply(step, self._magic, out=step)
        np.add(out, step, out=out)
        np.subtract(out, step, out=out)
        return np.copysign(out, values, out=out)

    def encode(self, values: Float32s) -> Bytes:
        """Codes (uint8, same shape) of the values, rounded as in `round_into`.

        Raises:
            ValueError: an infinity or NaN is among the values.
        """
        require_finite(values, self.name)
        rounded = self.round_into(values, np.empty_like(values))
        bits = rounded.view(np.uint32)
        magnitude = bits & _MAGNITUDE_MASK
        rebias = (_FLOAT32_BIAS - self.bias) << self.mantissa_bits
        normal = (magnitude >> np.uint32(_FLOAT32_MANTISSA_BITS - self.mantissa_bits)) - np.uint32(rebias)
        # Subnormal numbers are whole multiples of the smallest one.
        multiples = np.abs(rounded) / self.table[1]
        code = np.where(np.abs(rounded) < self._smallest_normal, multiples.astype(np.uint32), normal)
        sign = (bits >> np.uint32(31)) * np.uint32(self.sign_bit)
        return (code | sign).astype(np.uint8)

    def decode(self, codes: Bytes) -> Float32s:
        """Values (float32, same shape) of codes."""
        return np.take(self._table, codes)


def require_finite(values: Float32s, name: str) -> None:
    """Raises ValueError, which says where the first infinity or NaN stands, unless all values are finite."""
    finite = np.isfinite(values)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(f"{name} holds only finite values; found {values[place]} at index {place}")


E4M3 = MiniFloat("E4M3", exponent_bits=4, mantissa_bits=3, bias=7, largest=np.float32(448))
"""FP8, the finite variant (`float8_e4m3fn`): no infinities, NaN is 0x7F and 0xFF. Least positive value 2**-9."""

E2M1 = MiniFloat("E2M1", exponent_bits=2, mantissa_bits=1, bias=1, largest=np.float32(6))
"""FP4 (`float4_e2m1fn`): 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives."""
