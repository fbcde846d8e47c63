"""The seam to python-tuf: every exception it can raise has one meaning here."""

import inspect
from types import ModuleType

import pytest
import securesystemslib.exceptions
import tuf.api.exceptions
import tuf.api.serialization

from agent.errors import AgentError, NotFound
from agent.trust.meanings import MEANINGS, meaning, translated

MODULES = (tuf.api.exceptions, tuf.api.serialization, securesystemslib.exceptions)


def exceptions_of(module: ModuleType) -> list[type[BaseException]]:
    classes = (value for _, value in inspect.getmembers(module, inspect.isclass))
    return [c for c in classes if issubclass(c, BaseException)]


FOREIGN = sorted(
    {c for module in MODULES for c in exceptions_of(module)}, key=lambda c: c.__qualname__
)


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda c: f"{c.__module__}.{c.__name__}")
def test_every_exception_of_the_libraries_has_a_meaning(foreign: type[BaseException]) -> None:
    """A class that a later release adds outside the known families fails here."""
    assert meaning(foreign) is not None


def test_every_name_in_the_table_exists() -> None:
    """A class that a later release renames fails here."""
    import builtins

    known = {f"{c.__module__}.{c.__qualname__}" for c in FOREIGN}
    known |= {f"builtins.{name}" for name in dir(builtins)}
    assert set(MEANINGS) <= known


def test_an_unmapped_exception_is_a_mistake_of_ours_and_passes() -> None:
    with pytest.raises(ZeroDivisionError), translated("x"):
        raise ZeroDivisionError


def test_our_own_errors_pass_as_they_are() -> None:
    with pytest.raises(NotFound, match="mine"), translated("x"):
        raise NotFound("mine")


def test_the_place_and_the_cause_are_kept() -> None:
    cause = tuf.api.exceptions.ExpiredMetadataError("timestamp.json is expired")
    with pytest.raises(AgentError) as caught, translated("repository"):
        raise cause
    assert caught.value.code == "trust.expired"
    assert caught.value.where == "repository"
    assert caught.value.__cause__ is cause


def test_only_the_updater_imports_tuf() -> None:
    """And loading the rooms imports nothing heavy."""
    import subprocess
    import sys

    code = (
        "import sys, agent.registry, agent.trust.policy; heavy = {'tuf', 'securesystemslib',"
        "'cryptography', 'onnxruntime', 'ai_edge_litert'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
