"""``python -m fastcheck``."""

import sys

from fastcheck.cli import main

if __name__ == "__main__":
    sys.exit(main())
