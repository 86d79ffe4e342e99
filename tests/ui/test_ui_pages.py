"""The provider in Airflow's UI. The tests run in order: the DAG run that waits comes first."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from airflow_provider_polytomic.get_provider_info import EXTRA_FIELDS
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE, Seed
from tools.local_airflow import LocalAirflow

from .conftest import FAILING, FAILURES, MANY, RUNNING, Picture, find_sync

pytestmark = pytest.mark.ui

TABLE = "snowflake://ab12345/ANALYTICS/salesforce"


@pytest.fixture(scope="session")
def waiting(airflow: LocalAirflow) -> str:
    """The address of a run of elt_pipeline whose task load is deferred, while a run of many_syncs also waits."""
    run_id = airflow.trigger("elt_pipeline", "ui")
    airflow.trigger("many_syncs", run_id, {"name": "Postgres*"})
    airflow.wait_task("elt_pipeline", run_id, "load", "deferred", timeout=120)
    return f"/dags/elt_pipeline/runs/{run_id}"


@pytest.fixture(scope="session")
def finished(airflow: LocalAirflow, polytomic: Sandbox, seed: Seed, waiting: str, execution_id: str) -> str:
    """The same run after its end. Later executions of its sync end at once, so their tasks don't defer."""
    airflow.until(lambda: poll_count(polytomic, execution_id) >= 2, "a poll by the trigger, after the worker's")
    find_sync(seed, SALESFORCE_TO_WAREHOUSE).duration = 0.0
    polytomic.finish(SALESFORCE_TO_WAREHOUSE, execution_id)
    assert airflow.wait_run("elt_pipeline", waiting.rpartition("/")[2]) == "success"
    return waiting


def poll_count(polytomic: Sandbox, execution_id: str) -> int:
    return sum(
        request.method == "GET" and request.path.endswith(f"/executions/{execution_id}")
        for request in polytomic.requests
    )


@pytest.fixture(scope="session")
def failed(airflow: LocalAirflow, finished: str) -> str:
    """The address of a task whose execution failed."""
    assert airflow.wait_run("start_and_wait", airflow.trigger("start_and_wait", "failed")) == "failed"
    return "/dags/start_and_wait/runs/failed/tasks/sync"


@pytest.fixture(scope="session")
def repaired(airflow: LocalAirflow, failed: str) -> str:
    """The address of a task whose second try repaired two of three tables."""
    assert airflow.wait_run("repair_failed", airflow.trigger("repair_failed", "repaired")) == "success"
    return "/dags/repair_failed/runs/repaired/tasks/sync"


@pytest.fixture(scope="session")
def many(airflow: LocalAirflow) -> str:
    """The address of 200 mapped tasks, ten of which wait and fill the pool."""
    airflow.trigger("many_syncs", "many", {"name": "Customer*"})
    for number in RUNNING:
        airflow.wait_task("many_syncs", "many", "sync", "deferred", map_index=number - 1, timeout=120)
    return "/dags/many_syncs/runs/many/tasks/sync/mapped"


@pytest.fixture(scope="session")
def execution_id(polytomic: Sandbox, waiting: str) -> str:
    return polytomic.starts(SALESFORCE_TO_WAREHOUSE)[0].id


def test_graph_shows_a_deferred_task(page: Page, waiting: str, picture: Picture) -> None:
    """With the name of the operator."""
    page.goto(waiting)
    page.get_by_role("button", name="Show Graph").click()

    load = page.locator(".react-flow__node", has_text="PolytomicBulkSyncOperator")
    expect(load).to_contain_text("load")
    expect(load).to_contain_text("deferred")
    picture("deferred")


def test_deferred_task_has_a_link_to_its_execution(
    page: Page, waiting: str, polytomic: Sandbox, execution_id: str
) -> None:
    """It opens in a new window."""
    page.goto(f"{waiting}/tasks/load/details")

    with page.expect_popup() as opened:
        page.get_by_role("link", name="Polytomic execution").click()

    assert opened.value.url == f"{polytomic.url}/bulk/{SALESFORCE_TO_WAREHOUSE}/{execution_id}"


def test_task_log_has_lines_of_workers_and_triggerer(
    page: Page, finished: str, execution_id: str, picture: Picture
) -> None:
    """In one log, with the lines about the sync."""
    page.set_viewport_size({"width": 1180, "height": 700})
    page.goto(f"{finished}/tasks/load")
    wrap_lines(page)

    lines = [
        f"Started execution {execution_id} of bulk sync 'Salesforce to warehouse'",
        f"Deferred: the triggerer waits for the end of execution {execution_id}",
        f"Execution {execution_id} of bulk sync 'Salesforce to warehouse' ({SALESFORCE_TO_WAREHOUSE}) succeeded: "
        "completed, 3 of 3 schemas completed, 860 records",
    ]
    for line in lines:
        expect(page.get_by_text(line).first).to_be_visible()
    picture("log", page.locator("#details-panel"), page.get_by_text("records so far").first)


def test_rendered_templates_show_the_arguments(page: Page, finished: str) -> None:
    """Arguments that are set or have a default are shown; unset ones are not."""
    page.goto(f"{finished}/tasks/load/rendered_templates")

    expect(page.get_by_role("row", name="sync_name")).to_contain_text("Salesforce to warehouse")
    expect(page.get_by_role("row", name="if_running")).to_contain_text("wait")
    expect(page.get_by_role("row", name="resync_mode")).to_have_count(0)


def test_asset_list_has_the_tables(page: Page, finished: str) -> None:
    """By their address, or by the name that a DAG has given them."""
    page.goto("/assets")

    for name in ("accounts", f"{TABLE}/contact"):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()


def test_asset_page_shows_producer_consumer_and_rows(
    page: Page, finished: str, execution_id: str, picture: Picture
) -> None:
    """The graph leads from the DAG with the sync to the DAG that runs after it."""
    page.goto("/assets")
    page.get_by_role("link", name="accounts", exact=True).click()

    nodes = ("elt_pipeline", "polytomic:elt_pipeline.load", "accounts", f"{TABLE}/opportunity", "after_tables")
    for node in nodes:
        expect(page.locator(".react-flow__node", has_text=node).first).to_be_visible()
    page.set_viewport_size({"width": 1180, "height": 860})
    page.get_by_title("Click to expand the range.").first.click()
    event = page.locator(".view-lines").first
    expect(event).to_contain_text(execution_id[:8])  # the rest is on the next line
    expect(event).to_contain_text('"record_count": 120')
    picture("asset")


def test_mapped_tasks_have_the_names_of_their_syncs(page: Page, airflow: LocalAirflow, finished: str) -> None:
    """Instead of their index."""
    assert airflow.wait_run("many_syncs", "ui") == "success"
    page.goto("/dags/many_syncs/runs/ui/tasks/sync/mapped")

    expect(page.get_by_role("link", name="Postgres to warehouse")).to_be_visible()


def test_mapped_instances_show_how_many_syncs_run(page: Page, many: str, picture: Picture) -> None:
    """And how many have ended or are waiting for a slot of the pool."""
    page.set_viewport_size({"width": 1180, "height": 860})
    page.goto(f"{many}?sort=map_index")

    panel = page.locator("#details-panel")
    expect(panel).to_contain_text(f"Task Instances [{MANY}]")
    expect(panel).to_contain_text(re.compile(rf"Total Deferred\s*{len(RUNNING)}"))
    expect(panel).to_contain_text(re.compile(rf"Total Failed\s*{len(FAILING)}"))
    expect(page.get_by_role("link", name="Customer 001 to warehouse")).to_be_visible()
    picture("mapped", page.locator("#details-panel"))


def test_log_of_a_failed_task_says_why(page: Page, failed: str, picture: Picture) -> None:
    """It contains Polytomic's message, each table that failed, and the end of the console log."""
    page.set_viewport_size({"width": 1180, "height": 770})
    page.goto(failed)
    wrap_lines(page)

    error = page.get_by_text("2 of 3 schemas failed.").first
    expect(error).to_be_visible()
    for table, message in FAILURES.items():
        expect(page.get_by_text(f"schema {table}: failed: {message}").first).to_be_visible()
        expect(page.get_by_text(f"error: {table} failed: {message}").first).to_be_visible()
    message = page.get_by_text("The last lines of Polytomic's console log").last
    picture("failed", page.locator("#details-panel"), message)  # without the traceback


def test_repaired_task_shows_what_each_try_did(page: Page, repaired: str, polytomic: Sandbox, picture: Picture) -> None:
    """The log of each try is behind its number."""
    page.set_viewport_size({"width": 1180, "height": 790})
    first, second = (execution.id for execution in polytomic.starts(SALESFORCE_TO_WAREHOUSE)[-2:])
    page.goto(repaired)
    wrap_lines(page)

    lines = [
        "which try 1 started, ended with status 'errors'. Starting a new one with 2 of 3 schemas.",
        f"Started execution {second}",
        f"succeeded: completed, 3 of 3 schemas completed, 860 records, together with execution {first} of an earlier",
    ]
    for line in lines:
        expect(page.get_by_text(line).first).to_be_visible()
    picture("repaired", page.locator("#details-panel"))
    page.goto(f"{repaired}?try_number=1")
    expect(page.get_by_text("2 of 3 schemas failed.").first).to_be_visible()


def wrap_lines(page: Page) -> None:
    """Show long log lines in full, as the key W does."""
    expect(page.get_by_text("Started execution").first).to_be_visible()
    page.keyboard.press("w")


def row(page: Page, connection_id: str) -> Locator:
    return page.get_by_role("row", name=connection_id)


def test_connection_form_has_the_documented_fields(page: Page, picture: Picture) -> None:
    """With their labels and placeholders and no others; secrets are hidden."""
    page.goto("/connections")
    row(page, "polytomic_default").get_by_role("button", name="Edit Connection").click()

    standard = page.get_by_role("region", name="Standard Fields")
    expect(standard.locator("label")).to_have_text(["Description", "Base URL", "Organization id", "API key", "Port"])
    expect(standard.get_by_label("Base URL")).to_have_attribute("placeholder", "https://app.polytomic.com")
    key = standard.get_by_label("API key")
    expect(key).to_have_attribute("type", "password")
    expect(key).to_have_value("***")
    page.get_by_role("button", name="Extra Fields", exact=True).click()
    extra = page.locator('[id$=":content:Extra Fields"]')  # a region whose name Airflow gets wrong
    expect(extra.locator("label")).to_have_text([field["label"] for field in EXTRA_FIELDS.values()])
    for field in EXTRA_FIELDS.values():
        expect(extra).to_contain_text(field["description"])
    expect(extra.locator("[name=element_proxy]")).to_have_attribute("type", "password")
    page.set_viewport_size({"width": 1180, "height": 1240})
    picture("connection")


def test_connection_from_the_form_passes_its_test(page: Page, polytomic: Sandbox) -> None:
    """The Test button shows whose key it is."""
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    page.get_by_label("Connection ID").fill("made_by_hand")
    page.get_by_role("combobox").fill("Polytomic")
    page.keyboard.press("Enter")
    scheme, host, port = polytomic.url.split(":")
    page.get_by_label("Base URL").fill(f"{scheme}:{host}")
    page.get_by_label("Port").fill(port)
    page.get_by_label("API key").fill(polytomic.key)
    page.get_by_role("button", name="Extra Fields", exact=True).click()
    page.locator("[name=element_timeout]").fill("30")  # Airflow ties no label to it
    page.get_by_role("button", name="Save").click()

    row(page, "made_by_hand").get_by_role("button", name="Test Connection").click()

    expect(page.get_by_text("user key, of sandbox@example.com in organization Sandbox")).to_be_visible()


def test_connection_with_a_wrong_key_fails_its_test(page: Page, airflow: LocalAirflow, polytomic: Sandbox) -> None:
    """The Test button shows the API's error message."""
    connection = airflow.api("GET", "/connections/polytomic_default")
    airflow.api("POST", "/connections", json={**connection, "connection_id": "wrong_key", "password": "wrong"})
    page.goto("/connections")

    row(page, "wrong_key").get_by_role("button", name="Test Connection").click()

    expect(page.get_by_text("the organization's id before it, is missing or not valid")).to_be_visible()
