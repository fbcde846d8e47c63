"""`edge-agent` on a machine whose wall clock is wrong: `python shifted_command.py SECONDS ARGUMENT…`.

SECONDS since the epoch are what the clock shows. The monotonic clock is the machine's own.
"""

import sys
import time


def main() -> None:
    wrong_by = float(sys.argv.pop(1)) - time.time()
    right = time.time
    time.time = lambda: right() + wrong_by
    from agent.cli import main as command

    command()


if __name__ == "__main__":
    main()
