"""The Airflow of `make demo-ui` on PostgreSQL, with syncs that fail or wait for the tests, and a browser."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FloatRect, Locator, Page, expect, sync_playwright

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE, BulkSyncSpec, Seed, default_seed
from tools import chromium, demo
from tools.local_airflow import LocalAirflow

Picture = Callable[..., None]

TIMEOUT = 60_000  # milliseconds for each wait, because test machines are busy
REPORTS = Path(".reports") / "ui"
# Headless, without Chromium's sandbox (CI runs as root), and without requests to Google.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOUR = 3600.0
# What happens to the tables `contact` and `opportunity` of the Salesforce sync in its executions, in this order:
# elt_pipeline, which a test ends; start_and_wait, which fails; and the two tries of repair_failed.
OUTCOMES = ["completed", "failed", "failed", "completed"]
FAILURES = {"contact": 'column "Region__c" was removed', "opportunity": "the source closed the connection"}
# Syncs of many_syncs. Those named in it fail or run for an hour, and the others have nothing to do.
MANY, FAILING, RUNNING = 200, {2}, range(4, 14)

expect.set_options(timeout=TIMEOUT)


@pytest.fixture(scope="session")
def seed() -> Seed:
    """The default seed with failures, and with two hundred more syncs."""
    seed = default_seed()
    salesforce = find_sync(seed, SALESFORCE_TO_WAREHOUSE)
    salesforce.duration = HOUR
    for schema in salesforce.schemas:
        if schema.id in FAILURES:
            schema.outcome, schema.status_message = OUTCOMES, FAILURES[schema.id]
    schemas = salesforce.schemas[:1]
    for number in range(MANY, 0, -1):  # lists begin with the newest
        seed.bulk_syncs.append(
            BulkSyncSpec(
                f"Customer {number:03} to warehouse",
                f"c0000000-0000-4000-8000-{number:012}",
                source=salesforce.source,
                destination=salesforce.destination,
                schemas=schemas,
                duration=HOUR if number in RUNNING else 0.0,
                outcome=["failed"] if number in FAILING else [],
            )
        )
    return seed


def find_sync(seed: Seed, sync_id: str) -> BulkSyncSpec:
    return next(sync for sync in seed.bulk_syncs if sync.id == sync_id)


@pytest.fixture(scope="session")
def demonstration(seed: Seed) -> Iterator[tuple[Sandbox, LocalAirflow]]:
    with demo.sandbox(seed) as (polytomic, warehouse), demo.airflow_with_ui(polytomic, warehouse, True) as local:
        yield polytomic, local


@pytest.fixture(scope="session")
def polytomic(demonstration: tuple[Sandbox, LocalAirflow]) -> Sandbox:
    return demonstration[0]


@pytest.fixture(scope="session")
def airflow(demonstration: tuple[Sandbox, LocalAirflow]) -> LocalAirflow:
    return demonstration[1]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium.find()
    assert path, chromium.ADVICE
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, airflow: LocalAirflow) -> Iterator[Page]:
    """A page of a new browser profile."""
    size = {"width": 1180, "height": 640}
    context = browser.new_context(base_url=airflow.url, viewport=size, locale="en-US", timezone_id="UTC")
    context.set_default_timeout(TIMEOUT)
    yield context.new_page()
    context.close()


@pytest.fixture
def picture(page: Page) -> Picture:
    """Saves screenshots by name: of the page or of one element, from its top to the bottom of another one."""
    folder = Path(os.environ.get("PICTURES", REPORTS))
    return lambda name, *elements: take(page, folder / f"{name}.png", *elements)


def take(page: Page, path: Path, *elements: Locator) -> None:
    page.mouse.move(0, 0)  # so that no element is hovered
    page.screenshot(path=path, animations="disabled", caret="hide", clip=find_area(*elements) if elements else None)


def find_area(whole: Locator, last: Locator | None = None) -> FloatRect:
    box = whole.bounding_box()
    assert box is not None, whole
    end = (last or whole).bounding_box()
    assert end is not None, last
    return {**box, "height": end["y"] + end["height"] - box["y"]}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Also save a screenshot of a failed test."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if report.when == "call" and report.failed and page is not None:
        take(page, REPORTS / f"failed-{item.name}.png")
    return report
