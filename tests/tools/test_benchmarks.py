"""The benchmarks: their calculations, their server, their goals, and a small run of all parts."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import ssl
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polytomic.api.models import BulkSyncExecution, BulkSyncStatusSummary, ModelSyncExecution
from benchmarks import __main__ as command
from benchmarks import cold, figures, goals, growth, harness, imports, page, probe, tables, triggerer, waiting
from benchmarks.server import Settings, World
from benchmarks.waiters import KINDS
from benchmarks.work import WARM_UP, execution_id, number_of, sync_id

ROOT = Path(__file__).parents[2]


# --- figures


def test_quantile_is_a_measured_value() -> None:
    """It is the smallest value that is not below that share of all."""
    values = [5.0, 1.0, 4.0, 2.0, 3.0]

    assert [figures.quantile(values, share) for share in (0.0, 0.2, 0.5, 0.99, 1.0)] == [1.0, 1.0, 3.0, 5.0, 5.0]


def test_stall_delays_every_beat_that_it_covers() -> None:
    """A stall of 50 ms among beats of 10 ms is five late beats, each less late than the one before."""
    assert figures.all_lags([0.0, 0.05]) == pytest.approx([0.0, 0.05, 0.04, 0.03, 0.02, 0.01])


def test_cpu_time_excludes_the_cost_of_the_beats() -> None:
    """CPU time between two times is interpolated, and the cost of the beats between them is subtracted."""
    beats = [at for second in range(11) for at in (float(second), second * 0.5, 0.0)]
    heart = figures.Heart(beats, price=0.1)

    assert heart.cpu(0, 10) == pytest.approx(10 * 0.5 - 10 * 0.1)
    assert heart.cpu(2.5, 3.5) == pytest.approx(0.5 - 0.1)


def test_ratios_are_computed_within_a_repetition() -> None:
    """Each cost is divided by the reference's in the same repetition, not by the reference's median."""
    rows = [
        {"kind": kind, "repetition": repetition, "cpu_ms_per_poll": cost}
        for repetition, costs in enumerate([(1.0, 2.0), (3.0, 3.0), (9.0, 6.0)])
        for kind, cost in zip(("provider", "A10"), costs, strict=True)
    ]
    found = waiting.summary(rows)

    assert found["provider"]["x_reference"] == {"median": 1.0, "min": 0.5, "max": 1.5, "times": 3}
    assert found["A10"]["x_reference"]["max"] == 1.0


def test_tls_contexts_of_all_libraries_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are created."""
    monkeypatch.setattr(ssl.SSLContext, "__new__", ssl.SSLContext.__new__)  # puts it back afterwards
    counted = probe.TlsContexts()
    ssl.create_default_context()
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    assert counted.made == 2


# --- the server


def ask(world: World, path: str, now: float = 0.0, **query: Any) -> Any:
    asked = [
        (name, value) for name, values in query.items() for value in ([values] if isinstance(values, str) else values)
    ]
    status, body = world.answer("GET", path, asked, now)
    assert status == 200
    return json.loads(body)


def bulk(number: int) -> str:
    return f"/api/bulk/syncs/{sync_id(number)}/executions/{execution_id(number)}"


def test_ids_contain_the_number_of_their_waiter() -> None:
    """The number can be read back from the ids."""
    assert [number_of(make(number)) for make in (sync_id, execution_id) for number in (0, 9999, WARM_UP)] == [
        *(0, 9999, WARM_UP),
        *(0, 9999, WARM_UP),
    ]


@pytest.mark.parametrize("schemas", [5, 200])
@pytest.mark.parametrize("ended", [False, True])
def test_provider_models_parse_the_servers_responses(schemas: int, ended: bool) -> None:
    """Executions and batch status rows have the format of the API, with all their schemas."""
    world = World(Settings(waiters=9, schemas=schemas, ended=ended))
    execution = BulkSyncExecution.model_validate(ask(world, bulk(7))["data"])
    (row,) = ask(world, "/api/bulk/syncs/status", sync_id=[sync_id(7)])["data"]
    summary = BulkSyncStatusSummary.model_validate(row)
    model = ModelSyncExecution.model_validate(
        ask(world, f"/api/syncs/{sync_id(7)}/executions/{execution_id(7)}")["data"]
    )

    assert execution.id == model.id == execution_id(7)
    assert execution.status == model.status == summary.status == ("completed" if ended else "running")
    assert execution.is_terminal is model.is_terminal is ended
    assert summary.sync_id == sync_id(7)
    assert summary.schemas is not None
    assert {schema.execution_id for schema in summary.schemas} == {execution_id(7)}
    assert len(execution.schemas or []) == len(summary.schemas) == schemas
    assert None not in {schema.record_count for schema in summary.schemas}


def test_execution_list_has_pages() -> None:
    """250 executions are three pages, of which the last has no token."""
    world = World(Settings(listed=250, ended=True))
    path, token, seen = f"/api/bulk/syncs/{sync_id(0)}/executions", None, []
    for _ in range(3):
        page = ask(world, path, **({"page_token": token} if token else {}))
        seen += [BulkSyncExecution.model_validate(row).id for row in page["data"]]
        token = page["pagination"].get("next_page_token")

    assert token is None
    assert seen == [execution_id(number) for number in range(250)]


def test_no_work_ends_before_the_steady_state_is_over() -> None:
    """The steady state begins with the first response to the last waiter, and lasts the set number of intervals."""
    world = World(Settings(waiters=2, intervals=3, interval=10.0))
    ask(world, bulk(0), 0.0)
    ask(world, bulk(0), 1000.0)
    assert world.steady is None
    ask(world, bulk(1), 1001.0)
    assert (world.steady, world.first_end) == (1001.0, 1031.0)
    statuses = [ask(world, bulk(0), 1001.0 + after)["data"]["status"] for after in (29.0, 51.0)]

    assert statuses == ["running", "completed"]
    assert min(world.ends) == 1031.0
    assert max(world.ends) <= 1051.0


def test_server_counts_polls_and_requests_separately() -> None:
    """A batch status is one request and a poll for each waiter; those of the warm-up are not counted."""
    world = World(Settings(waiters=3, intervals=1, interval=1.0))
    ask(world, bulk(WARM_UP))
    ask(world, "/api/bulk/syncs/status", 5.0, sync_id=[sync_id(number) for number in range(3)])
    ask(world, "/api/bulk/syncs/status", 5.5, sync_id=[sync_id(number) for number in range(3)])
    ask(world, bulk(2), 9.0)
    report = world.report()

    assert (report["requests"], report["polls"], report["polls_before"]) == (4, 7, 3)
    assert (report["steady_requests"], report["steady_polls"]) == (1, 3)
    assert (report["gets"], report["gets_of_ended"]) == (1, 1)
    assert report["running"] == [5.5, 5.5, 5.5]
    assert report["reported"] == [None, None, 9.0]


def test_server_without_batch_status_responds_404() -> None:
    """For the waiters that poll directly."""
    status, _ = World(Settings(summary=False)).answer("GET", "/api/bulk/syncs/status", [("sync_id", sync_id(0))], 0.0)

    assert status == 404


def test_figures_are_computed_from_both_reports() -> None:
    """CPU per poll, fixed costs, delays and counts come from the reports of both processes."""
    beats = [value for tenth in range(121) for value in (tenth / 10, tenth / 10 * 0.02, 0.001)]
    probed = {
        "price": 0.0,
        "beats": beats,
        "began": 0.0,
        "ended": 12.0,
        "events": [10.52, 11.25],
        "memory": 1_000_000,
        "most_memory": 1_020_480,
        "tls_contexts": 1,
        "longest_collection": 0.125,
    }
    server = {
        "requests": 14,
        "gets": 2,
        "gets_of_ended": 2,
        "polls": 20,
        "steady": 2.0,
        "first_end": 10.0,
        "polls_before": 2,
        "steady_requests": 8,
        "steady_polls": 16,
        "ends": [10.0, 11.0],
        "running": [9.5, 10.1],
        "reported": [10.5, 11.2],
        "connections": 3,
        "most_connections": 2,
        "left_connections": 0,
    }
    result = figures.of_waiting({"waiters": 2, "intervals": 8, "interval": 1.0}, probed, server)

    assert result["cpu_ms_per_poll"] == pytest.approx(8 * 20 / 16)
    assert result["all_in_ms_per_poll"] == pytest.approx(12 * 20 / 20)
    assert result["fixed_ms_per_waiter"] == pytest.approx((2 * 20 - 2 * 10) / 2)
    assert result["requests_per_interval"] == 0.5
    assert result["tls_contexts_per_waiter"] == 0.5
    assert result["collection_max_ms"] == 125
    assert result["kb_per_waiter"] == pytest.approx(10)
    assert result["detection_max_ms"] == pytest.approx(520)
    # The first polled again after exactly one interval, the second 0.1 s late.
    assert result["beyond_phase_p50_ms"] == pytest.approx((20 + 150) / 2)
    assert result["event_after_answer_max_ms"] == pytest.approx(50)


# --- goals


@pytest.mark.parametrize(
    ("value", "exact", "verdict"),
    [
        (None, False, "not measured"),
        (10.0, True, "met"),
        (12.0, False, "within tolerance"),
        (12.0, True, "MISSED"),
        (12.6, False, "MISSED"),
    ],
)
def test_goal_verdict_depends_on_value_and_tolerance(value: float | None, exact: bool, verdict: str) -> None:
    """Counts must be met, measured values may exceed the goal by a quarter, and missing values are not missed goals."""
    assert goals.Goal("something", 10.0, value, exact).verdict == verdict


def test_run_without_a_part_misses_none_of_its_goals() -> None:
    """The goals are listed as not measured."""
    listed = goals.goals({})

    assert len({goal.name for goal in listed}) == len(listed) > 40
    assert {goal.verdict for goal in listed} == {"not measured"}
    assert not goals.failed({})


def test_goal_judges_the_highest_count_of_all_repetitions() -> None:
    """One connection above the goal fails the run."""
    row = {"kind": "provider", "waiters": 200, "schemas": 5, "intervals": 5, "interval": 1.0}
    rows = [{**row, "repetition": number, "most_connections": most} for number, most in enumerate((10, 11, 10))]

    assert goals.failed({"waiting": rows})
    assert not goals.failed({"waiting": rows[:1]})


def test_table_has_three_digits_and_the_spread() -> None:
    """The spread is shown for repeated measurements only."""
    spread = {"median": 0.12345, "min": 0.1, "max": 1234.5, "times": 3}
    text = tables.table(["kind", "cost"], [["first", tables.cell(spread)], ["other", tables.cell(None)]])

    assert text.splitlines() == [
        "| kind  | cost               |",
        "| ----- | ------------------ |",
        "| first | 0.123 (0.1..1,234) |",
        "| other | –                  |",
    ]


def test_deferred_task_is_copied_with_a_trigger_for_each_copy() -> None:
    """The copies differ in their ids and map indexes only."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE trigger (id INTEGER, kwargs TEXT, triggerer_id INTEGER)")
        database.execute("CREATE TABLE task_instance (id TEXT, task_id TEXT, map_index INTEGER, trigger_id INTEGER)")
        database.execute("INSERT INTO trigger VALUES (7, 'encrypted', 1)")
        database.execute("INSERT INTO task_instance VALUES ('a', 'sync', -1, 7), ('b', 'other', -1, NULL)")
        deferred = triggerer.Deferred.read(database, "sync")
        triggerer.Deferred.delete_all(database)

        deferred.copy(database, 3)

        triggers = database.execute("SELECT * FROM trigger").fetchall()
        tasks = database.execute("SELECT task_id, map_index, trigger_id FROM task_instance").fetchall()
    assert triggers == [(number, "encrypted", None) for number in (1, 2, 3)]
    assert tasks == [("sync", number, number + 1) for number in range(3)]


# --- the page


def test_page_gets_the_tables_of_the_parts_that_a_run_has(tmp_path: Path) -> None:
    """Only the block after a comment is replaced, and that of a part that was not measured stays."""
    text = "Text.\n\n<!-- benchmark: cold -->\n\n| old |\n| --- |\n\nMore.\n\n<!-- benchmark: calls -->\n\n| kept |\n"
    written = tmp_path / "page.md"
    written.write_text(text)
    spread = {"median": 12.345, "min": 1.0, "max": 20.0, "times": 3}
    start = {"requests": 3, "import_ms": spread, "first_request_ms": spread, "total_ms": spread}
    page.update(written, {"cold": {"start": start, "resume": {"requests": 0, "total_ms": spread}}})

    before, table, after = written.read_text().split("\n\n", 3)[1:]
    assert before == "<!-- benchmark: cold -->"
    assert table.splitlines()[2] == "| **this provider** | 12 ms | 12 ms | 12 ms | 3 | 12 ms | 0 |"
    assert after == "More.\n\n<!-- benchmark: calls -->\n\n| kept |\n"


def test_blocks_of_the_page_have_a_function() -> None:
    """Each comment of docs/performance.md names one, and each is used."""
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")

    assert [match[1] for match in page.BLOCK.finditer(text)] == re.findall("<!-- benchmark: (.+) -->", text)
    assert {match[1] for match in page.BLOCK.finditer(text)} == set(page.BLOCKS)


# --- the whole


def test_readme_lists_all_parts_kinds_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    """benchmarks/README.md has each part, each kind of waiter and each option."""
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        command.arguments(["--help"])
    options = set(re.findall(r"--[a-z]+", capsys.readouterr().out)) - {"--help"}

    assert [name for name in (*command.PARTS, *KINDS, *imports.KINDS, *options) if f"`{name}`" not in text] == []


def test_requests_are_counted_with_any_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent counts if it begins with an HTTP method, however much is sent at once."""
    monkeypatch.setattr(ssl.SSLSocket, "send", lambda _connection, data: len(data))
    counted = cold.Requests()
    assert counted.first is None
    for data in (b"GET / HTTP/1.1\r\n", b"Host: localhost\r\n\r\n", memoryview(b"PATCH /a HTTP/1.1\r\n")):
        ssl.SSLSocket.send(None, data)  # type: ignore[arg-type]

    assert counted.number == 2
    assert counted.first is not None


def test_growth_measures_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event stays small, whatever the number of schemas."""
    monkeypatch.setattr(growth, "LEAST", 1e-9)
    costs = growth.schemas_main(1000)

    assert {f"{step}_ms" for step in growth.STEPS} < set(costs)
    assert costs["event_kb"] < 64 < costs["peak_kb"]


@pytest.mark.system
def test_small_run_measures_the_parts(tmp_path: Path) -> None:
    """All parts but the two longest run within a minute, and all counts are as expected."""
    pytest.importorskip("airflow.dag_processing.dagbag", reason="they measure with a newer Airflow")
    result = tmp_path / "result.json"
    few = [
        *(part for part in command.PARTS if part not in ("growth", "triggerer")),
        "--kinds",
        "provider,provider-unbatched,A10,C",
        "--n",
        "20",
        "--intervals",
        "2",
        "--lives",
        "20",
        "--reps",
        "1",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *few, "--json", str(result)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(result.read_text())

    measured = {row["kind"]: row for row in result["waiting"]}
    assert set(measured) == {"provider", "provider-unbatched", "A10", "C"}
    assert measured["C"]["requests_per_poll"] == 1 / 20
    assert measured["A10"]["requests_per_poll"] == measured["provider-unbatched"]["requests_per_poll"] == 1
    assert {row["most_connections"] <= 10 for row in result["waiting"]} == {True}
    assert {row["left_connections"] for row in result["waiting"]} == {0}
    assert {result["lives"][f"left_{what}"] for what in ("sessions", "tasks", "files", "connections")} == {0}
    assert result["imports"]["provider"]["heavy"] == result["imports"]["provider"]["third_party"] == []
    assert result["calls"]["provider"]["get_5_ms"]["median"] > 0
    assert "| provider " in done.stdout
    assert "connections left after all lives" in done.stdout


def test_certificate_is_valid_for_localhost(tmp_path: Path) -> None:
    """It is self-signed."""
    certificate, key = harness.certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate))
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)

    (trusted,) = trusting.get_ca_certs()
    assert ("DNS", "localhost") in trusted["subjectAltName"]
