"""Money: `Decimal` in units of the service's currency, nanos (10^-9 of a unit) on the wire. Exact both ways."""

from decimal import Context, Decimal, Inexact, InvalidOperation

_NANO = Decimal("1e-9")
# Wide enough for every int64 of nanos. The caller's own context is not asked: it may round.
_EXACT = Context(prec=19, traps=[Inexact, InvalidOperation])


def to_nanos(amount: Decimal | int) -> int:
    """Raises ValueError for what has more than 9 decimals, is no number, or is too large."""
    try:
        return int(Decimal(amount).quantize(_NANO, context=_EXACT).scaleb(9, context=_EXACT))
    except Inexact:
        raise ValueError("money has at most 9 decimals") from None
    except InvalidOperation:
        raise ValueError("money is a number below 10 billion") from None


def from_nanos(nanos: int) -> Decimal:
    whole, rest = divmod(abs(nanos), 10**9)
    text = f"{whole}.{rest:09}".rstrip("0").rstrip(".")
    # Made of a text, because arithmetic would round to the caller's context.
    return Decimal(f"-{text}" if nanos < 0 else text)
