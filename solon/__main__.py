"""`python -m solon` is `solon`."""

import sys

from solon.cli import main

sys.exit(main())
