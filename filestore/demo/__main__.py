"""`python -m filestore.demo`."""

import sys

from filestore.demo import main

sys.exit(main())
