"""The Airflow of `make demo-ui` on PostgreSQL, with a sync that waits for the tests, and a browser."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from airflow_provider_polytomic.sandbox.app import Sandbox
from tools import chromium, demo
from tools.local_airflow import LocalAirflow

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

expect.set_options(timeout=TIMEOUT)


class Clock:
    """The sandbox's clock: it stands still, and so does every execution, until the test calls `go_on`."""

    def __init__(self) -> None:
        self._begun, self._went_on = time.time(), 0.0

    def __call__(self) -> float:
        return self._begun + (time.monotonic() - self._went_on if self._went_on else 0)

    def go_on(self) -> None:
        self._went_on = time.monotonic()


@pytest.fixture(scope="session")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def demonstration(clock: Clock) -> Iterator[tuple[Sandbox, LocalAirflow]]:
    with demo.sandbox(clock) as (polytomic, warehouse), demo.airflow_with_ui(polytomic, warehouse, True) as local:
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
def picture(page: Page) -> Callable[[str], None]:
    """Saves screenshots by name."""
    folder = Path(os.environ.get("PICTURES", REPORTS))
    return lambda name: take(page, folder / f"{name}.png")


def take(page: Page, path: Path) -> None:
    page.mouse.move(0, 0)  # so that no element is hovered
    page.screenshot(path=path, animations="disabled", caret="hide")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Also save a screenshot of a failed test."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if report.when == "call" and report.failed and page is not None:
        take(page, REPORTS / f"failed-{item.name}.png")
    return report
