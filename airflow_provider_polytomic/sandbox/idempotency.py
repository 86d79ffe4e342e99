"""Recorded responses by Idempotency-Key: repeating a request returns the first response."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_provider_polytomic.api.plan import Response

from .wire import HttpError, error_response

KEY_FORMAT = re.compile(r"[A-Za-z0-9_-]{8,255}")
KEY_RETENTION = 24 * 3600  # seconds for which a response is kept


@dataclass
class _Record:
    """The first request with a key. Without a response it is still in flight."""

    since: float  # seconds since the epoch
    response: Response | None = None


class RecordedResponses:
    """The responses of all organizations, by organization and Idempotency-Key. The caller does the locking."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], _Record] = {}

    def reserve(self, organization_id: str, key: str, now: float) -> Response | None:
        """Return the response recorded for a key, or a 409 while its first request is in flight.

        Otherwise reserve the key and return None: the caller processes the request, then calls :meth:`record`.

        :raises ApiProblem: with status 400 when the key is malformed.
        """
        if not KEY_FORMAT.fullmatch(key):
            raise HttpError(400, "bad_request", "Idempotency-Key: 8 to 255 characters of A-Z, a-z, 0-9, _ and -")
        record = self._records.get((organization_id, key))
        if record is not None and record.response is not None and now - record.since >= KEY_RETENTION:
            record = None
        if record is not None:
            return record.response or error_response(
                409, "conflict", "a request with this Idempotency-Key is in flight"
            )
        self._records[organization_id, key] = _Record(now)
        return None

    def record(self, organization_id: str, key: str, response: Response) -> None:
        """Store the response to the request that reserved the key."""
        self._records[organization_id, key].response = response

    def release(self, organization_id: str, key: str) -> None:
        """Forget a key whose request was not processed."""
        del self._records[organization_id, key]
