"""A tenant: who it is, what it may use, and how its work is weighed."""

from collections.abc import Iterable, Set
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError

from broker.documents import Document
from precision.decision import PriorityClass
from router.directory.quota import NO_QUOTA, Quota
from router.directory.stored import NAME, Stored, reasons

TENANT = "tenant"
MAX_DISPLAY_NAME = 200


class TenantState(StrEnum):
    """Whether a tenant may call."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


def _priority(value: object) -> object:
    """From the name that documents and the configuration use."""
    if isinstance(value, str) and value.upper() in PriorityClass.__members__:
        return PriorityClass[value.upper()]
    if isinstance(value, PriorityClass):
        return value
    raise ValueError(f"use one of {', '.join(p.name.lower() for p in PriorityClass)}")


PriorityName = Annotated[
    PriorityClass, BeforeValidator(_priority), PlainSerializer(lambda priority: priority.name.lower())
]


class Tenant(Stored):
    """A tenant as its document has it. The fields that are not stored come from the document's name and version."""

    id: str = Field(default="", exclude=True)
    etag: str = Field(default="", exclude=True)
    updated_ms: int = Field(default=0, exclude=True)
    uid: str  # differs from that of an earlier tenant with the same id: its keys do not open this one
    created_ms: int
    display_name: str = Field(default="", max_length=MAX_DISPLAY_NAME)
    state: TenantState = TenantState.ACTIVE
    weight: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False)  # share of a pool's tokens
    models: tuple[str, ...] = ()  # that it may use; empty: all
    priority_ceiling: PriorityName = PriorityClass.INTERACTIVE  # more urgent wishes are lowered to it
    quota: Quota = NO_QUOTA

    @property
    def suspended(self) -> bool:
        return self.state is TenantState.SUSPENDED

    def may_use(self, model: str) -> bool:
        return not self.models or model in self.models

    def of(self, document: Document) -> Self:
        """The same with what the document's name and version say."""
        tenant_id = document.name.partition("/")[2]
        return self.model_copy(update={"id": tenant_id, "etag": document.etag, "updated_ms": document.time_ms})

    @property
    def text(self) -> str:
        """What its document says."""
        return self.model_dump_json(exclude_none=True)


def tenant_document(tenant_id: str) -> str:
    """Name of a tenant's document."""
    return f"{TENANT}/{tenant_id}"


class TenantBook:
    """The tenants, as this router knows them. Follows the documents of kind `tenant` (router.documents)."""

    old_is_good = True

    def __init__(self) -> None:
        self.complete = False  # whether all that is stored was read; `router.directory.seeding` says so
        self._tenants: dict[str, Tenant] = {}
        self._ever: set[str] = set()

    def get(self, tenant_id: str) -> Tenant | None:
        return self._tenants.get(tenant_id)

    @property
    def all(self) -> Iterable[Tenant]:
        return self._tenants.values()

    @property
    def ever(self) -> Set[str]:
        """Ids of all tenants that there are documents of: deleted ones too, and such that cannot be read."""
        return self._ever

    def load(self, key: str, document: Document) -> None:
        if not NAME.fullmatch(key):
            raise ValueError("is no name of a tenant")
        self._ever.add(key)
        if not document.text:
            self._tenants.pop(key, None)
            return
        try:
            self._tenants[key] = Tenant.model_validate_json(document.text).of(document)
        except ValidationError as error:
            raise ValueError(reasons(error)) from None

    def reset(self) -> None:
        self.complete = False
        self._tenants.clear()
        self._ever.clear()
