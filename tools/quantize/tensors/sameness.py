"""Whether two files of one model give the same outputs, bit for bit."""

from itertools import islice

from agent.errors import BadModel
from agent.types import Tensors
from tools.quantize.family import Artifact
from tools.quantize.tensors.samples import Samples
from tools.quantize.tensors.session import batches, opened

PROVED = 64  # samples
NOT_SLIMMED = "kept whole: without what no runtime should read it gave other outputs"


def same_bits(before: Artifact, after: Artifact, samples: Samples) -> bool:
    """Whether the engine that devices use gives equal bits for both, sample by sample.

    Args:
        before: the model as it was.
        after: the same model in another file; one that does not load is not the same.
        samples: the first `PROVED` are run, one at a time.
    """
    one = opened(before)
    try:
        two = opened(after)
    except BadModel:
        one.close()
        return False
    try:
        feeds = islice(batches(one, samples, 1), PROVED)
        return all(_equal(one.run(tensors), two.run(tensors)) for tensors in feeds)
    finally:
        one.close()
        two.close()


def _equal(first: Tensors, second: Tensors) -> bool:
    return first.keys() == second.keys() and all(
        (array.dtype, array.shape, array.tobytes())
        == (second[name].dtype, second[name].shape, second[name].tobytes())
        for name, array in first.items()
    )
