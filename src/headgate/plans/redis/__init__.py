"""The plans for Redis and Valkey: one script call for a whole batch.

They ask for `Script` commands. The reply is the script's list of integers, or `ScriptMissing` where the server does not
have the script (any more), or an outage, which goes to those groups that have no answer yet. What is sent is packed
here, as RESP, since that takes longer than all else that is done for a call.

- `script.py`: the scripts, and calls of them.
- `resp.py`: words and commands. `packing.py`: from groups to a call.
- `replies.py`: from a reply to decisions.
- `batch.py`: the plan for any batch. `single.py`: that for one single hit. `alike.py`: that for single hits that differ
  in their keys alone. The latter two say the same in fewer words, and are much quicker.
"""

from __future__ import annotations

from headgate.plans.redis.alike import BucketSingleHit, decide_alike
from headgate.plans.redis.batch import decide, singly
from headgate.plans.redis.replies import NO_ANSWER, STRANGE
from headgate.plans.redis.script import FILES, Script, ScriptMissing, compose
from headgate.plans.redis.single import single

__all__ = [
    "FILES",
    "NO_ANSWER",
    "STRANGE",
    "BucketSingleHit",
    "Script",
    "ScriptMissing",
    "compose",
    "decide",
    "decide_alike",
    "single",
    "singly",
]
