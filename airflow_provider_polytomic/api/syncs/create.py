"""Creates a bulk sync exactly once, even if processes die and responses are lost.

Names are not unique in Polytomic, so a sync with the right name is no proof that an earlier try of the task created it.
The idempotency key is: each try has its own, and replaying the key of an earlier try returns the sync that it created.
A try therefore begins by replaying the keys of the earlier tries. Replaying an unused key uses it up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import models
from ..call import Call
from ..endpoints import bulk_syncs, connections
from ..errors import PolytomicLookupError
from ..idempotency import compute_key, read_current, replay_key, send_once
from ..plan import Plan, current_time
from .destination import check_configuration
from .lookup import MAX_WALKS, Listing, single_match, walk_until_complete, with_name

if TYPE_CHECKING:
    from ..models import BulkSync, Connection

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CreateRequest:
    """The bulk sync to create, and for which task.

    :param body: the body of the API's request.
    :param task: identifies the task instance: DAG, run, task, map index, the run's start date.
    :param try_number: the current try.
    :param first_try: the first try since the last clear. Keys of tries from here on are replayed.
    :param if_exists: what to do if another sync has the name: ``fail`` or ``skip``.
    """

    body: dict[str, Any]
    task: tuple[str, ...]
    try_number: int = 1
    first_try: int = 1
    if_exists: str = "fail"

    def call(self, try_number: int, body: dict[str, Any]) -> Call[BulkSync]:
        """The creation with the key of a try."""
        key = compute_key(["create", *self.task, self.body, try_number])
        return bulk_syncs.create(body, idempotency_key=key)


def resolve_connection_ids(references: dict[str, str]) -> Plan[dict[str, str]]:
    """Resolve connections, each given by its id or name, to ids. An id takes precedence over an equal name.

    :param references: the id or name by argument: ``source_connection``, ``destination_connection``.
    :returns: the ids by field of the API: ``source_connection_id``, ``destination_connection_id``.
    :raises PolytomicLookupError: no connection matches, or several have the name.
    """
    if not references:
        return {}

    def is_sufficient(items: Iterable[Connection]) -> bool:
        ids = {connection.id for connection in items}
        return all(value in ids or len(with_name(items, value)) == 1 for value in references.values())

    listing = yield from walk_until_complete(connections.list_(), is_sufficient=is_sufficient)
    ids = {connection.id for connection in listing.items}
    return {
        f"{argument}_id": value if value in ids else single_match(listing, value, "connection", f"{argument}_id").id
        for argument, value in references.items()
    }


def create_once(request: CreateRequest) -> Plan[BulkSync]:
    """Create the sync, unless an earlier try of the task has created it.

    :returns: the created sync; with ``if_exists="skip"``, the existing one.
    :raises PolytomicLookupError: a sync has the name and ``if_exists`` is ``fail``, or several have it; or the list of
        syncs changed so often that the name may be taken.
    :raises ValueError: ``destination_configuration`` violates the JSON schema of the destination.
    :raises PolytomicError: the server refused the creation, or its outcome is unknown.
    """
    sent_before = yield from current_time()
    name = request.body["name"]
    existing: Listing[BulkSync] = Listing([], complete=False)
    for earlier in range(request.first_try, request.try_number):
        if not existing.items:
            existing = yield from list_syncs_named(name)
        # If the name may be taken, an empty body makes the request fail, so that it creates nothing.
        is_free = existing.complete and not existing.items
        sync = yield from _replay_creation(request, earlier, request.body if is_free else {}, sent_before)
        if sync is not None:
            return sync
    if not existing.items:
        existing = yield from list_syncs_named(name)
    if existing.items:
        return _use_existing(request, existing.items)
    require_complete(existing, name)
    yield from check_configuration(request.body["destination_connection_id"], request.body["destination_configuration"])
    created = yield from send_once(request.call(request.try_number, request.body), "creation")
    log.info("Created bulk sync %r (%s).", created.name, created.id)
    return created


def _replay_creation(
    request: CreateRequest, try_number: int, body: dict[str, Any], sent_before: float
) -> Plan[BulkSync | None]:
    """Replay the key of an earlier try. With the original body, an unused key creates the sync.

    :returns: the current state of the sync that the try created; None if it created none, or the sync is deleted.
    """
    replayed = yield from replay_key(request.call(try_number, body), "creation", sent_before)
    if not isinstance(replayed, models.BulkSync):
        log.info("Try %d created no bulk sync: %s", try_number, replayed)
        return None
    sync = yield from read_current(bulk_syncs.get(replayed.id))
    if sync is None:
        log.warning("Try %d created bulk sync %s, which no longer exists.", try_number, replayed.id)
    else:
        log.info("Try %d of this task created bulk sync %r (%s). Using it.", try_number, sync.name, sync.id)
    return sync


def list_syncs_named(name: str) -> Plan[Listing[BulkSync]]:
    """List the syncs that have this name. The name is free only if the listing is empty and complete."""
    listing = yield from walk_until_complete(
        bulk_syncs.list_(), is_sufficient=lambda items: len(with_name(items, name)) == 1
    )
    return Listing(with_name(listing.items, name), listing.complete)


def require_complete(existing: Listing[BulkSync], name: str) -> None:
    """Check that an empty listing proves that the name is free.

    :raises PolytomicLookupError: it does not.
    """
    if not existing.complete:
        raise PolytomicLookupError(
            f"Could not confirm that no bulk sync is named {name!r}: the list of bulk syncs changed during each of "
            f"{MAX_WALKS} walks. Nothing was created."
        )


def _use_existing(request: CreateRequest, existing: list[BulkSync]) -> BulkSync:
    name, ids = request.body["name"], ", ".join(sync.id for sync in existing)
    if request.if_exists == "fail":
        subject = "a bulk sync has" if len(existing) == 1 else f"{len(existing)} bulk syncs have"
        message = f"{subject} the name {name!r} already: {ids}. Nothing was created (if_exists='fail')"
        raise PolytomicLookupError(message, [sync.id for sync in existing])
    if len(existing) > 1:
        message = f"{len(existing)} bulk syncs are named {name!r}, and if_exists='skip' needs exactly one: {ids}"
        raise PolytomicLookupError(message, [sync.id for sync in existing])
    log.info("Bulk sync %r (%s) exists already. Nothing was created (if_exists='skip').", name, ids)
    return existing[0]
