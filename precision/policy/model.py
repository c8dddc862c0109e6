"""A tenant's precision policy as data. The defaults are the product's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from precision.decision import PriorityClass
from precision.policy.glob import Glob
from precision.profile import Precision
from precision.tasks import Sensitivity, Task

NEVER_BELOW_FP8 = frozenset({Task.LEGAL, Task.MEDICAL, Task.FINANCE})


@dataclass(frozen=True, slots=True)
class Match:
    """What a request must be for a rule to apply: every condition that is given must hold. None: any."""

    tasks: frozenset[Task] | None = None
    sensitivities: frozenset[Sensitivity] | None = None
    models: frozenset[str] | None = None
    min_tokens: int | None = None  # of the prompt, the bound included
    max_tokens: int | None = None
    labels: tuple[tuple[str, Glob], ...] = ()
    priorities: frozenset[PriorityClass] | None = None
    languages: frozenset[str] | None = None

    @property
    def trusts_the_class(self) -> bool:
        """Whether it depends on what the classifier found."""
        return self.tasks is not None or self.sensitivities is not None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a tenant: exactly one of `use`, `at_least` and `forbid` is set.

    The first matching rule with `use` replaces the default map. All matching floors and bans hold, wherever they stand.
    """

    name: str
    match: Match
    use: Precision | None = None
    at_least: Precision | None = None
    forbid: frozenset[Precision] = frozenset()


@dataclass(frozen=True, slots=True)
class Spill:
    """When capacity raises FP4 to FP8. None of it ever overrides a ban on FP8."""

    pressure: float = 4.0  # waiting requests per slot from which the FP4 pool counts as full, if FP8's is below it
    min_workers: int = 1  # with fewer live workers the FP4 pool counts as full
    tasks: frozenset[Task] | None = None  # None: all


@dataclass(frozen=True, slots=True)
class Brownout:
    """When capacity lowers FP8 to FP4: only what the default map alone sent to FP8, and only these task classes."""

    tasks: frozenset[Task]
    pressure: float = 8.0  # waiting requests per slot from which the FP8 pool counts as overloaded
    fp4_pressure: float = 1.0  # the FP4 pool must be below
    min_fp4_workers: int = 1  # and have so many live workers


class Excess(Enum):
    """What happens when a client asks for more than it may."""

    REFUSE = "refuse"  # PERMISSION_DENIED
    IGNORE = "ignore"  # the policy decides, and the decision says that the wish was ignored


@dataclass(frozen=True, slots=True)
class ClientRights:
    """What the client itself may ask for."""

    floor: bool = True
    pins: frozenset[Precision] = frozenset(Precision)
    on_excess: Excess = Excess.REFUSE


@dataclass(frozen=True, slots=True)
class Policy:
    """A tenant's rules about precision."""

    version: str = "default-1"
    default_map: Mapping[Task, Precision] = field(default_factory=lambda: MappingProxyType({}))  # over the product's
    rules: tuple[Rule, ...] = ()
    never_below_fp8: frozenset[Task] = NEVER_BELOW_FP8
    confidence_threshold: float = 0.7  # below it a task class counts as not known
    risk_threshold: float = 0.5  # from it on a prompt counts as one that needs FP8
    long_context_tokens: int = 8192  # prompts above it go to FP8
    allow_uncalibrated_fp4: bool = False  # serve from FP4 checkpoints that were quantized without calibration data
    spill: Spill | None = Spill()  # None: never
    brownout: Brownout | None = None  # None: never
    client: ClientRights = ClientRights()
