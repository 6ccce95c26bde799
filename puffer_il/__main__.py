"""`python -m puffer_il` is the command `puffer-il`."""

import sys

from puffer_il.cli import main

if __name__ == "__main__":
    sys.exit(main())
