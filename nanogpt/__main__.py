"""`python -m nanogpt`: the same as the `nanogpt` command."""

import sys

from nanogpt.cli import main

if __name__ == "__main__":
    sys.exit(main())
