"""Refreshes the cached schemas of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..call import fetch
from ..endpoints import connections
from ..errors import PolytomicTimeoutError
from ..plan import Plan, current_time, sleep

if TYPE_CHECKING:
    from ..models import SchemaCache


def refresh_schemas(connection_id: str, *, poke_interval: float, deadline: float) -> Plan[SchemaCache]:
    """Refresh the schemas that Polytomic has cached of a connection, and wait for the end of the refresh.

    :param poke_interval: seconds between polls.
    :param deadline: seconds since the epoch.
    :returns: the status of the cache after the refresh.
    :raises PolytomicTimeoutError: the refresh had not finished at the deadline.
    """
    before = yield from fetch(connections.schema_cache(connection_id))
    yield from fetch(connections.refresh_schemas(connection_id))
    seen_refreshing = False
    while True:
        cache = yield from fetch(connections.schema_cache(connection_id))
        finished = cache.last_refresh_finished
        if cache.cache_status == "refreshing":
            seen_refreshing = True
        # The time of the last refresh is compared, because the status does not identify a refresh. Without times, the
        # status has to change to "refreshing" and back.
        elif finished != before.last_refresh_finished or (seen_refreshing and finished is None):
            return cache
        now = yield from current_time()
        if now >= deadline:
            raise PolytomicTimeoutError(
                f"The schemas of connection {connection_id} had not been refreshed at the deadline; "
                f"their status is {cache.cache_status!r}, and the last refresh finished at {finished}"
            )
        yield from sleep(min(poke_interval, deadline - now))
