"""The arguments that the operators for bulk and model syncs share: their types, and their validation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, get_args

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic._airflow.compat import Asset, AssetAlias, BaseOperator
from airflow_provider_polytomic.types import IfRunning

if TYPE_CHECKING:
    from airflow_provider_polytomic._airflow.compat import PlainXComArg

_CHECKS: dict[str, validation.Check] = {
    "sync_id": validation.identifier,
    "if_running": validation.one_of(get_args(IfRunning)),
    "allow_errors": validation.error_limit,
    "min_records": validation.count,
    "queue_timeout": validation.duration,
    "fresh_within": validation.duration,
}
NOT_OWN = ("self", "kwargs", "__class__")  # names in an `__init__` that are no arguments of this package's operators
_FLAGS = ("wait_for_completion", "deferrable", "cancel_on_kill", "log_console")  # not templated


class ExecutionArguments(BaseOperator):
    """Holds the arguments of an operator. A subclass adds those of the start, and calls :meth:`_set_arguments`."""

    sync_id: str | None
    sync_name: str | None
    polytomic_conn_id: str
    wait_for_completion: bool
    deferrable: bool
    poke_interval: float
    timeout: float | None
    queue_timeout: float | timedelta | str | None
    if_running: str
    fresh_within: float | timedelta | str | None
    allow_errors: bool | int | float
    min_records: int | None
    cancel_on_kill: bool
    log_console: bool
    retry_failed_schemas_only = False  # of bulk syncs
    assets: bool | Mapping[str, Any]
    if TYPE_CHECKING:

        @property
        def output(self) -> PlainXComArg:  # Airflow declares a type without ``output["execution"]``
            ...

    def _set_arguments(
        self,
        *,
        poke_interval: float | timedelta,
        timeout: float | timedelta | None,
        assets: bool | Mapping[str, Any],
        **others: Any,
    ) -> None:
        """Set and validate arguments.

        Not an ``__init__``, because Airflow wraps every ``__init__`` in the hierarchy, which slows DAG parsing.

        :raises ValueError: an argument is invalid; the message begins with its name.
        """
        interval = validation.seconds("poke_interval", poke_interval)
        if interval is None:
            raise ValueError("poke_interval must be more than 0 seconds, not None")
        timeout = validation.seconds("timeout", timeout)
        _validate_assets(assets)
        for name in _FLAGS:
            validation.flag(name, others[name])
        validation.set_attributes(self, poke_interval=interval, timeout=timeout, assets=assets, **others)
        if assets is not False:
            self.outlets = [*self.outlets, self._alias]
        self._validate()

    def _validate(self) -> None:
        """Validate the arguments that are known: literals in ``__init__``, templated ones when the task runs.

        :raises ValueError: an argument is invalid; the message begins with its name.
        """
        validation.exactly_one("sync_id", self.sync_id, "sync_name", self.sync_name)
        validation.validate_known(self, _CHECKS)
        self._get_start_arguments()

    def _get_start_arguments(self) -> dict[str, Any]:
        """The arguments of the start that are known, as the endpoint function takes them.

        :raises ValueError: an argument is invalid; the message begins with its name.
        """
        raise NotImplementedError

    def _criteria(self) -> dict[str, Any]:
        """The criteria of a success, as :func:`.outcome.failure_reason` takes them.

        :raises ValueError: an argument is invalid; the message begins with its name.
        """
        return {
            "allow_errors": validation.error_limit("allow_errors", self.allow_errors),
            "min_records": validation.count("min_records", self.min_records),
        }

    def _get_queue_timeout(self, *, is_owned: bool) -> float | None:
        """Seconds that an execution may be queued. An execution that the task did not start has no limit.

        :raises ValueError: the argument is invalid; the message begins with its name.
        """
        return validation.duration("queue_timeout", self.queue_timeout) if is_owned else None

    @property
    def _alias(self) -> AssetAlias:
        has_dag = self.has_dag()  # type: ignore[no-untyped-call]  # Airflow's
        return task_alias(self.dag_id if has_dag else None, self.task_id)


def task_alias(dag_id: str | None, task_id: str) -> AssetAlias:
    """Return the alias for all tables of a task: ``polytomic:dag_id.task_id``, or ``polytomic:task_id``."""
    return AssetAlias(name=f"polytomic:{dag_id}.{task_id}" if dag_id else f"polytomic:{task_id}")


def _validate_assets(assets: Any) -> None:
    """Validate the argument ``assets`` of an operator.

    :raises ValueError: it is invalid.
    """
    if isinstance(assets, bool):
        return
    if not isinstance(assets, Mapping):
        raise ValueError(f"assets must be True, False, or a dict from tables to assets, not {assets!r:.200}")
    for table, asset in assets.items():
        if not isinstance(table, str) or not isinstance(asset, str | Asset | None):
            raise ValueError(
                f"assets must map each table to a URI, an Asset or None; {table!r:.100} has {asset!r:.100}"
            )
        if isinstance(asset, str):
            try:
                Asset(asset)
            except ValueError as error:
                raise ValueError(f"assets contains an invalid URI for {table!r:.100}: {error}") from None
