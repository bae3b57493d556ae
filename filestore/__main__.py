"""`python -m filestore`: the command line."""

import sys

from filestore.cli import main

sys.exit(main())
