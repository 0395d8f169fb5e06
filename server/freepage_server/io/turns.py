"""Whose call is executed next, when more have come than are executed at a time: each client's in its turn.

A client that sends thousands of calls waits for its own; another's single call waits for one of each client at most.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque


class Turns:
    """``number`` calls are executed at a time. **Invariant:** while somebody waits, no place is free."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """Each client's calls in the order in which they came; the client whose turn is next comes first."""

    def take_nowait(self) -> bool:
        """Whether a call, whoever's it is, may be executed at once; then `give` ends it."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def take(self, client: str) -> None:
        """Return when a call of the client's may be executed; `give` ends it."""
        if self.take_nowait():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.give()  # it had come, and is not used
            raise

    def give(self) -> None:
        """A call has been executed."""
        while self._waiting:
            client, line = next(iter(self._waiting.items()))
            turn = line.popleft()
            if line:
                self._waiting.move_to_end(client)
            else:
                del self._waiting[client]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
