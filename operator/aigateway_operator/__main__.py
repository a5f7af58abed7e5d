"""`python -m aigateway_operator`: the same as the console script `aigateway`. Holds no logic; called by Python alone."""

from __future__ import annotations

import sys

from aigateway_operator.cli import main

sys.exit(main())
