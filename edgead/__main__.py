"""``python -m edgead``."""

import sys

from edgead.cli.main import main

sys.exit(main())
