"""`python -m headgate.cli`: the `headgate` command where no script is installed."""

import sys

from headgate.cli import main

if __name__ == "__main__":
    sys.exit(main())
