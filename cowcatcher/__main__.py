"""``python -m cowcatcher``."""

import sys

from cowcatcher.cli import main

sys.exit(main())
