"""A token budget for a language model: charge an estimate before the call, settle the truth after it.

The team may use 60,000 tokens a minute. How many a call takes is known only when it is over. Charging an estimate first
keeps calls that run at the same time from overdrawing the budget together; settling gives back what was too much, and
charges what was too little.
"""

from __future__ import annotations

import os

from headgate import CostExceedsCapacity, Limiter

STORE = os.environ.get("REDIS_URL", "memory://")


def ask_model(prompt: str) -> int:
    """Stands for the model: answers how many tokens the call took."""
    return 40 * len(prompt)


def main() -> None:
    with Limiter("60_000/minute", store=STORE, name="llm") as budget:
        budget.reset("team:7")

        for prompt in ("a short one", "one that the estimate falls short of: " * 3):
            estimate = 2_000
            spent = budget.try_acquire("team:7", cost=estimate)
            assert spent, f"come back in {spent.retry_after} s"
            actual = ask_model(prompt)
            settled = budget.settle(spent, actual=actual)
            print(f"estimated {estimate:,}, took {actual:,}: {settled.remaining:,} left")

        failed = budget.try_acquire("team:7", cost=5_000)
        budget.refund(failed)  # the call to the model failed: all of it comes back
        print(f"after a refund: {budget.peek('team:7').remaining:,} left")

        try:
            budget.try_acquire("team:7", cost=100_000)
        except CostExceedsCapacity as never:  # not "not now": no wait would help
            print(f"\n{never}")


if __name__ == "__main__":
    main()
