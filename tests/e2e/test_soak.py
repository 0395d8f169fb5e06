"""The soak test's parts in their short form: real daemons, and what goes wrong around them."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from freepage_lab.soak.command import as_json
from freepage_lab.soak.part import Outcome, Settings, all_parts
from freepage_lab.soak.parts.clients import clients
from freepage_lab.soak.parts.crash import crash
from freepage_lab.soak.parts.network import network

SEED = random.SystemRandom().getrandbits(32)


def kept(outcome: Outcome) -> None:
    print(as_json({"short form": outcome}, SEED, 0.0))
    assert outcome.ok, f"seed {SEED}: {outcome.failures}"
    assert outcome.figures["double executions"] == 0
    assert outcome.figures["contests"]
    assert outcome.figures["retransmissions"]


def test_a_server_that_is_killed_loses_nothing_that_was_synced(tmp_path: Path) -> None:
    outcome = asyncio.run(crash(Settings(SEED, tmp_path), rounds=2))
    kept(outcome)
    assert outcome.figures["verifier changes seen"]


def test_a_network_that_fails_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    kinds = ("stalled", "blackhole", "half-open, client gone")
    outcome = asyncio.run(network(Settings(SEED, tmp_path), rounds=3, kinds=kinds))
    kept(outcome)
    assert outcome.figures["verifier changes seen"] == 0


@pytest.mark.slow
def test_a_client_that_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    outcome = asyncio.run(clients(Settings(SEED, tmp_path), rounds=3))
    assert outcome.ok, f"seed {SEED}: {outcome.failures}"


def test_every_part_says_what_it_is() -> None:
    parts = all_parts()
    assert {"clients", "crash", "network"} <= parts.keys()
    assert all(part.about for part in parts.values())


@pytest.mark.parametrize(("scale", "rounds"), [(1.0, 200), (0.1, 20), (0.0001, 1)])
def test_parts_are_scaled(scale: float, rounds: int, tmp_path: Path) -> None:
    assert Settings(1, tmp_path, scale).scaled(200) == rounds
