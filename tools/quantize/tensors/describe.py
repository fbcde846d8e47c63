"""What the manifest says of a tensor model: its own tensors, and golden cases from its set."""

from tools.quantize.family import Artifact, Description
from tools.quantize.tensors.golden import golden_cases
from tools.quantize.tensors.samples import Samples
from tools.quantize.tensors.session import opened


def described(artifact: Artifact, samples: Samples, task: str) -> Description:
    """A description of a model that is loaded for it.

    Args:
        artifact: what will be packaged.
        samples: the evaluation set.
        task: of the manifest.
    """
    session = opened(artifact)
    try:
        golden = golden_cases(session, samples)
        return Description(task, session.inputs, session.outputs, golden=golden, data=samples.about)
    finally:
        session.close()
