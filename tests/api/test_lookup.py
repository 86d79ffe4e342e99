"""Lookups by name in lists that change between two pages."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_polytomic.api.call import fetch
from airflow_provider_polytomic.api.client import Client, drive
from airflow_provider_polytomic.api.endpoints import bulk_syncs
from airflow_provider_polytomic.api.errors import PolytomicLookupError
from airflow_provider_polytomic.api.events.poll import EventFilter, find_watched_syncs
from airflow_provider_polytomic.api.kinds import SYNC_KINDS, SyncKind
from airflow_provider_polytomic.api.plan import Request, SendResult
from airflow_provider_polytomic.api.settings import Settings
from airflow_provider_polytomic.api.syncs.lookup import MAX_WALKS, find_by_name
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE, WAREHOUSE

PAGE = 3
TARGET = "target"
OTHERS = [f"other-{number:02}" for number in range(9)]
CALL = bulk_syncs.list_(limit=PAGE)
ROUNDS = 300
NEW = {
    "mode": "replicate",
    "default_schedule": {"frequency": "manual"},
    "destination_configuration": {},
    "source_connection_id": SALESFORCE,
    "destination_connection_id": WAREHOUSE,
}


def sandbox_of(*more: str, by_position: bool) -> Sandbox:
    """A sandbox of four pages of syncs, each named as its id; the target is on the last page."""
    ids = [TARGET, *OTHERS, *more]
    syncs = [{"name": sync_id, "id": sync_id, "schemas": ["a"]} for sync_id in ids]
    models = [{"name": sync_id, "id": f"model-{sync_id}"} for sync_id in ids]
    sandbox = Sandbox({"bulk_syncs": syncs, "model_syncs": models})
    sandbox.pages_by_position = by_position
    for sync_id in ids[1:]:
        sandbox.touch(sync_id)
    return sandbox


class Moving:
    """Sends requests to a sandbox whose list changes after each page.

    :param change: what happens after a page; it gets the number of the page in its walk, from 1 on.
    """

    def __init__(self, sandbox: Sandbox, change: Callable[[int], object]) -> None:
        self.sandbox = sandbox
        self.change = change
        self.pages: list[int] = []

    def __call__(self, request: Request) -> SendResult:
        response = self.sandbox.send(request)
        first = not any(name == "page_token" for name, _ in request.query)
        self.pages.append(1 if first else self.pages[-1] + 1)
        self.change(self.pages[-1])
        return response

    @property
    def walks(self) -> int:
        return self.pages.count(1)


def client_over(send: Callable[[Request], SendResult]) -> Client:
    """A client whose requests go there."""

    class InMemory(Client):
        def run(self, plan: Any) -> Any:
            return drive(plan, send)

    return InMemory(Settings(key="key"))


both_tokens = pytest.mark.parametrize("by_position", [False, True], ids=["cursor", "position"])


@both_tokens
def test_lookup_finds_a_sync_that_moves_during_the_first_walk(by_position: bool) -> None:
    """A sync that is updated after the first page is missed by the first walk and found by the second."""
    sandbox = sandbox_of(by_position=by_position)
    changes = iter([TARGET])
    send = Moving(sandbox, lambda _: [sandbox.touch(sync_id) for sync_id in changes])

    assert drive(find_by_name(CALL, TARGET, "bulk sync", "sync_id"), send).id == TARGET
    assert send.walks == 2


def test_lookup_counts_a_sync_on_two_pages_once() -> None:
    """When another sync moves to the front, the last sync of a page is listed on the next page again."""
    sandbox = sandbox_of(by_position=True)
    last = OTHERS[-PAGE]
    changes = iter([TARGET])
    send = Moving(sandbox, lambda _: [sandbox.touch(sync_id) for sync_id in changes])

    assert drive(find_by_name(CALL, last, "bulk sync", "sync_id"), send).id == last
    assert send.walks == 1


def test_lookup_without_a_match_needs_two_equal_walks() -> None:
    """A name that no sync has costs two walks, because several pages may change in between."""
    send = Moving(sandbox_of(by_position=False), lambda _: None)

    with pytest.raises(PolytomicLookupError) as caught:
        drive(find_by_name(CALL, "nobody", "bulk sync", "sync_id"), send)
    assert send.walks == 2
    assert caught.value.ids == ()
    assert "missed" not in str(caught.value)


def test_lookup_in_a_list_of_one_page_is_one_request() -> None:
    """A list of one page is one response, in which nothing moves."""
    send = Moving(sandbox_of(by_position=False), lambda _: None)

    with pytest.raises(PolytomicLookupError):
        drive(find_by_name(bulk_syncs.list_(), "nobody", "bulk sync", "sync_id"), send)
    assert send.pages == [1]


@both_tokens
def test_lookup_error_says_that_the_list_kept_changing(by_position: bool) -> None:
    """When no two walks agree, the lookup ends after five, and the error says that the sync may have been missed."""
    sandbox = sandbox_of(by_position=by_position)
    turns = iter([TARGET, *OTHERS])
    send = Moving(sandbox, lambda page: sandbox.touch(next(turns)) if page == 1 else None)

    with pytest.raises(
        PolytomicLookupError, match=f"may have been missed: the list changed during each of {MAX_WALKS}"
    ):
        drive(find_by_name(CALL, "nobody", "bulk sync", "sync_id"), send)
    assert send.walks == MAX_WALKS


def test_lookup_does_not_trust_a_walk_that_repeats_an_item() -> None:
    """A sync that is created and deleted between two pages hides another one. Only a repeated item reveals it."""
    sandbox = sandbox_of(by_position=True)
    changes = Changes(sandbox, random.Random(0))
    hidden = OTHERS[-2 * PAGE]  # the last of the second page
    send = Moving(sandbox, lambda _: None)

    def create_and_delete(page: int) -> None:
        if send.walks <= 2 and page == 1:
            changes.create()
        elif send.walks <= 2 and page == 2:
            changes.delete(changes.others[-1])

    send.change = create_and_delete

    assert drive(find_by_name(CALL, hidden, "bulk sync", "sync_id"), send).id == hidden
    assert send.walks == 3


@both_tokens
def test_lookup_names_the_ids_of_several_matches(by_position: bool) -> None:
    """Two syncs of one name are an error with both ids, also when one walk missed one of them."""
    sandbox = sandbox_of("twin", by_position=by_position)
    sandbox.touch("twin", name=TARGET)
    for sync_id in OTHERS:
        sandbox.touch(sync_id)
    send = Moving(sandbox, lambda page: sandbox.touch("twin") if (send.walks, page) == (2, 1) else None)

    with pytest.raises(PolytomicLookupError, match="2 bulk syncs are named 'target'") as caught:
        drive(find_by_name(CALL, TARGET, "bulk sync", "sync_id"), send)
    assert set(caught.value.ids) == {TARGET, "twin"}
    assert send.walks == 4


@both_tokens
def test_lookup_follows_a_name_that_moves_to_another_sync(by_position: bool) -> None:
    """When two syncs exchange names during a walk, the last walk decides."""
    sandbox = sandbox_of("blue", by_position=by_position)
    send = Moving(sandbox, lambda _: None)

    def exchange(page: int) -> None:
        if send.walks == 1 and page == 1:
            sandbox.touch("blue", name="was blue")
            sandbox.touch(TARGET, name="blue")

    sandbox.touch(TARGET)
    for sync_id in OTHERS:
        sandbox.touch(sync_id)
    send.change = exchange

    assert drive(find_by_name(CALL, "blue", "bulk sync", "sync_id"), send).id == TARGET


@both_tokens
@pytest.mark.parametrize("kind", SYNC_KINDS.values(), ids=SYNC_KINDS)
def test_watched_syncs_include_one_that_moves(
    kind: SyncKind, by_position: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watcher that catches up gets every sync once, also one that moves during the walk."""
    more = [f"more-{number:02}" for number in range(50)]
    sandbox = sandbox_of(*more, by_position=by_position)
    target = TARGET if kind.name == "bulk" else f"model-{TARGET}"
    if kind.name == "model":
        for sync_id in (*OTHERS, *more):
            sandbox.touch(f"model-{sync_id}")
    changes = iter([target])
    send = Moving(sandbox, lambda _: [sandbox.touch(sync_id) for sync_id in changes])

    found = [sync.id for _, sync in drive(find_watched_syncs(EventFilter(kind=kind.name)), send)]

    assert target in found
    assert len(found) == len(set(found)) == 60


def test_watched_syncs_are_those_of_all_walks_when_none_agree(caplog: pytest.LogCaptureFixture) -> None:
    """When each walk misses another sync, the syncs of all walks are used, and a warning is logged."""
    sandbox = sandbox_of(*(f"more-{number:02}" for number in range(50)), by_position=False)
    turns = iter([TARGET, *OTHERS])
    send = Moving(sandbox, lambda page: sandbox.touch(next(turns)) if page == 1 else None)

    found = [sync.id for _, sync in drive(find_watched_syncs(EventFilter(kind="bulk")), send)]

    assert send.walks == MAX_WALKS
    assert len(found) == len(set(found)) == 60
    assert "The list of bulk syncs kept changing" in caplog.text


# --- any changes


class Changes:
    """Random changes after each page: syncs are saved, renamed, created and deleted.

    The target may be saved at any time. Of the others, fewer move to the front between two first pages than a page
    holds, and two are deleted at most.
    """

    def __init__(self, sandbox: Sandbox, rng: random.Random, *, deletions: int = 2) -> None:
        self.sandbox, self.rng, self.deletions = sandbox, rng, deletions
        self.others = list(OTHERS)
        self.to_front = PAGE - 1
        self.moved: set[str] = set()
        self.counts: Counter[str] = Counter()

    def __call__(self, page: int) -> None:
        if page == 1:
            self.to_front = PAGE - 1
        for _ in range(self.rng.randrange(3)):
            what = self.rng.choice(["save target", "save", "rename", "create", "delete"])
            if what == "save target":
                self.sandbox.touch(TARGET)
                self.moved.add(TARGET)
            elif what == "delete":
                if not self.deletions:
                    continue
                self.deletions -= 1
                self.delete(self.others.pop(self.rng.randrange(len(self.others))))
            else:
                if not self.to_front:
                    continue
                self.to_front -= 1
                sync_id = self.create() if what == "create" else self.rng.choice(self.others)
                self.sandbox.touch(sync_id, **({"name": f"name {self.rng.random()}"} if what == "rename" else {}))
                self.moved.add(sync_id)
            self.counts[what] += 1

    def delete(self, sync_id: str) -> None:
        self.moved.add(sync_id)
        self.sandbox.send(Request("DELETE", f"/api/bulk/syncs/{sync_id}"))

    def create(self) -> str:
        call = bulk_syncs.create(NEW | {"name": f"name {self.rng.random()}"})
        created: str = drive(fetch(call), self.sandbox.send).id
        self.others.append(created)
        return created


@both_tokens
def test_lookup_never_misses_a_sync_in_a_changing_list(by_position: bool) -> None:
    """A sync that moves often is found, while fewer others than a page has move during each walk."""
    counts: Counter[str] = Counter()
    for seed in range(ROUNDS):
        sandbox = sandbox_of(by_position=by_position)
        changes = Changes(sandbox, random.Random(seed))
        send = Moving(sandbox, changes)

        found = drive(find_by_name(CALL, TARGET, "bulk sync", "sync_id"), send)

        assert found.id == TARGET, seed
        counts += changes.counts
        counts[f"{send.walks} walks"] += 1

    assert counts["2 walks"] > ROUNDS / 20, counts  # the changes did hide the sync
    assert min(counts[what] for what in ("save target", "save", "rename", "create", "delete")) > ROUNDS / 4, counts


@both_tokens
def test_iterate_repeats_no_item_and_misses_none_that_stays(by_position: bool) -> None:
    """In a changing list no item is returned twice, and each that does not move is returned."""
    repeated = missed = 0
    for seed in range(ROUNDS):
        sandbox = sandbox_of(by_position=by_position)
        # Where tokens are positions, a deletion can hide an item that stays.
        changes = Changes(sandbox, random.Random(seed), deletions=0 if by_position else 2)
        responses: list[str] = []
        send = Moving(sandbox, changes)

        def sent(request: Request, send: Moving = send, responses: list[str] = responses) -> SendResult:
            response = send(request)
            responses.extend(item.id for item in CALL.parse(response.body).items)  # type: ignore[union-attr]
            return response

        walked = [sync.id for sync in client_over(sent).iterate(CALL)]

        assert len(walked) == len(set(walked)), seed
        assert {TARGET, *OTHERS} - changes.moved <= set(walked), seed
        repeated += len(responses) - len(walked)
        missed += TARGET not in walked

    assert missed > ROUNDS / 20  # what the docstring says can happen
    assert (repeated > ROUNDS / 4) is by_position
