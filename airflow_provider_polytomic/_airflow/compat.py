"""Differences between the supported Airflow versions: 2.11, and 3.0 to the newest. No other module depends on them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import logging
import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow.configuration import conf
    from airflow.sdk import (
        Asset,
        AssetAlias,
        BaseHook,
        BaseOperator,
        BaseOperatorLink,
        BaseSensorOperator,
        PokeReturnValue,
        XComArg,
    )
    from airflow.sdk.definitions.param import DagParam
    from airflow.sdk.definitions.xcom_arg import PlainXComArg
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
    )
    from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent
    from airflow.triggers.shared_stream import SharedStreamProducer

log = logging.getLogger(__name__)

T = TypeVar("T")
_pending: set[asyncio.Future[Any]] = set()

# Where Airflow defines each name, the newest place first, as module:name if the name differs. Imported at first use, so
# that a DAG file with an operator does not import sensors, hooks and triggers.
_PLACES = {
    "AirflowFailException": ("airflow.sdk.exceptions", "airflow.exceptions"),  # before 3.2
    "AirflowRescheduleException": ("airflow.sdk.exceptions", "airflow.exceptions"),
    "AirflowSensorTimeout": ("airflow.sdk.exceptions", "airflow.exceptions"),
    "AirflowSkipException": ("airflow.sdk.exceptions", "airflow.exceptions"),
    "AirflowTaskTimeout": ("airflow.sdk.exceptions", "airflow.exceptions"),
    "Asset": ("airflow.sdk", "airflow.datasets:Dataset"),  # Airflow 2
    "AssetAlias": ("airflow.sdk", "airflow.datasets:DatasetAlias"),
    "BaseEventTrigger": ("airflow.triggers.base", "airflow.triggers.base:BaseTrigger"),  # Airflow 2 has no watchers
    "BaseHook": ("airflow.sdk", "airflow.hooks.base"),  # before 3.1
    "BaseOperator": ("airflow.sdk", "airflow.models"),
    "BaseOperatorLink": ("airflow.sdk", "airflow.models.baseoperatorlink"),
    "BaseSensorOperator": ("airflow.sdk", "airflow.sensors.base"),
    "BaseTrigger": ("airflow.triggers.base",),
    "DagParam": ("airflow.sdk.definitions.param", "airflow.models.param"),  # Airflow 2
    "PlainXComArg": ("airflow.sdk.definitions.xcom_arg", "airflow.models.xcom_arg"),  # Airflow 2
    "PokeReturnValue": ("airflow.sdk", "airflow.sensors.base"),
    "SharedStreamProducer": ("airflow.triggers.shared_stream", "builtins:object"),  # before 3.3
    # Each process initializes one of Airflow's two metrics clients. Before 3.2 there is one.
    "TaskStats": ("airflow.sdk.observability.stats:Stats", "airflow.stats:Stats"),
    "TriggerEvent": ("airflow.triggers.base",),
    "TriggererStats": ("airflow.observability.stats:Stats", "airflow.stats:Stats"),
    "XCom": ("airflow.sdk.execution_time.xcom", "airflow.models.xcom"),  # Airflow 2
    "XComArg": ("airflow.sdk", "airflow.models.xcom_arg"),  # Airflow 2
    "conf": ("airflow.sdk.configuration", "airflow.configuration"),  # before 3.2
    "mask_secret": ("airflow.sdk.log", "airflow.utils.log.secrets_masker"),  # Airflow 2
}

__all__ = [
    "AirflowFailException",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "Asset",
    "AssetAlias",
    "BaseEventTrigger",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "BaseTrigger",
    "DagParam",
    "PlainXComArg",
    "PokeReturnValue",
    "SharedStreamProducer",
    "TriggerEvent",
    "XComArg",
    "add_asset_event",
    "aget_connection",
    "aget_xcom",
    "aset_xcom",
    "asset_state_stores",
    "conf",
    "default_deferrable",
    "is_known_uncleared",
    "make_alias",
    "mask_secrets",
    "metrics_client",
    "read_xcom",
    "task_instance_state",
    "task_state_store",
]


@functools.cache
def _find(name: str) -> Any:
    for place in _PLACES.get(name, ()):
        module, _, other_name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), other_name or name)
        except (ImportError, AttributeError):
            continue
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __getattr__(name: str) -> Any:
    return _find(name)


def default_deferrable() -> bool:
    """``[operators] default_deferrable``."""
    return bool(_find("conf").getboolean("operators", "default_deferrable", fallback=False))


def metrics_client(*, in_triggerer: bool) -> Any:
    """Airflow's client for metrics, with ``incr``, ``gauge`` and ``timing``."""
    return _find("TriggererStats" if in_triggerer else "TaskStats")


def mask_secrets(*secrets: str | None) -> None:
    """Register secrets that Airflow masks in all logs."""
    for secret in secrets:
        if secret:
            _find("mask_secret")(secret)


async def run_in_thread(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run a call that blocks until the supervisor has responded, from inside the triggerer.

    The call is completed also when the caller is canceled. Otherwise, before Airflow 3.2, the next call would receive
    the response to this one, which ends the triggerer with all of its triggers.
    """
    from asgiref.sync import sync_to_async

    future = asyncio.ensure_future(sync_to_async(call)(*args, **kwargs))
    _pending.add(future)  # an event loop keeps only weak references
    future.add_done_callback(_pending.discard)
    return await asyncio.shield(future)


async def amask_secrets(*secrets: str | None) -> None:
    """Register secrets from inside the triggerer, without blocking its event loop."""
    try:
        from airflow.sdk.log import amask_secret
    except ImportError:  # before 3.3.2: in a thread, as with connections
        await run_in_thread(mask_secrets, *secrets)
        return
    for secret in secrets:
        if secret:
            await amask_secret(secret)


async def aget_connection(conn_id: str) -> Any:
    """Read a connection in the triggerer.

    Before 3.3.2 the awaitable accessor is missing, or registers secrets with a call that blocks the event loop. There
    the blocking accessor runs in a thread through asgiref, which returns to this event loop for the supervisor's
    connection.
    """
    try:
        from airflow.sdk.log import amask_secret  # noqa: F401  came with the accessor that does not block
    except ImportError:
        return await run_in_thread(_find("BaseHook").get_connection, conn_id)
    return await _find("BaseHook").aget_connection(conn_id)


def task_state_store(context: Mapping[str, Any]) -> Any:
    """The store in which a task keeps values across its tries (Airflow 3.3 and newer), or None."""
    return context.get("task_state_store")


def is_expanded_argument(task: Any, name: str) -> bool:
    """Whether a mapped task got this argument from ``.expand()`` or ``.partial()``, and not by default."""
    # Private names, the same in all versions. Without them, every argument counts as not given.
    is_mapped = getattr(task, "_BaseOperator__from_mapped", False)
    return bool(is_mapped) and name in getattr(task, "_BaseOperator__init_kwargs", ())


def is_known_uncleared(context: Mapping[str, Any]) -> bool:
    """Whether it is known that no task of the DAG run was ever cleared. Before 3.2 not every clear is counted."""
    from airflow import __version__

    counts_every_clear = tuple(map(int, __version__.split(".")[:2])) >= (3, 2)
    return counts_every_clear and getattr(context.get("dag_run"), "clear_number", None) == 0


def asset_state_stores(trigger: Any) -> list[Any]:
    """The stores in which a watcher's trigger keeps values: one per watched asset; none before Airflow 3.3."""
    stores = getattr(trigger, "asset_state_store", None)
    # Airflow runs equal triggers of several assets as one. Their shared store works only if there is one asset.
    return list(getattr(stores, "_by_name", {"": stores}).values()) if stores is not None else []


async def task_instance_state(task_instance: Any) -> str | None:
    """The state of a task instance, from inside the triggerer; "" if the task instance no longer exists.

    :returns: the state; None if it is unknown.
    """
    try:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    except ImportError:  # Airflow 2 offers no lookup in a triggerer
        return None
    states = await run_in_thread(
        RuntimeTaskInstance.get_task_states,
        dag_id=task_instance.dag_id,
        task_ids=[task_instance.task_id],
        run_ids=[task_instance.run_id],
        map_index=task_instance.map_index,
    )
    of_run = states.get(task_instance.run_id, {})
    names = (task_instance.task_id, f"{task_instance.task_id}_{task_instance.map_index}")
    state = next((of_run[name] for name in names if name in of_run), "")
    return None if state is None else str(getattr(state, "value", state))


async def aset_xcom(task_instance: Any, key: str, value: Any) -> None:
    """Push an XCom of a task instance, from inside the triggerer."""
    await run_in_thread(_find("XCom").set, key=key, value=value, **_xcom_address(task_instance))


async def aget_xcom(task_instance: Any, key: str) -> Any:
    """Read an XCom of a task instance, from inside the triggerer; None if there is none."""
    return await run_in_thread(_find("XCom").get_one, key=key, **_xcom_address(task_instance))


def add_asset_event(events: Any, asset: Any, extra: dict[str, Any]) -> None:
    """Add an asset event to the events of an alias.

    :param asset: an asset, or its URI. For a URI, the asset that Airflow has with this URI is used, with its name.
    """
    if not isinstance(asset, str):
        events.add(asset, extra)
        return
    known: Any = _find("Asset")
    asset = known(asset)
    if hasattr(known, "ref"):  # Airflow 2 identifies assets by URI only
        try:
            with _missing_assets_unlogged():
                events.add(known.ref(uri=asset.uri), extra)
            return
        except Exception:  # noqa: BLE001  Airflow has no such asset yet
            log.debug("Airflow has no asset %s yet", asset.uri)
    events.add(asset, extra)


@contextlib.contextmanager
def _missing_assets_unlogged() -> Iterator[None]:
    """Drop the error that Airflow's API client logs for an asset that does not exist.

    Under ``dag.test()`` that client runs in the task's process, so each new table would log an error in a task that
    succeeds. In a deployment it runs in the supervisor, and this has no effect.
    """
    client: Any = sys.modules.get("airflow.sdk.api.client")
    if not hasattr(client, "log"):
        yield
        return
    unfiltered = client.log
    client.log = _WithoutMissingAssets(unfiltered)
    try:
        yield
    finally:
        client.log = unfiltered


class _WithoutMissingAssets:
    """A logger that drops one message."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)

    def error(self, event: str, *args: Any, **details: Any) -> None:
        if event != "Asset not found":
            self._logger.error(event, *args, **details)


def make_alias(alias: Any) -> None:
    """Create an alias in Airflow before events are added through it.

    Airflow 2 creates only those that it has parsed in a DAG, which excludes mapped tasks and ``dag.test()``, and fails
    a task with events through any other. Airflow 3 creates aliases itself.
    """
    if hasattr(_find("Asset"), "ref"):
        return
    from airflow.utils.session import create_session
    from sqlalchemy.exc import IntegrityError

    model = importlib.import_module("airflow.models.dataset").DatasetAliasModel
    # IntegrityError: another task has just created it.
    with contextlib.suppress(IntegrityError), create_session() as session:
        if session.query(model).filter_by(name=alias.name).first() is None:
            session.add(model.from_public(alias))


def read_xcom(ti_key: Any, key: str) -> Any:
    """Read an XCom of a task instance; None if there is none."""
    return _find("XCom").get_value(ti_key=ti_key, key=key)


def _xcom_address(task_instance: Any) -> dict[str, Any]:
    return {name: getattr(task_instance, name) for name in ("dag_id", "task_id", "run_id", "map_index")}
