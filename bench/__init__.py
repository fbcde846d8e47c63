"""Every performance claim of the project, as a command: `python -m bench`.

Each module here measures one path beside its own limit, in the same run and interleaved with it, so
that a slow machine slows both. A module exposes `run(quick: bool) -> bench.report.Table` and never
judges by an absolute figure alone what depends on the machine.
"""
