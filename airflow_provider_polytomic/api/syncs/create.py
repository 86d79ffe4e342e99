"""How a bulk sync is created once, whatever dies on the way.

Names need not be unique in Polytomic, so looking for the name does not tell whether an earlier try of the same task has
created the sync. The idempotency key does: each try has one of its own, and asking with that of an earlier try gives
back what it created. So a try begins with asking those; one that was never used is used up by that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..call import Call
from ..endpoints import bulk_syncs, connections
from ..errors import PolytomicLookupError
from ..idempotency import CREATION, compute_key, read_current, replay_key, send_once
from ..models import BulkSync, Connection
from ..plan import Plan, current_time
from .destination import check_configuration
from .lookup import MAX_WALKS, Walked, single_match, walk_until_complete, with_name

log = logging.getLogger(__name__)

POLICIES = ("fail", "skip")


@dataclass(frozen=True)
class CreateRequest:
    """What is to be created, and for whom.

    :param body: the fields of the API's request.
    :param task: what tells this task of this run from all others: DAG, run, task, map index, the run's start.
    :param try_number: the try that asks.
    :param first: the first try since a person last cleared the task; a retry resumes, a clear restarts.
    :param if_exists: what to do about a sync that has the name already: one of :data:`POLICIES`.
    """

    body: dict[str, Any]
    task: tuple[str, ...]
    try_number: int = 1
    first: int = 1
    if_exists: str = "fail"

    def call(self, try_number: int, body: dict[str, Any]) -> Call[BulkSync]:
        """A request with the key of a try."""
        key = compute_key(["create", *self.task, self.body, try_number])
        return bulk_syncs.create(body, idempotency_key=key)


def resolve_connection_ids(wanted: dict[str, str]) -> Plan[dict[str, str]]:
    """The ids of connections that are named by their id or name.

    :param wanted: ``source_connection`` and ``destination_connection``, or one of them, or none.
    :returns: the same with ``_id`` behind the names, as the API has it.
    :raises PolytomicLookupError: no connection, or several.
    """
    if not wanted:
        return {}

    def enough(items: Iterable[Connection]) -> bool:
        ids = {connection.id for connection in items}
        return all(it in ids or len(with_name(items, it)) == 1 for it in wanted.values())

    walked = yield from walk_until_complete(connections.list_(), enough=enough)
    ids = {connection.id for connection in walked.items}
    return {
        f"{name}_id": it if it in ids else single_match(walked, it, "connection", f"{name}_id").id
        for name, it in wanted.items()
    }


def create_once(creation: CreateRequest) -> Plan[BulkSync]:
    """The sync that this task has created, now or in an earlier try; or, with ``skip``, the one that was there.

    :raises PolytomicLookupError: the name is taken and ``if_exists`` is ``fail``, or several have it; or the list of
        syncs changed so often that the name cannot be known to be free.
    :raises ValueError: the destination's own schema says that ``destination_configuration`` does not fit.
    :raises PolytomicError: the server refused it, or the outcome is unknown.
    """
    began = yield from current_time()
    name = creation.body["name"]
    there: Walked[BulkSync] = Walked([], complete=False)
    for earlier in range(creation.first, creation.try_number):
        if not there.items:
            there = yield from _list_syncs_named(name)
        # Unless the name is known to be free, the request is one that can create nothing.
        is_free = there.complete and not there.items
        sync = yield from _replay_creation(creation, earlier, creation.body if is_free else {}, began)
        if sync is not None:
            return sync
    if not there.items:
        there = yield from _list_syncs_named(name)
    if there.items:
        return _use_existing(creation, there.items)
    if not there.complete:
        raise PolytomicLookupError(
            f"Could not confirm that no bulk sync is named {name!r}: the list of bulk syncs changed during each of "
            f"{MAX_WALKS} walks. Nothing was created."
        )
    yield from check_configuration(
        creation.body["destination_connection_id"], creation.body["destination_configuration"]
    )
    created = yield from send_once(creation.call(creation.try_number, creation.body), CREATION)
    log.info("Created bulk sync %r (%s)", created.name, created.id)
    return created


def _replay_creation(
    creation: CreateRequest, try_number: int, body: dict[str, Any], began: float
) -> Plan[BulkSync | None]:
    """What an earlier try has created, as it is now; None when it created nothing, or that is gone."""
    held = yield from replay_key(creation.call(try_number, body), CREATION, began)
    if not isinstance(held, BulkSync):
        log.info("Try %d created nothing: %s", try_number, held)
        return None
    sync = yield from read_current(bulk_syncs.get(held.id))
    if sync is None:
        log.warning("Try %d created bulk sync %s, which is gone", try_number, held.id)
    else:
        log.info("Bulk sync %r (%s) is what try %d of this task created", sync.name, sync.id, try_number)
    return sync


def _list_syncs_named(name: str) -> Plan[Walked[BulkSync]]:
    """The syncs that have this name. Only when the list is complete, no sync means that the name is free."""
    walked = yield from walk_until_complete(bulk_syncs.list_(), enough=lambda items: len(with_name(items, name)) == 1)
    return Walked(with_name(walked.items, name), walked.complete)


def _use_existing(creation: CreateRequest, there: list[BulkSync]) -> BulkSync:
    name, ids = creation.body["name"], ", ".join(sync.id for sync in there)
    if creation.if_exists == "fail":
        has = "a bulk sync has" if len(there) == 1 else f"{len(there)} bulk syncs have"
        message = f"{has} the name {name!r} already: {ids}. Nothing was created (if_exists='fail')"
        raise PolytomicLookupError(message, [sync.id for sync in there])
    if len(there) > 1:
        message = f"{len(there)} bulk syncs are named {name!r}, and none of them is the one: {ids}"
        raise PolytomicLookupError(message, [sync.id for sync in there])
    log.info("Bulk sync %r is there already (%s): nothing was created (if_exists='skip')", name, ids)
    return there[0]
