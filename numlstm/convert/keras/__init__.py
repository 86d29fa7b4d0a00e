"""Keras models, files and weights -> `Weights`.

Files are read with h5py and json. Keras is not needed, and nothing in a file is run; where Keras is
installed, it answers the probes.

Several inputs or outputs of a model are joined end to end. What Keras gives at masked steps, which
differs by layer, becomes the answer to the step before. A layer that returns no sequence gives, in
a causal network, its answer so far. A `stateful` layer keeps its state as every stream does.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.convert.assembly import Refusals, Refused, reading
from numlstm.convert.keras.custom import Word, missing, read_custom, renamed
from numlstm.convert.keras.files import Source, read
from numlstm.convert.keras.graph import translate
from numlstm.convert.keras.probes import probes_of
from numlstm.convert.keras.tensors import tensors_of
from numlstm.convert.probes import make_probes, reference_run
from numlstm.errors import first_of
from numlstm.spec import Columns, Network, Probe, Tensors, Weights, WeightsError


def convert(
    source: Any,
    *,
    network: Network | None = None,
    config: Any = None,
    custom: Mapping[str, str] | None = None,
) -> Weights:
    """Convert a Keras model.

    Parameters
    ----------
    source : path, Keras model, or mapping of arrays by ``layer/weight``
        A ``.keras`` file, an ``.h5`` file of Keras 1, 2 or 3, or weights alone.
    network : Network, optional
        For weights alone: the layers, each with tensors named as its group in the file. The arrays
        become what Keras's layer of the same kind would make of them.
    config : dict, JSON text, or path of a JSON file, optional
        For weights alone: what ``model.to_json()`` gives.
    custom : dict of str, optional
        Classes of a user, or names of layers, in layers of Keras: see `custom`.

    Raises
    ------
    WeightsError
        If the source is damaged, or has anything that numlstm does not; all of it is listed.
    """
    if network is not None and config is not None:
        raise WeightsError("network and config both say what the layers are; give one of them")
    words = read_custom(custom)
    found = read(source, config)
    if words:
        _rename(found, words)
    tensors: Tensors
    probes: tuple[Probe, ...]
    inputs: tuple[Columns, ...] = ()
    outputs: tuple[Columns, ...] = ()
    if network is not None:
        tensors = _tensors_by_name(network, found)
        probes = make_probes(network, tensors, reference_run(network, tensors))
        answered = "probes from numlstm's reference"
    elif found.config is None:
        raise WeightsError(
            "the weights come without a config; pass config=, which model.to_json() gives, or "
            f"network=, with layers named as the weights: {first_of(found.groups_of_layers())}"
        )
    else:
        translation = translate(found)
        network, tensors = translation.network, translation.tensors
        inputs, outputs = translation.inputs, translation.outputs
        probes, answered = probes_of(found, translation)
    return Weights(
        network=network,
        tensors=tensors,
        probes=probes,
        origin=f"{f'Keras {found.version}'.strip()}, {answered}",
        inputs=inputs,
        outputs=outputs,
    )


def _rename(source: Source, words: Mapping[str, tuple[Word, ...]]) -> None:
    """Let the config say what names stand for."""
    unknown = missing(words, source.config)
    if unknown:
        raise WeightsError(f"custom names {first_of(unknown)}, which the model does not have")
    with reading("the config cannot be read"):
        source.config, source.is_custom = renamed(source.config, words), True


def _tensors_by_name(network: Network, source: Source) -> Tensors:
    """Return the tensors of a network from the groups that bear the names of its layers."""
    groups = source.groups_of_layers()
    tensors: dict[str, NDArray[np.float32]] = {}
    refusals = Refusals("the weights")
    for prefix, layer in network.named_layers():
        if not layer.tensors():
            continue
        with refusals.of(f"{prefix}: {type(layer).__name__} {layer.name!r}"):
            if layer.name not in groups:
                raise Refused("no weights of that name", f"there are {first_of(groups)}")
            found = tensors_of(layer, [array for _, array in groups[layer.name]])
            tensors |= {f"{prefix}.{name}": array for name, array in found.items()}
    refusals.check()
    return tensors
