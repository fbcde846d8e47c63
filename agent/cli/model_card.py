"""A model's card: what it is, what it was measured at, and where it must not be used."""

from typing import TYPE_CHECKING, Any

import click

from agent.cli.options import emit_table
from agent.ids import key_names
from agent.types import TensorSpec

if TYPE_CHECKING:
    from agent.registry.registry import InstalledModel
    from agent.trust.manifest import Manifest


def card(manifest: "Manifest", installed: "InstalledModel") -> dict[str, Any]:
    """The card as plain values, for JSON and for print_card."""
    return {
        "name": manifest.name,
        "version": manifest.version,
        "active": installed.active,
        "summary": manifest.summary,
        "task": manifest.task,
        "engine": manifest.engine,
        "license": manifest.license,
        "signers": list(installed.signers),
        "inputs": [_tensor(spec) for spec in manifest.inputs],
        "outputs": [_tensor(spec) for spec in manifest.outputs],
        "files": [{"path": f.path, "sha256": f.sha256, "size": f.size} for f in manifest.files],
        "evaluation": {
            "data": manifest.evaluation.data,
            "limits": manifest.evaluation.limits,
            "metrics": [
                {"name": m.name, "slice": m.slice, "value": m.value}
                for m in manifest.evaluation.metrics
            ],
        },
        "golden_cases": [case.name for case in manifest.golden],
    }


def print_card(details: dict[str, Any]) -> None:
    """The card for a person."""
    click.echo(f"{details['name']} {details['version']}: {details['summary']}")
    for key in ("task", "engine", "license"):
        click.echo(f"  {key}: {details[key]}")
    click.echo(f"  signed by: {key_names(details['signers'])}")
    for way in ("inputs", "outputs"):
        for tensor in details[way]:
            click.echo(
                f"  {way[:-1]}: {tensor['name']} {tensor['dtype']} {tensor['shape']} {tensor['unit']}"
            )
    evaluation = details["evaluation"]
    if evaluation["metrics"]:
        click.echo(f"\nMeasured on: {evaluation['data']}\n")
        rows = [(m["name"], m["slice"], f"{m['value']:g}") for m in evaluation["metrics"]]
        emit_table(("METRIC", "SLICE", "VALUE"), rows)
    if evaluation["limits"]:
        click.echo(f"\nLimits of use: {evaluation['limits']}")


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape), "unit": spec.unit}
