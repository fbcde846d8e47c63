"""`python -m tools.fleet`, the same as `edge-fleet`."""

from tools.fleet.cli import main

main()
