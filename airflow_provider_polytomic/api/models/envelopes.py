"""The bodies of responses, with a model of the API's data in them."""

from __future__ import annotations

from typing import Any

from pydantic import Field, create_model

from .tolerant import TolerantModel


class _Pagination(TolerantModel):
    __strict_fields__ = frozenset({"next_page_token"})

    next_page_token: str | None = Field(None, max_length=4000)


class _ListEnvelope(TolerantModel):
    # Without a readable token, a list would seem to be complete.
    __strict_fields__ = frozenset({"data", "pagination"})


def build(kind: str, model: Any) -> type[TolerantModel]:
    """Build the model of a body.

    :param kind: ``one``, ``list`` or ``export``.
    """
    if kind == "list":
        fields = {"data": (list[model] | None, None), "pagination": (_Pagination | None, None)}
        return create_model("List", __base__=_ListEnvelope, **fields)  # type: ignore[call-overload,no-any-return]
    if kind == "export":
        from .jobs import Job

        return create_model(
            "Export", __base__=TolerantModel, data=(dict[str, Any] | None, None), job=(Job | None, None)
        )
    return create_model("One", __base__=TolerantModel, data=(model, ...))
