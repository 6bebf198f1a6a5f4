"""What a store says when it cannot be asked."""

from __future__ import annotations

import pytest

from headgate import AsyncLimiter, Limiter, StoreUnavailable
from headgate.stores import Store


async def outages_of(store: Store) -> list[str]:
    """The outages of a blocking call and of an awaited one. The store is closed."""
    try:
        with pytest.raises(StoreUnavailable) as blocking:
            Limiter("5/day", store=store, on_outage="raise").try_acquire("k")
        with pytest.raises(StoreUnavailable) as awaited:
            await AsyncLimiter("5/day", store=store, on_outage="raise").try_acquire("k")
    finally:
        await store.aclose()
    return [str(blocking.value), str(awaited.value)]
