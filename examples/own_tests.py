"""How to test code that is limited: with a clock that the test moves. No sleeping, no flaky seconds.

`sign_in` stands for your code; it takes its limiter as an argument, so that a test can hand in one of its own. Where
yours does not, see docs/testing.md.
"""

from __future__ import annotations

from headgate import Limiter, ManualClock, MemoryStore


def sign_in(limiter: Limiter, user: str, password: str) -> str:
    decision = limiter.try_acquire(f"sign-in:{user}")
    if not decision:
        return f"too many attempts, try again in {decision.retry_after:.0f} s"
    if password != "correct":
        return "wrong password"
    limiter.reset(f"sign-in:{user}")  # a success starts afresh
    return "welcome"


def test_the_sixth_attempt_within_five_minutes_is_denied() -> None:
    clock = ManualClock()
    limiter = Limiter("sliding-log 5/300s", store=MemoryStore(clock))
    for _ in range(5):
        assert sign_in(limiter, "ann", "guess") == "wrong password"
        clock.advance(seconds=10)
    assert sign_in(limiter, "ann", "correct") == "too many attempts, try again in 250 s"

    clock.advance(seconds=250)
    assert sign_in(limiter, "ann", "correct") == "welcome"


def test_a_success_starts_afresh() -> None:
    limiter = Limiter("sliding-log 5/300s", store=MemoryStore(ManualClock()))
    for password in ("guess", "guess", "guess", "guess", "correct"):
        sign_in(limiter, "ann", password)
    assert sign_in(limiter, "ann", "guess") == "wrong password"


if __name__ == "__main__":
    for test in (test_the_sixth_attempt_within_five_minutes_is_denied, test_a_success_starts_afresh):
        test()
        print(f"{test.__name__}: passed")
