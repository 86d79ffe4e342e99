"""Having Polytomic look anew which schemas a connection has."""

from __future__ import annotations

from ..call import fetch
from ..endpoints import connections
from ..errors import PolytomicTimeoutError
from ..models import SchemaCache
from ..plan import Plan, current_time, sleep


def refresh_schemas(connection_id: str, *, poke_interval: float, deadline: float) -> Plan[SchemaCache]:
    """Refresh a connection's schemas, and wait until that has finished.

    :param poke_interval: seconds between looks.
    :param deadline: seconds since the epoch.
    :raises PolytomicTimeoutError: it had not finished by then.
    """
    before = yield from fetch(connections.schema_cache(connection_id))
    yield from fetch(connections.refresh_schemas(connection_id))
    begun = False
    while True:
        cache = yield from fetch(connections.schema_cache(connection_id))
        finished = cache.last_refresh_finished
        if cache.cache_status == "refreshing":
            begun = True
        # The status of a moment does not tell one refresh from another, and one that failed looks finished.
        elif finished != before.last_refresh_finished or (begun and finished is None):
            return cache
        now = yield from current_time()
        if now >= deadline:
            raise PolytomicTimeoutError(
                f"the schemas of connection {connection_id} had not been refreshed at the deadline; "
                f"their status is {cache.cache_status!r}, the last refresh has finished at {finished}"
            )
        yield from sleep(min(poke_interval, deadline - now))
