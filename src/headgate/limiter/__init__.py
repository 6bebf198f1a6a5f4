"""The limiters: what users call, and all that they are made of apart from stores."""

from __future__ import annotations

from headgate.limiter.limiters import AsyncLimiter, Limiter

__all__ = ["AsyncLimiter", "Limiter"]
