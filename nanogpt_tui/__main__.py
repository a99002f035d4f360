"""`python -m nanogpt_tui` is the `nanogpt-tui` command."""

import sys

from nanogpt_tui import main

sys.exit(main())
