"""Waits between attempts, and what may be sent again so that a failover does not become a storm."""

from __future__ import annotations

import random

from .options import BACKOFF_EMPTY, BACKOFF_MAX, BACKOFF_MIN, RETRY_AFTER_MAX, RETRY_TOKENS_MAX


class Random:
    """Jitter and ids. Ids come from the operating system, unless a seed says otherwise."""

    def __init__(self, seed: int | None = None) -> None:
        self._random: random.Random = random.SystemRandom() if seed is None else random.Random(seed)

    def jitter(self, wait: float) -> float:
        """Between half of `wait` and the whole of it."""
        return wait * self._random.uniform(0.5, 1.0)

    def rank(self) -> float:
        """A number for breaking ties."""
        return self._random.random()

    def id(self) -> str:
        """32 hex digits that no other client draws."""
        return f"{self._random.getrandbits(128):032x}"


class Backoff:
    """10 ms, doubling to 200 ms, each between half of that and the whole."""

    def __init__(self) -> None:
        self._steps = 0

    def next(self, random: Random) -> float:
        wait = min(BACKOFF_MIN * 2**self._steps, BACKOFF_MAX)
        self._steps = min(self._steps + 1, 16)
        return random.jitter(wait)

    def reset(self) -> None:
        self._steps = 0


class Budget:
    """A token bucket. An answer earns a tenth of a token; an attempt after a call's second costs one. An empty
    bucket fails no call, it makes waits longer."""

    TOKEN = 10
    FULL = RETRY_TOKENS_MAX * TOKEN

    def __init__(self) -> None:
        self._held = self.FULL

    def earn(self, count: int = 1) -> None:
        """So many calls or streamed messages were answered."""
        self._held = min(self._held + count, self.FULL)

    def spend(self) -> bool:
        """Takes a token for an attempt; false when there is none."""
        if self._held < self.TOKEN:
            return False
        self._held -= self.TOKEN
        return True

    def pause(self, backoff: Backoff, random: Random, asked: float, left: float) -> float:
        """The wait before another attempt, at least what the last answer `asked` for; longer when the budget is used
        up, and then not so long that the attempt would have nothing of the time that is `left`."""
        wait = max(backoff.next(random), min(asked, RETRY_AFTER_MAX))
        if self.spend():
            return wait
        return max(wait, min(random.jitter(BACKOFF_EMPTY), left / 2))
