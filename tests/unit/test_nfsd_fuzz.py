"""Any arguments, many at a time: no exception but a status, no broken rule, and the books agree afterwards."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from freepage_lab.soak.fuzzer import Arguments
from freepage_proto.nfs3 import NfsStat3
from freepage_proto.rpc import NFS3_PROCEDURES, Procedure
from nfsd_rig import KINDS, Rig

CALLS = 1200
AT_ONCE = 8
PROCEDURES = NFS3_PROCEDURES[1:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_any_arguments_many_at_a_time(kind: str, seed: int, tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(kind, tmp_path, memory_bytes=64 * 4096, offload=True)
        chance = random.Random(seed)
        arguments = Arguments(chance, rig.root)
        answered = 0

        async def call(procedure: Procedure) -> Any:
            return await rig.call(procedure, arguments.of(procedure))

        for _ in range(CALLS // AT_ONCE):
            results = await asyncio.gather(*(call(chance.choice(PROCEDURES)) for _ in range(AT_ONCE)))
            for result in results:
                assert result.status is not NfsStat3.SERVERFAULT
                answered += result.status is NfsStat3.OK
                arguments.learn(result)
            rig.clock.seconds += 0.01
        rig.check()
        assert answered > CALLS // 5
        await rig.server.stop()
        rig.check()
        rig.close()

    asyncio.run(story())
