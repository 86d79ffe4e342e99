"""An operator, a sensor and a hook that do nothing: the least that a provider can cost to import."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator


class BareHook(BaseHook):
    conn_type = "bare"


class BareOperator(BaseOperator):
    def execute(self, context: Any) -> Any:
        return context


class BareSensor(BaseSensorOperator):
    def poke(self, context: Any) -> bool:
        return bool(context)
