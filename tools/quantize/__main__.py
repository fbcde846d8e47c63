"""`python -m tools.quantize`, the same as `edge-quantize`."""

from tools.quantize.cli import main

main()
