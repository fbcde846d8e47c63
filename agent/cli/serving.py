"""Which model of a daemon a command means when it names none."""

from typing import TYPE_CHECKING

from agent.errors import NotFound

if TYPE_CHECKING:
    from agent.api.client import Client


def model_for(task: str, client: "Client", *, otherwise: str, hint: str) -> str:
    """The first installed model of a task, by name. Raises NotFound: otherwise, with a hint."""
    for name in sorted({m["name"] for m in client.get_json("/api/models")["models"]}):
        found = client.get_json(f"/v2/models/{name}")
        if found["properties"]["task"] == task:
            return str(name)
    raise NotFound(otherwise, hint=hint)
