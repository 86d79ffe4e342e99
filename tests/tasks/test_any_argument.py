"""Any value of any argument: it is refused by name, or the body that goes out says what was meant."""

from __future__ import annotations

import ast
import io
import itertools
import json
import os
import re
import tokenize
import uuid
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from jinja2 import Template

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic.api.errors import PolytomicError
from airflow_provider_polytomic.api.kinds import get_sync_kind
from airflow_provider_polytomic.api.plan import build_path
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator, PolytomicCreateBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE, WAREHOUSE
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as BULK
from airflow_provider_polytomic.sandbox.seed import WAREHOUSE_TO_SALESFORCE as MODEL
from airflow_provider_polytomic.sandbox.server import Server
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from airflow_provider_polytomic.triggers.events import EVENTS, PolytomicSyncEventTrigger

MANY = int(os.environ.get("POLYTOMIC_FUZZ", "300"))
NOT_SENT = object()

fuzz = settings(
    max_examples=MANY,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
over_http = settings(fuzz, max_examples=max(20, MANY // 5))

# --- what a DAG or a template can hold

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(10**4999, 10**5000),
    st.floats(),
    st.decimals(),
    st.fractions(),
    st.datetimes(),
    st.timedeltas(),
    st.uuids(),
    st.binary(max_size=5),
    st.text(max_size=20),
    st.sampled_from(["None", "", "true", "0", "a, b", "[]", "set()", "['a'", "<x>", "a\nb", BULK, BULK.upper(), ".."]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(deque),
        st.lists(inner, max_size=2).map(iter),
        st.dictionaries(st.text(max_size=3) | st.integers() | st.none(), inner, max_size=3),
        st.sets(st.text(max_size=3) | st.integers(), max_size=3),
        st.frozensets(st.text(max_size=3), max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=2).map(dict.keys),
        st.dictionaries(st.text(max_size=3), inner, max_size=2).map(dict.values),
    ),
    max_leaves=6,
)
plain_text = st.text(max_size=12).filter(lambda text: text.strip() and "{{" not in text and "{%" not in text)
ids = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12).filter(
    lambda text: text.strip() and "{{" not in text and "{%" not in text
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | plain_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain_text, inner, max_size=3),
    max_leaves=6,
)
FORMS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "JSON": json.dumps,
    "printed list": lambda value: Template("{{ v }}").render(v=value),
    "printed tuple": lambda value: Template("{{ v }}").render(v=tuple(value)),
    "tojson": lambda value: json.dumps(value, ensure_ascii=False, indent=2),
}
SETS: dict[str, Callable[[list[Any]], Any]] = {
    "set": set,
    "frozenset": frozenset,
    "printed set": lambda value: str(set(value)),
    "printed frozenset": lambda value: str(frozenset(value)),
}


def bulk(**arguments: Any) -> Any:
    """The body of a start."""
    operator = PolytomicBulkSyncOperator(task_id="t", sync_id=BULK, **arguments)
    return _body(get_sync_kind("bulk").start("s", **operator._start_arguments()))


def model(**arguments: Any) -> Any:
    operator = PolytomicModelSyncOperator(task_id="t", sync_id=MODEL, **arguments)
    return _body(get_sync_kind("model").start("s", **operator._start_arguments()))


def creation(**arguments: Any) -> Any:
    known = {
        "name": "New",
        "mode": "append",
        "default_schedule": {"frequency": "manual"},
        "destination_configuration": {},
        "source_connection_id": SALESFORCE,
        "destination_connection_id": WAREHOUSE,
    }
    operator = PolytomicCreateBulkSyncOperator(task_id="t", **(known | arguments))
    return json.loads(json.dumps(operator._body(), allow_nan=False))


def _body(call: Any) -> Any:
    body: bytes = call.request.body  # what both transports send
    return json.loads(body)


LISTS: dict[str, tuple[Callable[..., Any], Any]] = {
    "schemas": (bulk, ids),
    "identities": (model, plain_text),
    "policies": (creation, st.uuids().map(str)),
}
DEEP: dict[str, tuple[Callable[..., Any], Any]] = {
    "source_identities": (model, st.lists(json_values, max_size=2)),
    "additional_schedules": (
        creation,
        st.dictionaries(plain_text, json_values, max_size=2).map(lambda d: d | {"frequency": "x"}),
    ),
}


def sent(name: str, value: Any) -> Any:
    """What goes out for the value of one argument; NOT_SENT when nothing does, None when it is refused by its name."""
    try:
        body = {**LISTS, **DEEP}[name][0](**{name: value})
    except ValueError as error:
        assert name in str(error), error
        event("refused")
        return None
    return body.get(name, NOT_SENT)


@fuzz
@given(st.data(), st.sampled_from(sorted(LISTS)), st.sampled_from(sorted({**FORMS, **SETS})))
def test_any_list_of_texts_is_sent_as_it_was_in_each_form(data: Any, name: str, form: str) -> None:
    """A list, tuple, set or deque, itself or rendered to text, reaches the body with just its items."""
    meant = data.draw(st.lists(LISTS[name][1], min_size=1, max_size=4, unique=True))
    meant = sorted(meant, key=repr) if form in SETS else meant

    assert sent(name, {**FORMS, **SETS}[form](meant)) == meant


@fuzz
@given(st.data(), st.sampled_from(sorted(DEEP)), st.sampled_from(sorted(FORMS)))
def test_any_list_of_json_is_sent_as_it_was_in_each_form(data: Any, name: str, form: str) -> None:
    """So do lists of lists and of dicts with any JSON in them."""
    meant = data.draw(st.lists(DEEP[name][1], min_size=1, max_size=3))

    assert sent(name, FORMS[form](meant)) == meant


@fuzz
@given(st.dictionaries(plain_text, json_values, max_size=3), st.sampled_from(["dict", "JSON", "printed"]))
def test_any_dict_is_sent_as_it_was_in_each_form(meant: dict[str, Any], form: str) -> None:
    """A dict, itself or rendered to text, reaches the body as it was."""
    forms: dict[str, Callable[[Any], Any]] = {"dict": dict, "JSON": json.dumps, "printed": str}

    assert creation(destination_configuration=forms[form](meant))["destination_configuration"] == meant


@fuzz
@given(
    st.data(),
    st.sampled_from(sorted(LISTS)),
    st.sampled_from(["JSON", "printed list", "printed tuple", "printed set", "printed frozenset"]),
)
def test_half_of_a_printed_list_is_refused(data: Any, name: str, form: str) -> None:
    """Text that was cut at either end is no shorter list, and no list of fragments."""
    words = st.text("abyz.@'é-", min_size=1, max_size=6) if name != "policies" else LISTS[name][1]
    meant = data.draw(st.lists(words, min_size=1, max_size=4, unique=True))
    printed = {**FORMS, **SETS}[form](meant)
    cut = data.draw(st.integers(1, len(printed) - 1))
    half = data.draw(st.sampled_from([printed[:cut], printed[cut:]]))

    result = sent(name, half)

    # "frozenset" alone is a word like any other, and the end of one can be a whole set.
    assert result is None or "frozenset".startswith(half) or result == sorted(meant, key=repr)


def _meaning(value: Any) -> Any:
    """What a value for a list of texts means, read in another way than the code under test."""
    if value is None or (isinstance(value, str) and value.strip() in ("", "None")):
        return NOT_SENT
    if isinstance(value, str):
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(value.strip())
                break
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                continue
        else:
            return [item.strip() for item in value.split(",") if item.strip()]
        if isinstance(value, str | int | float | None):
            return [str(value)]
    return sorted(value, key=repr) if isinstance(value, set | frozenset) else list(value)


texts_like_lists = st.text("[](){}<>'\",ab \nset", max_size=14)


@fuzz
@given(st.sampled_from(["schemas", "identities"]), values | texts_like_lists)
@example("schemas", "['a' 'b']")
@example("identities", "dict_keys(['a'])")
@example("identities", '"a"')
def test_any_value_for_a_list_is_refused_by_name_or_sent_as_meant(name: str, value: Any) -> None:
    """Whatever a DAG or a template says, only texts that it means are sent, and an empty list never is."""
    if validation.is_templated(value):
        return
    result = sent(name, value)
    if result is None:
        return
    if isinstance(value, str) and result is not NOT_SENT:
        is_printed = value.strip().startswith(("[", "(", "{", "set(", "frozenset("))
        assert not (is_printed and _joins_strings(value))
        if not is_printed:
            assert result == [item.strip() for item in value.split(",") if item.strip()]
            assert not any(re.search(r"""^[\[({<'"]|[\[({]['"]|['"][\])}]|\n""", item) for item in result)
            return
        value = value.strip().removeprefix("frozen")
        if value.startswith("set("):
            value = set(ast.literal_eval(value[len("set(") : -1]))
    assert result == _meaning(value)
    assert result is NOT_SENT or (result and all(isinstance(item, str) and item.strip() for item in result))


def _joins_strings(text: str) -> bool:
    """Whether Python would make one string of two that stand side by side."""
    try:
        kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text.strip()).readline)]
    except (tokenize.TokenError, SyntaxError):
        return False
    kinds = [kind for kind in kinds if kind not in (tokenize.NL, tokenize.NEWLINE)]
    return any(one == other == tokenize.STRING for one, other in itertools.pairwise(kinds))


@fuzz
@given(values)
def test_any_value_for_source_identities_is_refused_by_name_or_sent_as_meant(value: Any) -> None:
    """What JSON cannot hold is refused when the DAG file is read, however deep it is."""
    if validation.is_templated(value):
        return
    result = sent("source_identities", value)
    if result is None or isinstance(value, str):
        return
    meant = _meaning(value)
    assert result is NOT_SENT if meant is NOT_SENT else result == json.loads(json.dumps(meant, allow_nan=False))


BOOLEANS = {"true": True, "1": True, "false": False, "0": False, "none": False, "": False}


@fuzz
@given(st.sampled_from([(bulk, "test"), (model, "test"), (model, "resync"), (creation, "active")]), values)
def test_any_value_for_a_boolean_is_refused_by_name_or_meant(where: tuple[Any, str], value: Any) -> None:
    """True, False, and the texts that Jinja makes of them."""
    make, name = where
    if validation.is_templated(value):
        return
    try:
        result = make(**{name: value}).get(name, NOT_SENT)
    except ValueError as error:
        assert name in str(error)
        return
    meant = BOOLEANS[str(value).strip().lower()]
    assert result is meant or (result is NOT_SENT and not meant)


@fuzz
@given(
    st.sampled_from(["wait_for_completion", "deferrable", "cancel_on_kill", "log_console"]),
    st.sampled_from([PolytomicBulkSyncOperator, PolytomicModelSyncOperator, PolytomicBulkSyncSensor]),
    values,
)
def test_any_value_for_an_untemplated_boolean_is_refused_by_name_or_a_bool(name: str, kind: Any, value: Any) -> None:
    """Nothing but True and False."""
    if kind is PolytomicBulkSyncSensor and name != "deferrable":
        return
    try:
        made = kind(task_id="t", sync_id=BULK, **{name: value})
    except ValueError as error:
        assert f"{name} must be True or False" in str(error)
        return
    assert getattr(made, name) is value
    assert isinstance(value, bool)


@fuzz
@given(st.sampled_from(["poke_interval", "timeout"]), values)
def test_any_value_for_seconds_is_refused_by_name_or_meant(name: str, value: Any) -> None:
    """A number or a timedelta, and no text."""
    try:
        made = PolytomicBulkSyncOperator(task_id="t", sync_id=BULK, **{name: value})
    except ValueError as error:
        assert name in str(error)
        return
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    assert getattr(made, name) == seconds
    assert value is None or (not isinstance(value, bool | str) and 0 < seconds < float("inf"))


@fuzz
@given(values | st.text(" \n\tab-.", max_size=6))
@example(f" {BULK.upper()}\n")
def test_any_value_for_an_id_is_refused_by_name_or_canonical(value: Any) -> None:
    """What is accepted is one segment of a path, without white space, and the same id for everybody who reads it."""
    if validation.is_templated(value):
        return
    made = []
    for make in (
        lambda: validation.identifier("sync_id", PolytomicBulkSyncOperator(task_id="t", sync_id=value).sync_id),
        lambda: validation.identifier("sync_id", PolytomicBulkSyncSensor(task_id="t", sync_id=value).sync_id),
        lambda: PolytomicSyncEventTrigger(sync_id=value).sync_id,
    ):
        try:
            made.append(make())
        except ValueError as error:
            assert "sync_id" in str(error)
            made.append("refused")
    assert made[0] == made[1]
    assert made[2] == made[0] or value is None
    if made[0] != "refused":
        assert isinstance(value, str)
        assert made[0] in (value.strip(), value.strip().lower())
        assert build_path("/{sync_id}", sync_id=made[0]).count("/") == 1


@fuzz
@given(
    values | st.lists(st.sampled_from(EVENTS), max_size=3),
    st.sampled_from(["events", "kind", "sync_name", "poke_interval"]),
)
def test_any_value_of_a_watcher_is_refused_by_name_or_kept(value: Any, name: str) -> None:
    """A watcher is stored as plain JSON, and begins again as the same."""
    try:
        made = PolytomicSyncEventTrigger(**{name: value})
    except ValueError as error:
        assert name in str(error)
        return
    _, kwargs = made.serialize()
    assert PolytomicSyncEventTrigger(**json.loads(json.dumps(kwargs, allow_nan=False))).serialize()[1] == kwargs


@fuzz
@given(
    st.sampled_from(
        [
            "name",
            "mode",
            "default_schedule",
            "source_configuration",
            "organization_id",
            "normalize_names",
            "data_cutoff_timestamp",
            "automatically_add_new_fields",
            "additional_schedules",
            "schemas",
            "policies",
        ]
    ),
    values,
)
def test_any_value_of_a_creation_is_refused_by_name_or_json(name: str, value: Any) -> None:
    """The body of a creation is JSON, or the argument is refused by its name."""
    if validation.is_templated(value):
        return
    try:
        body = creation(**{name: value})
    except ValueError as error:
        assert name in str(error)
        return
    assert body.get(name) != []


# --- over HTTP


@pytest.fixture(scope="module")
def sandbox() -> Any:
    sandbox = Sandbox(speed=20_000)
    server = Server(sandbox)
    connection = json.dumps({"conn_type": "polytomic", "host": server.url, "password": sandbox.key})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", connection)
        yield sandbox
    server.close()


@over_http
@given(
    st.sampled_from(
        [
            ("bulk", "schemas"),
            ("model", "identities"),
            ("model", "source_identities"),
            ("bulk", "test"),
            ("model", "resync"),
            ("bulk", "resync_mode"),
            ("bulk", "fetch_mode"),
            ("bulk", "idempotency_key"),
        ]
    ),
    values | st.lists(ids, min_size=1, max_size=3) | st.sets(ids, min_size=1, max_size=3),
)
def test_any_argument_of_a_start_by_the_hook_is_refused_by_name_or_on_the_wire(
    sandbox: Any, where: tuple[str, str], value: Any
) -> None:
    """A ValueError before anything is sent, or a POST whose body says what was meant."""
    kind, name = where
    sync_id = {"bulk": BULK, "model": MODEL}[kind]
    known = dict(value) if isinstance(value, dict) else value
    before = len(sandbox.requests)
    try:
        getattr(PolytomicHook(max_retries=0), f"start_{kind}_sync")(sync_id, **{name: value})
    except ValueError as error:
        assert name in str(error)
        assert len(sandbox.requests) == before
        return
    except PolytomicError:
        pass  # the sandbox has no such schema, or one runs
    (post,) = [request for request in sandbox.requests[before:] if request.method == "POST"]
    if name == "idempotency_key":
        return
    if known is None or known is False or known == "":
        assert post.body == {}
    elif isinstance(known, set | frozenset):
        assert post.body == {name: sorted(known, key=repr)}
    elif isinstance(known, list | tuple | deque | bool | str):
        assert post.body == {name: json.loads(json.dumps(list(known) if not isinstance(known, bool | str) else known))}
    else:  # an iterator, the keys or the values of a dict
        assert post.body[name]
        assert not isinstance(known, bytes | dict)


@over_http
@given(values, st.sampled_from(["bulk", "model"]))
def test_any_field_of_a_creation_by_the_hook_is_refused_by_name_or_on_the_wire(
    sandbox: Any, value: Any, kind: str
) -> None:
    """A ValueError before anything is sent, or a POST whose body says what was given."""
    before = len(sandbox.requests)
    fields = {"name": f"New {uuid.uuid4()}", "x": value}
    try:
        getattr(PolytomicHook(max_retries=0), f"create_{kind}_sync")(**fields)
    except ValueError as error:
        assert "x" in str(error)
        assert len(sandbox.requests) == before
        return
    except PolytomicError:
        pass  # required fields are missing
    (post,) = sandbox.requests[before:]
    assert post.body == json.loads(json.dumps(fields, allow_nan=False))


@pytest.mark.parametrize("value", [datetime(2026, 1, 1), Decimal("NaN"), Fraction(1, 2)])
def test_place_of_what_json_cannot_hold_is_named(value: Any) -> None:
    """The message leads to the very item."""
    with pytest.raises(ValueError, match=r"^source_identities\[1\]\[0\]\['value'\] must be what JSON can hold"):
        model(source_identities=[[{"value": "a"}], [{"value": value}]])
