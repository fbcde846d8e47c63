"""`python -m bench [NAME …] [--quick]`: run benchmarks and print their tables.

Exits with 1 when a promise was missed. Names are those of the modules in this directory; without
names all of them run.
"""

import argparse
import importlib
import pkgutil
import sys
from types import ModuleType

import bench
from bench.report import Table


def names() -> list[str]:
    """Every module here that measures something."""
    found = sorted(info.name for info in pkgutil.iter_modules(bench.__path__))
    return [name for name in found if not name.startswith("_") and hasattr(_module(name), "run")]


def main(arguments: list[str]) -> int:
    """Run what was asked for; the exit status."""
    known = names()
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    # An empty list among the choices: argparse checks the default of "*" against them too.
    parser.add_argument("names", nargs="*", choices=[*known, []], metavar="NAME", default=[])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    chosen = parser.parse_args(arguments)
    tables = [_run(name, quick=chosen.quick) for name in chosen.names or known]
    return 0 if all(table.ok for table in tables) else 1


def _run(name: str, *, quick: bool) -> Table:
    table: Table = _module(name).run(quick)
    print(table.markdown(), flush=True)
    return table


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"bench.{name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
