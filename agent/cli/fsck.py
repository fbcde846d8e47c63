"""What a look through the stored models found."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from agent.cli.options import emit_json

if TYPE_CHECKING:
    from agent.registry.fsck import Finding


def show_findings(findings: "Sequence[Finding]", *, repair: bool, as_json: bool) -> bool:
    """Print the findings. Returns whether something is left to do."""
    left = [finding for finding in findings if not (repair and finding.mended)]
    if as_json:
        emit_json([{**asdict(finding), "done": finding not in left} for finding in findings])
        return bool(left)
    for finding in findings:
        click.echo(_line(finding, repair=repair))
    if not findings:
        click.echo("Everything is whole.")
    elif any(finding.mended for finding in left):
        click.echo("Mend what can be mended: edge-agent models fsck --repair")
    return bool(left)


def _line(finding: "Finding", *, repair: bool) -> str:
    text = f"{finding.where}: {finding.problem}"
    if finding.code:
        text += f" [{finding.code}]"
    if finding.mended:
        return f"{text}; {finding.mended}." if repair else f"{text}."
    return f"{text}. {finding.hint}" if finding.hint else f"{text}."
