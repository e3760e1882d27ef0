"""Every backend that is left was skipped: let plugins wait for their turn, and try again.

Only a request that found no backend at once comes here, so that queues cost all the others nothing.
"""

from __future__ import annotations

from herdgate.access import Refusal
from herdgate.attempts import Attempts, Exhausted, Opened
from herdgate.exchange import Exchange
from herdgate.points import HookPoints
from herdgate.scope import Scope


async def open_in_turn(attempts: Attempts, failed: Exhausted, exchange: Exchange, points: HookPoints) -> Opened:
    """Try the candidates that were skipped again, for as long as plugins wait for them and each round really tries
    one. Raises Exhausted, with what has failed so far if nobody waits.
    """
    if not points.wait_for_turn:
        raise failed
    while failed.skipped:
        async with Scope() as turn:
            refusal = await points.wait_for_turn.enter(turn, exchange, failed.skipped)
            if isinstance(refusal, Refusal):
                raise Exhausted(failed.failures, refusal=refusal)
            if not turn:
                raise failed  # nobody waits
            try:
                return await attempts.open(failed.skipped)
            except Exhausted as exhausted:
                if len(exhausted.skipped) == len(failed.skipped):
                    raise
                failed = exhausted
    raise failed
