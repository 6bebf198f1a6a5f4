"""What every store promises, tested on each of them: see `headgate.testing.StoreContract`."""
