"""The `bitlane` command."""

import sys

from bitlane.cli import main

if __name__ == "__main__":
    sys.exit(main())
