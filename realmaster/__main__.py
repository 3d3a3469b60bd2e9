"""`python -m realmaster` is the `realmaster` command."""

import sys

from realmaster.cli import main

if __name__ == "__main__":
    sys.exit(main())
