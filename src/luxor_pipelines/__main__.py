"""The script ``luxor``, and ``python -m luxor_pipelines``: the command line.

The processes that a backfill starts import the script anew, without running it: nothing of the command line is
imported before that.
"""

import sys


def main() -> int:
    """Run ``luxor`` with the process's arguments and return the exit code."""
    from luxor_pipelines import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
