"""`edge-agent token`: a key for callers over TCP."""

import click

from agent.cli.options import emit_json, json_option


@click.command()
@click.option(
    "--role",
    type=click.Choice(["viewer", "app", "operator"]),
    default="app",
    show_default=True,
    help="What its bearer may do.",
)
@json_option
def token(role: str, as_json: bool) -> None:
    """Make a token for a caller over TCP.

    The token is shown once and kept nowhere: give it to the caller, and its hash to the
    configuration.
    """
    from agent.api.callers import Role
    from agent.api.tokens import issue

    secret, entry = issue(Role[role.upper()])
    if as_json:
        emit_json({"token": secret, "entry": entry})
        return
    click.echo(f"For the caller, as Authorization: Bearer TOKEN\n  {secret}")
    click.echo(f'For the configuration\n  [api]\n  tokens = ["{entry}"]')
