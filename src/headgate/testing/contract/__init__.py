"""The promises of every store, as a test class. A store's author subclasses it in a few lines of pytest::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, clock):
            return MyStore(clock=clock)

All promises are then tested through `decide` and through `decide_async`.
"""

from __future__ import annotations

from headgate.testing.contract.deciding import Deciding
from headgate.testing.contract.judging import Judging
from headgate.testing.contract.penalties import Penalties
from headgate.testing.contract.returning import Returning
from headgate.testing.contract.scanning import ScannableStoreContract
from headgate.testing.contract.timing import Timing


class StoreContract(Judging, Returning, Deciding, Timing, Penalties):
    """The promises of a store. A subclass, whose name pytest collects, provides the fixture `store`.

    The store must use the fixture `clock`. Where it cannot, set `clock_can_be_set` to False: the tests that move the
    clock are then skipped.
    """


__all__ = ["ScannableStoreContract", "StoreContract"]
