"""Limits as decorators, on blocking and on async functions. A call that is denied does not run.

`key` may be computed from the call's arguments, and so may `cost`. Without a timeout a denied call raises
`LimitExceeded`; with one, it waits for its turn.
"""

from __future__ import annotations

import asyncio
import os

from headgate import AsyncLimiter, Limiter, LimitExceeded

STORE = os.environ.get("REDIS_URL", "memory://")

mails = Limiter("2/hour", store=STORE, name="mails")
pages = AsyncLimiter("50/second; burst=5", store=STORE, name="pages")


@mails.limit(key=lambda address, _text: f"mail:{address}")
def send_mail(address: str, text: str) -> str:
    return f"sent to {address}: {text}"


@pages.limit(key="site", cost=len, timeout=5)
async def fetch(urls: list[str]) -> str:
    return f"fetched {len(urls)} pages"


async def main() -> None:
    mails.reset("mail:ann@example.org")
    mails.reset("mail:bob@example.org")
    for text in ("hello", "hello again", "and again"):
        try:
            print(send_mail("ann@example.org", text))
        except LimitExceeded as denied:
            print(f"not sent ({text!r}): again in {denied.decision.retry_after:.0f} s")
    print(send_mail("bob@example.org", "bob has a limit of his own"))

    for urls in (["/1", "/2", "/3"], ["/4", "/5"], ["/6", "/7"]):
        print(await fetch(urls))  # the last one waits

    mails.close()
    await pages.aclose()


if __name__ == "__main__":
    asyncio.run(main())
