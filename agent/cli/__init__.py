"""The command line: arguments become a call of the daemon's socket, or the app for `run`.

Owns words, options, tables and exit statuses; never holds a rule of the agent itself. Each command
lives in its own file and is imported when it is called, so `edge-agent --help` imports no engine.

Exit statuses: 0 done, 1 something failed for now (try again), 2 wrong usage or request,
3 refused (trust or permission), 4 over a limit, 70 a mistake of the agent itself, 130 interrupted.
"""

import os
import sys
from typing import NoReturn

import click

from agent.cli.group import cli
from agent.errors import AgentError, BadRequest, LimitExceeded, Refused

__all__ = ["cli", "main", "run_command"]


def main() -> None:
    """Entry point of the command `edge-agent`."""
    run_command(cli, "edge-agent")


def run_command(command: click.Command, name: str) -> NoReturn:
    """Run a command to the end of the process: errors are one line, never a traceback.

    Args:
        command: the group or command that reads the arguments.
        name: what the user typed, as errors begin.
    """
    try:
        sys.exit(command.main(prog_name=name, standalone_mode=False) or 0)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except AgentError as error:
        print(f"{name}: {error} [{error.code}]", file=sys.stderr)
        sys.exit(exit_status(error))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if os.environ.get("EDGE_AGENT_DEBUG"):
            raise
        kind = type(error).__name__
        print(f"{name}: internal error: {kind}: {error} [agent.error]", file=sys.stderr)
        print("Run it again with EDGE_AGENT_DEBUG=1 and report what it prints.", file=sys.stderr)
        sys.exit(70)


def exit_status(error: AgentError) -> int:
    """The exit status that tells a script what to do next."""
    if isinstance(error, BadRequest):
        return 2
    if isinstance(error, Refused):
        return 3
    return 4 if isinstance(error, LimitExceeded) else 1
