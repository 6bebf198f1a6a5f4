"""A quota by the calendar: 100 a day, from one midnight in Berlin to the next, and what that means when clocks change.

The clock here is moved by hand, so that two days pass in no time. On Redis, it is the server's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from headgate import Limiter, ManualClock, MemoryStore

BERLIN = ZoneInfo("Europe/Berlin")


def microseconds(moment: datetime) -> int:
    return (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def main() -> None:
    clock = ManualClock()
    limiter = Limiter("fixed-window 100/day; tz=Europe/Berlin", store=MemoryStore(clock))

    # On 25 October 2026 the clocks in Berlin go back at 3:00: the day has 25 hours.
    clock.set(microseconds(datetime(2026, 10, 25, 0, 30, tzinfo=BERLIN)))
    assert limiter.try_acquire("customer:7", cost=100)
    denied = limiter.try_acquire("customer:7")
    print(f"00:30 in Berlin, the day's quota is spent; again in {denied.retry_after / 3600:g} h")
    assert denied.retry_after == 24.5 * 3600

    clock.advance(microseconds=denied.retry_after_us - 1)
    assert not limiter.try_acquire("customer:7"), "a microsecond before midnight"
    clock.advance(microseconds=1)
    assert limiter.try_acquire("customer:7"), "midnight"
    print("a microsecond before midnight: denied; at midnight: admitted")

    # The same in words: months have their own lengths, weeks begin on Monday.
    for text in ("fixed-window 100/month; tz=Europe/Berlin", "fixed-window 100/week; tz=America/New_York"):
        monthly = Limiter(text, store=MemoryStore(clock))
        monthly.try_acquire("customer:7")
        left = timedelta(microseconds=monthly.peek("customer:7").reset_after_us)
        print(f"{text}: starts afresh in {left}")


if __name__ == "__main__":
    main()
