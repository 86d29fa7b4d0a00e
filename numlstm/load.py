"""Where models come from: bundled models, files, and the networks of other frameworks.

`import numlstm` imports this module, so it imports nothing but where it is used.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from numlstm.budget import Budget
    from numlstm.model import Model
    from numlstm.program.lower import Fold
    from numlstm.spec import Network, Weights


def load(
    name: str | os.PathLike[str],
    dtype: str | None = None,
    activations: str = "int16",
    fold: "Fold" = "auto",
    num_threads: int = 1,
    budget: "Budget | None" = None,
) -> "Model":
    """Load a bundled model by its name, or a .safetensors file by its path.

    Parameters
    ----------
    name : str or path
        "sentiment", for example, or a path that `Model.save` wrote to.
    dtype : str, optional
        Of the matrices: "float32", "bfloat16" or "int8". Without it they are as the file says;
        "float32" of another file runs the rounded weights in float32.
    activations : str
        What int8 matrices are multiplied with, "int16" or "int8": half the work, which pays where
        the weights are read for many rows, in pools and sequences, for about twice the error. Only
        with ``dtype="int8"``.
    fold : bool or "auto"
        Whether to tabulate what the first recurrent layer of a token model makes of each token: it
        reads a row then in place of multiplying, with the same bits (in float32; of int8 weights
        this half is exact). "auto": if the table takes no more than 64 MB.
    num_threads : int
        How many threads share the streams of a pool or a batch, and the directions of a
        bidirectional layer, where that is faster. A step of one stream is always one thread's.
    budget : Budget, optional
        What the file may cost, in bytes and seconds; without it by its size.

    Raises
    ------
    FileNotFoundError
        If there is no such model or file.
    ValueError
        If an option is none of these.
    WeightsError
        If the file is truncated, altered, or not of numlstm, a number too large for the dtype, or
        the file costs more than its budget.
    """
    from numlstm import storage

    path = storage.find(name)
    with _opened(path, budget) as parts:
        return _model(storage.only(parts, path), dtype, activations, fold, num_threads)


def load_parts(
    name: str | os.PathLike[str],
    dtype: str | None = None,
    activations: str = "int16",
    fold: "Fold" = "auto",
    num_threads: int = 1,
    budget: "Budget | None" = None,
) -> "dict[str, Model]":
    """Load all networks of a file by their names: an encoder and a decoder, for example.

    Parameters and errors are those of `load`. A file of `Model.save` has one network, named "".

    Examples
    --------
    >>> encoder, decoder = numlstm.load_parts("chat").values()
    """
    from numlstm import storage

    with _opened(storage.find(name), budget) as parts:
        return {
            part: _model(weights, dtype, activations, fold, num_threads)
            for part, weights in parts.items()
        }


@contextmanager
def _opened(path: "Path", budget: "Budget | None") -> "Iterator[dict[str, Weights]]":
    """Open a file of numlstm; of another the error says the command that converts it."""
    from numlstm import storage

    try:
        with storage.opened(path, budget) as parts:
            yield parts
    except storage.ForeignFile as error:
        from numlstm.convert.likely import command_for

        raise storage.ForeignFile(f"{path}: {command_for(path, error.shapes)}") from error


def save_parts(
    parts: "Mapping[str, Model]", path: str | os.PathLike[str], dtype: str | None = None
) -> None:
    """Write several networks to one .safetensors file, or leave what is there untouched.

    Parameters
    ----------
    parts : dict of Model
        The networks by their names, which have no slash.
    dtype : str, optional
        As of `Model.save`.

    Raises
    ------
    TypeError, ValueError
        If parts is no dict of models, there are none, a name has a slash, or dtype is none of
        these.
    WeightsError
        If a number is too large for the dtype.
    """
    from numlstm import storage
    from numlstm.model import Model

    if not isinstance(parts, Mapping):
        raise TypeError(f"parts is {type(parts).__name__}, expected a dict of models")
    for part, model in parts.items():
        if not isinstance(model, Model):
            raise TypeError(f"part {part!r} is {type(model).__name__}, expected a Model")
    if dtype is not None:
        parts = {part: model.astype(dtype) for part, model in parts.items()}
    storage.save_parts({part: model.weights for part, model in parts.items()}, path)


def _model(
    weights: "Weights", dtype: str | None, activations: str, fold: "Fold", num_threads: int
) -> "Model":
    from numlstm.model import Model
    from numlstm.quantize import with_dtype

    if dtype is None and activations != "int16":
        raise ValueError(f"activations={activations!r} goes with dtype='int8'")
    if dtype is not None:
        weights = with_dtype(weights, dtype, activations)
    return Model(weights, fold, num_threads)


def from_torch(
    *modules: Any,
    layers: str | Sequence[str] | None = None,
    network: "Network | None" = None,
    key: str | None = None,
    prefix: str | None = None,
    ignore: str | Sequence[str] = (),
    tensors: "Mapping[str, Any] | None" = None,
    labels: Sequence[str] = (),
    tokenizer: str | None = None,
    budget: "Budget | None" = None,
) -> "Model":
    """Convert PyTorch modules, or a state dict, to a model, and check it against PyTorch.

    Parameters
    ----------
    *modules : torch.nn.Module or str
        Modules in forward order, and words: "last", "mean", "max", "sum" for pooling over time;
        "final" after a recurrent module for the last h of each of its directions; functions, as
        "leaky_relu(0.1)". Or one state dict, of tensors or arrays, or the path of what holds one:
        a .pt file (a state dict, a checkpoint, a whole module, or TorchScript), a .pt2, .npz or
        .safetensors file, a folder of Hugging Face's libraries or its index of several files. They
        are read as data: nothing in them is run.
    layers : str or list of str, optional
        Only with a state dict: what its tensors are, in forward order, for example
        ``"embed:Embedding lstm:LSTM mean head:Linear softmax"``. Before the colon is the name in
        the state dict; options stand in brackets: ``rnn:RNN(nonlinearity=relu)``. A head that has
        the weight of the embedding is ``head:Linear(tied=embed)``.
    network : Network, optional
        Only with a state dict: what its tensors are, for networks that are no chain. The names of
        its layers are those in the state dict; "lstm.l1" is the second layer of "lstm". Modules
        that no layer names are left out: an encoder and a decoder are two calls.
    key : str, optional
        Where in a checkpoint the state dict is, ``"model.state"`` for example; found if there is
        one in which the names of the layers are.
    prefix : str, optional
        What all names of the network begin with, ``"module."`` for example; found if there is one.
        What begins otherwise is left out.
    ignore : str or list of str, optional
        Patterns of names, as ``"critic.*, std"``, of tensors that no layer takes and that are left
        out. Without one only those are that say so themselves: of a loss, a criterion, a metric, an
        optimizer, where they do not look like a layer. What is left out is said in the log.
    tensors : dict of arrays, optional
        Only with a network: tensors by their names in it (``network.tensor_shapes()``), which are
        not looked for in the state dict.
    labels : list of str
        Names of the outputs.
    tokenizer : str, optional
        The text of a tokenizer.json.
    budget : Budget, optional
        What a file may cost, in bytes and seconds; without it by its size.

    Returns
    -------
    Model
        On random input it differs from PyTorch by no more than `TOLERANCE`; `Model.verify` and the
        log tell how much.

    Raises
    ------
    WeightsError
        If something cannot be converted (everything that cannot is listed), or if the result
        differs from PyTorch.
    ImportError
        If PyTorch is not installed.

    Examples
    --------
    >>> model = numlstm.from_torch(net.embed, net.lstm, "mean", net.head)
    >>> model = numlstm.from_torch("net.pt", layers="rnn:LSTM head:Linear", ignore="critic.*")
    >>> model.save("model.safetensors")
    """
    options: dict[str, Any] = {"layers": layers, "network": network, "key": key}
    options |= {"prefix": prefix, "ignore": ignore, "tensors": tensors}
    return _from("torch", "PyTorch", modules, labels, tokenizer, budget, options)


def from_keras(
    source: Any,
    *,
    network: "Network | None" = None,
    config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    custom: Mapping[str, str] | None = None,
    labels: Sequence[str] = (),
    tokenizer: str | None = None,
    budget: "Budget | None" = None,
) -> "Model":
    """Convert a Keras model, and check it against Keras where that is installed.

    Files are read as data: Keras is not needed, and nothing in them is executed. Several inputs
    stand in a row end to end, those of the whole sequence in every row: `Model.inputs` has their
    names, `Model.joined` makes the rows.

    Parameters
    ----------
    source : str, path, or Keras model
        A ``.keras`` file (Keras 3), an ``.h5`` file (Keras 1, 2, 3), or a model itself.
    network : Network, optional
        Of a file with weights only: what they are. The names of its layers are those in the file.
    config : dict, str or path, optional
        Of a file with weights only: the model's configuration, as ``model.to_json()`` gives it, or
        the path of a file with it.
    custom : dict of str, optional
        Classes that Keras does not have, or single layers by their names, as layers of Keras, one
        behind the other: ``{"ReversedLSTM": "LSTM Reverse", "lambda_2": "last"}``. The first has
        the weights and the options of the file; options in brackets stand above those, as in
        ``"LSTM(recurrent_activation=hard_sigmoid)"``. Beside the layers of Keras there are
        ``Reverse`` (of the steps) and ``last``, ``mean``, ``max``, ``sum`` (over them).
    labels : list of str
        Names of the outputs.
    tokenizer : str, optional
        The text of a tokenizer.json.
    budget : Budget, optional
        What a file may cost, in bytes and seconds; without it by its size.

    Raises
    ------
    WeightsError
        If something cannot be converted (everything that cannot is listed), or if the result
        differs from Keras.
    ImportError
        If h5py is not installed.

    Examples
    --------
    >>> model = numlstm.from_keras("model.keras")
    >>> model = numlstm.from_keras("weights.h5", config="model.json")
    >>> model = numlstm.from_keras("tagger.h5", custom={"ReversedLSTM": "LSTM Reverse"})
    """
    options = {"network": network, "config": config, "custom": custom}
    return _from("keras", "Keras", (source,), labels, tokenizer, budget, options)


def from_onnx(
    source: Any,
    *,
    constants: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    outputs: Sequence[str] | None = None,
    labels: Sequence[str] = (),
    tokenizer: str | None = None,
    budget: "Budget | None" = None,
) -> "Model":
    """Convert an ONNX model, and check it against ONNX Runtime or the evaluator of onnx.

    The batch is one: its axis is 1 or free, and so is that of time, as ``dynamic_axes`` and
    ``dynamic_shapes`` of PyTorch make them. W, R and B are initializers.

    A graph in half precision or with int8 weights is held to float32 of the weights it has; how far
    its own answers are from that is in ``model.weights.origin`` and in the log.

    Parameters
    ----------
    source : str, path, bytes or onnx.ModelProto
        Of several inputs, sequences and numbers of the whole sequence are the columns of one row,
        see `Model.inputs`. States that are inputs and outputs of the graph become the state of a
        stream. Lengths and masks are those of one sequence without padding, resets are none.
    constants : dict, optional
        Values of inputs that are the same for every run: ``{"sr": 16000}``.
    shapes : dict, optional
        Sizes of inputs that the file calls free and are not, or that are to be one:
        ``{"x": (1, None, 40)}``; None is one that may differ.
    outputs : list of str, optional
        Which outputs are the answer, end to end: see `Model.outputs`. Without it all that are no
        states; of them whole numbers, as an argmax, are left out beside others.
    labels : list of str
        Names of the outputs.
    tokenizer : str, optional
        The text of a tokenizer.json.
    budget : Budget, optional
        What a file may cost, in bytes and seconds; without it by its size.

    Raises
    ------
    WeightsError
        If something cannot be converted (everything that cannot is listed), or if the result
        differs from the source.
    ImportError
        If onnx is not installed.

    Examples
    --------
    >>> model = numlstm.from_onnx("model.onnx")
    >>> model = numlstm.from_onnx("vad.onnx", constants={"sr": 16000}, outputs=["output"])
    """
    options = {"constants": constants, "shapes": shapes, "outputs": outputs}
    return _from("onnx", "ONNX", (source,), labels, tokenizer, budget, options)


def _from(
    module: str,
    framework: str,
    sources: tuple[Any, ...],
    labels: Sequence[str],
    tokenizer: str | None,
    budget: "Budget | None",
    options: dict[str, Any],
) -> "Model":
    """Convert with a module of `numlstm.convert`, and check the result."""
    from contextlib import nullcontext
    from dataclasses import replace

    from numlstm.budget import spending

    if isinstance(labels, str):
        raise TypeError("labels is a str, expected a list of str")
    try:
        convert = import_module(f"numlstm.convert.{module}").convert
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("numlstm"):
            raise
        raise ImportError(
            f"converting from {framework} needs {error.name}; install it with: "
            f"pip install 'numlstm[{module}]'"
        ) from error
    source = sources if module == "torch" else sources[0]
    # Of several none is a file: a word may be the name of one that happens to be there.
    size = _size_of_file(sources[0]) if len(sources) == 1 else None
    with nullcontext() if size is None else spending(size, budget):
        weights = replace(convert(source, **options), labels=tuple(labels), tokenizer=tokenizer)
        if tokenizer is not None:
            weights.load_tokenizer()  # or the file would be refused where it is used
        return checked(weights)


def _size_of_file(source: Any) -> int | None:
    """Return the size of a source that is a file or its bytes, None of any other.

    A folder has the size of what is read of it, which says so.
    """
    from pathlib import Path

    if isinstance(source, bytes | bytearray | memoryview):
        return len(source)
    if isinstance(source, str | os.PathLike) and Path(source).is_dir():
        return 0
    if isinstance(source, str | os.PathLike) and Path(source).is_file():
        return Path(source).stat().st_size
    return None


def checked(weights: "Weights") -> "Model":
    """Return the model of a conversion, or raise if it differs from the source framework."""
    import logging

    from numlstm.errors import WeightsError
    from numlstm.model import Model

    model = Model(weights)
    verification = model.verify()
    logging.getLogger("numlstm").info(
        "converted from %s; largest difference on %d outputs of random input: %.1e",
        weights.origin,
        verification.num_outputs,
        verification.largest_difference,
    )
    if not verification.ok:
        raise WeightsError(
            f"the converted model differs from {weights.origin} by "
            f"{verification.largest_difference:.1e} on random input, more than rounding explains"
        )
    return model
