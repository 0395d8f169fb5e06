"""The short forms of the soak test's parts about those who mean harm, and about crowds: real servers each."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from freepage_lab.soak.command import as_json
from freepage_lab.soak.part import Outcome, Settings
from freepage_lab.soak.parts.confinement import confinement
from freepage_lab.soak.parts.crowd import crowd
from freepage_lab.soak.parts.fuzz import fuzz

SEED = random.SystemRandom().getrandbits(32)


def kept(outcome: Outcome) -> None:
    print(as_json({"short form": outcome}, SEED, 0.0))
    assert outcome.ok, f"seed {SEED}: {outcome.failures}"


def test_an_attacker_in_the_export_reaches_nothing_outside(tmp_path: Path) -> None:
    outcome = asyncio.run(confinement(Settings(SEED, tmp_path), seconds=2.0))
    kept(outcome)
    assert outcome.figures["answered OK"]
    assert outcome.figures["attacker's steps"]


def test_messages_of_every_kind_are_answered_and_do_no_harm(tmp_path: Path) -> None:
    outcome = asyncio.run(fuzz(Settings(SEED, tmp_path), messages=2000))
    kept(outcome)
    assert outcome.figures["answered OK"]
    assert outcome.figures["refused as no message"]
    assert outcome.figures["messages to the server"] == 2000


def test_a_crowd_meets_no_error(tmp_path: Path) -> None:
    outcome = asyncio.run(crowd(Settings(SEED, tmp_path), seconds=1.0, clients=8))
    kept(outcome)
    assert outcome.figures["fewest operations of a client"]
