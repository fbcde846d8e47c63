"""Which models exist on this device.

Owns the store of packages, which version of each is active, and the loaded models by name. The only
maker of a `VerifiedModel`: nothing else hands model bytes to an engine. Never judges signatures
itself (`trust` does), never executes a model but through `engines`, and writes only below its own
directory.
"""

from agent.registry.loaded import LoadedModel
from agent.registry.models import Models, ModelStatus
from agent.registry.registry import InstalledModel, Registry, VerifiedModel

__all__ = [
    "InstalledModel", "LoadedModel", "ModelStatus", "Models", "Registry", "VerifiedModel",
]  # fmt: skip
