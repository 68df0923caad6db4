"""``python -m luxor_pipelines``: the command line, where the script ``luxor`` is not on the path."""

import sys

from luxor_pipelines.cli import main

if __name__ == "__main__":
    sys.exit(main())
