"""``python -m agent.engines.worker CONTROL LIFELINE``: a worker, started by the daemon only."""

import sys

from agent.engines.worker.child import main

main(int(sys.argv[1]), int(sys.argv[2]))
