"""Money: `Decimal` in units of the service's currency, nanos (10^-9 of a unit) on the wire. Exact both ways."""

from decimal import Context, Decimal, Inexact, InvalidOperation

_NANO = Decimal("1e-9")
# Wide enough for every int64 of nanos. The caller's own context is not asked: it may round.
_EXACT = Context(prec=19, traps=[Inexact, InvalidOperation])


def to_nanos(amount: Decimal | int) -> int:
    """Raises ValueError for what has more than 9 decimals, is no number, or is too large."""
    given = Decimal(amount)
    try:
        if given.is_finite():
            return int(given.quantize(_NANO, context=_EXACT).scaleb(9, context=_EXACT))
    except Inexact:
        raise ValueError("money has at most 9 decimals") from None
    except InvalidOperation:
        pass
    raise ValueError("money is a number below 10 billion")


def from_nanos(nanos: int) -> Decimal:
    """`nanos` is at least 0."""
    whole, rest = divmod(nanos, 10**9)
    # Made of a text, because arithmetic would round to the caller's context.
    return Decimal(to_text(Decimal(f"{whole}.{rest:09}")))


def to_text(amount: Decimal) -> str:
    """Exact and short: no zeros at the end, and never 1E-9, which not every reader knows."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
