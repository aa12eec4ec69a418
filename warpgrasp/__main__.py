"""``python -m warpgrasp``."""

from .cli import main

raise SystemExit(main())
