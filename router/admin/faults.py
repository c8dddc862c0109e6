"""How the admin service says no, beside `router.faults`."""

import grpc

from router.faults import Fault


def tenant_exists(tenant: str) -> Fault:
    return Fault(
        grpc.StatusCode.ALREADY_EXISTS,
        "TENANT_EXISTS",
        f"there is a tenant {tenant!r} already; choose another id, or update it",
        {"tenant": tenant},
    )


def unknown_key(name: str) -> Fault:
    return Fault(
        grpc.StatusCode.NOT_FOUND,
        "KEY_NOT_FOUND",
        f"there is no key {name[:64]!r}; ListApiKeys names those there are",
        {"key": name[:64]},
    )


def key_exists(name: str) -> Fault:
    return Fault(
        grpc.StatusCode.ALREADY_EXISTS,
        "KEY_EXISTS",
        f"there is a key {name!r} already; choose another name, rotate it, or revoke it first",
        {"key": name},
    )


def key_revoked(name: str) -> Fault:
    return Fault(
        grpc.StatusCode.FAILED_PRECONDITION,
        "KEY_REVOKED",
        f"key {name!r} is revoked for good; make a new one, which may have its name",
        {"key": name},
    )


def key_limit_reached(most: int) -> Fault:
    return Fault(
        grpc.StatusCode.FAILED_PRECONDITION,
        "KEY_LIMIT_REACHED",
        f"there are {most} keys already, as many as may; take the name of a revoked one",
    )


def unknown_pool(pool: str) -> Fault:
    return Fault(
        grpc.StatusCode.NOT_FOUND,
        "POOL_NOT_FOUND",
        f"there is no pool {pool[:64]!r}; ListPools names those there are",
        {"pool": pool[:64]},
    )


def unknown_worker(worker: str) -> Fault:
    return Fault(
        grpc.StatusCode.NOT_FOUND,
        "WORKER_NOT_FOUND",
        f"no worker {worker[:64]!r} lives in that pool, nor was one told anything; ListWorkers names the live ones",
        {"worker": worker[:64]},
    )


def unknown_letter(request_id: str) -> Fault:
    """The same for another tenant's."""
    return Fault(
        grpc.StatusCode.NOT_FOUND,
        "DEAD_LETTER_NOT_FOUND",
        f"there is no dead letter {request_id!r}; ListDeadLetters names those there are",
        {"request_id": request_id},
    )


def document_unreadable(name: str) -> Fault:
    """It was written by another release, whose word is not overwritten unread."""
    return Fault(
        grpc.StatusCode.FAILED_PRECONDITION,
        "DOCUMENT_UNREADABLE",
        f"{name} was written by another release, and this router cannot read it; use one of that release",
        {"document": name},
    )
