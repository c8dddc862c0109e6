"""Blind mutations of bytes, for where no coverage guides them."""

import random

_TELLING = (
    b"\0",
    b"\xff" * 4,
    b"\x80",
    b"-1",
    b"1e999",
    b"{{",
    b"[[",
    b"&a",
    b"*a",
    b"\n",
    b": ",
    b"nan",
    b"\xed\xa0\x80",
)


def mutate(data: bytes, dice: random.Random) -> bytes:
    """A few pieces cut out, put in, doubled or flipped."""
    changed = bytearray(data)
    for _ in range(dice.randrange(1, 6)):
        at = dice.randrange(len(changed) + 1)
        match dice.randrange(4):
            case 0:
                del changed[at : at + dice.randrange(1, 32)]
            case 1:
                changed[at:at] = dice.choice(_TELLING) if dice.random() < 0.5 else dice.randbytes(dice.randrange(1, 16))
            case 2:
                changed[at:at] = changed[at : at + dice.randrange(1, 64)] * dice.randrange(1, 4)
            case _:
                if at < len(changed):
                    changed[at] ^= 1 << dice.randrange(8)
    return bytes(changed)
