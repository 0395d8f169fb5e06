"""The status page: its history, its JSON, what its policy allows, and what it shows of a page cache."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

import pytest

from freepage import PageCache, RemovalPath
from freepage_runtime.cache_status import CacheStatus
from freepage_runtime.httpd import Page, Request
from freepage_runtime.status_page import (
    EXPENSIVE_S,
    SLOTS,
    TEXT_BYTES,
    Chart,
    History,
    Series,
    Status,
    Tile,
    expensive_route,
    format_seconds,
    page_routes,
    text_route,
)

GET = Request("GET", "/", "", {})


class Ticking:
    """A clock that moves on by a second each time it is read, and a counter that grows by a given step."""

    def __init__(self, *steps: float) -> None:
        self.now_s = 0.0
        self.count = 0.0
        self._steps = list(steps)

    def now(self) -> float:
        self.now_s += 1
        return self.now_s

    def sample(self) -> dict[str, float]:
        self.count += self._steps.pop(0) if self._steps else 0
        return {"count": self.count, "rest": 2 * self.count}


def test_a_history_turns_counters_into_rates_and_shares() -> None:
    ticking = Ticking(0, 5, 0, -3, 10)
    history = History(ticking.sample, ticking.now)
    for _ in range(5):
        history.take()
    assert history.values("count") == [0, 5, 5, 2, 12]
    assert history.rates("count") == [5, 0, 0, 10], "a counter that begins anew has no negative rate"
    assert history.shares("count", "rest") == [pytest.approx(100 / 3), None, None, pytest.approx(100 / 3)]
    assert history.rates("no such") == history.values("no such") == []


def test_a_history_forgets_what_is_too_old() -> None:
    ticking = Ticking(*[1] * (SLOTS + 10))
    history = History(ticking.sample, ticking.now)
    for _ in range(SLOTS + 10):
        history.take()
    assert len(history) == SLOTS
    assert history.values("count")[0] == 11


@pytest.mark.parametrize(("points", "slots"), [(0, 60), (60, 60), (61, 120), (121, 300), (900, 300)])
def test_a_chart_has_room_for_what_there_is(points: int, slots: int) -> None:
    assert Chart("c", [Series("s", [1.0] * points)]).to_json()["slots"] == slots


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7300, "2 h"), (864000, "10 d")]
)
def test_seconds_for_people(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else() -> None:
    page = page_routes(lambda: Status("client", "c", "0", 0))["/"](GET)
    policy = dict(page.headers)["Content-Security-Policy"]
    html = page.body.decode()
    for tag in ("style", "script"):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r'\son\w+=|style="|innerHTML|insertAdjacent|eval\(|https?://(?!www\.w3\.org/2000/svg)', html)


def test_the_api_answers_json_whatever_the_names_are() -> None:
    hostile = '</script><img src=x onerror="alert(1)">\u2028'
    routes = page_routes(lambda: Status("client", hostile, "0", 61.5, tiles=[Tile(hostile, hostile)]))
    page = routes["/api/status"](GET)
    assert page.content_type == "application/json"
    data = json.loads(page.body)
    assert data["name"] == data["tiles"][0]["value"] == hostile
    assert hostile.encode() not in routes["/"](GET).body


def test_an_expensive_text_is_made_once_in_a_while_and_for_no_other_site() -> None:
    made, clock = [], [0.0]

    def make() -> str:
        made.append(clock[0])
        return f"at {clock[0]}"

    route = expensive_route(make, lambda: clock[0])
    assert route(GET).body == route(GET).body == b"at 0.0"
    clock[0] = EXPENSIVE_S
    assert route(GET).body == f"at {EXPENSIVE_S}".encode()
    clock[0] = 3 * EXPENSIVE_S
    assert route(GET._replace(headers={"sec-fetch-site": "cross-site"})).status == 403
    assert made == [0.0, EXPENSIVE_S]


def test_a_long_text_is_cut_at_a_line() -> None:
    body = text_route(lambda: "0123456789\n" * (TEXT_BYTES // 5))(GET).body
    assert len(body) <= TEXT_BYTES + 20
    assert body.endswith(b"0123456789\n(and more)\n")


# --- what it shows of a page cache ------------------------------------------------------------------------------------


def cache_status(cache: PageCache, rpcs: dict[str, int], facts: list[tuple[str, str]]) -> CacheStatus:
    return CacheStatus(cache, role="client", name="c1", version="1", rpcs=lambda: dict(rpcs), facts=lambda: facts)


def page_of(status: CacheStatus) -> dict[str, Any]:
    answer: Page = page_routes(status)["/api/status"](GET)
    data: dict[str, Any] = json.loads(answer.body)
    return data


def table(data: dict[str, Any], title: str) -> list[list[Any]]:
    (found,) = (each for each in data["tables"] if each["title"] == title)
    rows: list[list[Any]] = found["rows"]
    return rows


def test_what_a_page_cache_shows_at_its_beginning() -> None:
    cache = PageCache(now=lambda: 0.0, random=lambda: 0.0)
    data = page_of(cache_status(cache, {"READ": 0}, [("mount /mnt", "s:/x")]))
    assert [tile["label"] for tile in data["tiles"]][:2] == ["orphaned objects", "rule violations"]
    assert {tile["state"] for tile in data["tiles"][:2]} == {"good"}
    assert [row[:2] for row in table(data, "How pages leave")] == [[str(path), ["run", "good"]] for path in RemovalPath]
    assert table(data, "This process") == [["mount /mnt", ["s:/x", "text"]]]
    assert all(not series["values"] for chart in data["charts"] for series in chart["series"])


def test_a_skipped_path_and_a_broken_rule_stand_out() -> None:
    cache = PageCache(now=lambda: 0.0, random=lambda: 0.0)
    cache.policy.parse("reclaim=skip")
    cache.removed[RemovalPath.RECLAIM] = cache.skipped[RemovalPath.RECLAIM] = 7
    cache.violations[next(iter(cache.violations))] += 2
    rpcs = {"READ": 0, "GETATTR": 0, "NULL": 0}
    status = cache_status(cache, rpcs, [])
    status.history.take()
    rpcs.update(READ=50, GETATTR=5)
    status.history.take()
    data = page_of(status)
    (reclaim,) = (row for row in table(data, "How pages leave") if row[0] == "reclaim")
    assert reclaim[1:5] == [["skip", "bad"], 7, 0, [7, "bad"]]
    assert [row[0] for row in table(data, "RPCs")] == ["READ", "GETATTR"]
    assert table(data, "Broken rules of the hook")[0][1] == [2, "bad"]
    assert data["tiles"][1]["state"] == "bad"
    (chart,) = (chart for chart in data["charts"] if chart["title"] == "RPCs a second")
    assert {series["name"] for series in chart["series"]} == {"READ", "GETATTR"}, (
        "procedures without calls are left out"
    )
