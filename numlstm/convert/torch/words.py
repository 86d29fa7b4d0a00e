"""A state dict and what its tensors are -> PyTorch modules.

A description is a list of words in forward order, ``[prefix:]kind[(option=value, ...)]``:

    embed:Embedding lstm:LSTM mean head:Linear softmax

prefix   the module's name in the state dict, whose tensors give the sizes; may be empty
kind     Embedding; RNN, GRU, LSTM (all its layers and directions), RNNCell, GRUCell, LSTMCell;
         Linear, Conv1d, PReLU, LayerNorm, RMSNorm, BatchNorm1d, InstanceNorm1d, GroupNorm,
         CRF (of pytorch-crf)
option   nonlinearity=relu of an RNN; eps=1e-6 of a norm; num_groups of a GroupNorm; of a Conv1d
         padding=1, same, valid or causal, and stride, dilation, groups; tied=embed of a Linear (or
         an Embedding) whose weight is that of another module

A word of a recurrent layer stands for a module of all its layers, for a cell, and for a list of
either, whichever the names are of: ``lstm.weight_ih_l1``, ``lstm.weight_ih``, ``lstm.1.weight_ih``.

Without a prefix stand what has no tensors: last, mean, max, sum (pooling over time), final (h_n of
the recurrent layer before it), softmax, log_softmax, softmax(groups=3), normalize (by the L2 norm
of a step; p=1, eps=1e-12, groups), functions as in ``leaky_relu(0.1)``, and modules as in
``MaxPool1d(2)``, ``AvgPool1d(3, padding=1)``, ``Flatten``, ``GELU``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from numlstm import spec
from numlstm.budget import OverBudget
from numlstm.convert.assembly import Refusals, Refused
from numlstm.convert.torch.description import Options, Own, modules_of, stacked
from numlstm.convert.torch.leftover import Leftover, say
from numlstm.convert.torch.modules import Step, step_of_word
from numlstm.convert.torch.names import Wanted, like, locate
from numlstm.errors import first_of
from numlstm.spec import WeightsError

_WORD = re.compile(r"(?:(?P<prefix>[^:()\s]*):)?(?P<kind>\w+)(?:\((?P<options>[^()]*)\))?")
_WORDS = re.compile(r"(?:[^\s()]|\([^()]*\)|[()])+")  # spaces within brackets are of a word
_MAY_BE_TIED = ("Embedding", "Linear")


@dataclass(frozen=True)
class Word:
    """A word of a description; without tensors its module is None."""

    text: str
    module: str | None
    kind: str
    options: str | None


def words_of(layers: str | Sequence[str]) -> list[Word]:
    """Return the words of a description.

    Raises
    ------
    WeightsError
        Lists everything that is no word.
    """
    refusals = Refusals("the state dict")
    words = []
    for text in _WORDS.findall(layers) if isinstance(layers, str) else list(layers):
        match = _WORD.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            refusals.add(repr(text), "is not [prefix:]kind[(option=value, ...)]")
        else:
            words.append(Word(text, *match.groups()))
    refusals.check()
    return words


def wanted_by(words: Sequence[Word]) -> Wanted:
    """Return the modules that words name."""
    named = {word.module: word for word in words if word.module is not None}
    tied = {module for module, word in named.items() if word.kind in _MAY_BE_TIED}
    return Wanted(frozenset(named), frozenset(tied))


def steps_of_state_dict(
    tensors: Mapping[str, torch.Tensor], layers: str | Sequence[str]
) -> list[Step]:
    """Return modules with the tensors of a state dict, all of them, as a description says.

    Raises
    ------
    WeightsError
        Lists every word that does not fit, and every tensor that belongs to none.
    """
    words = words_of(layers)
    return steps_of(words, Leftover(tensors, locate(tensors, wanted_by(words), prefix="")))


def steps_of(words: Sequence[Word], leftover: Leftover) -> list[Step]:
    """Return modules with the tensors of a state dict, as words say.

    Raises
    ------
    WeightsError
        Lists every word that does not fit, and every tensor that belongs to none.
    """
    refusals = Refusals("the state dict")
    reader = _Reader(words, leftover)
    steps: list[Step] = []
    for word in words:
        with refusals.of(word.text):
            steps += reader.steps(word, steps)
    leftover.settle(refusals)
    refusals.check()
    return steps


class _Reader:
    """Gives each word its tensors."""

    def __init__(self, words: Sequence[Word], leftover: Leftover) -> None:
        self.words, self.leftover = words, leftover
        self.names = leftover.located.names

    def steps(self, word: Word, before: Sequence[Step]) -> list[Step]:
        if word.module is None:
            return [_step_without_tensors(word.text, word.kind)]
        dot = f"{word.module}." if word.module else ""
        own = {
            name.removeprefix(dot): name
            for name, full in self.names.items()
            if name.startswith(dot) and full not in self.leftover.taken
        }
        options = _read_options(word.options)
        found: list[Step] = []
        try:
            for kind, names in stacked(word.kind, own):
                found += self._modules(word, kind, names, options, [*before, *found])
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            # Of a word that does not fit nothing is left over.
            self.leftover.taken |= {self.names[name] for name in own.values()}
            if isinstance(error, OverBudget):
                raise
            what = f"no tensor {error}" if isinstance(error, KeyError) else str(error)
            raise Refused(what, self._found(word, own)) from error
        return found

    def _modules(
        self,
        word: Word,
        kind: str,
        names: Mapping[str, str],
        options: Mapping[str, str],
        before: Sequence[Step],
    ) -> list[nn.Module]:
        tensors = {own: self.tensor(name) for own, name in names.items()}
        given = Options(options)
        self._tie(word, tensors, given, before)
        modules = modules_of(kind, tensors, given)
        used = modules[-1].state_dict().keys() & names.keys()
        self.leftover.taken |= {self.names[names[own]] for own in used}
        return modules

    def tensor(self, name: str) -> torch.Tensor:
        return self.leftover.tensors[self.names[name]]

    def _tie(self, word: Word, own: Own, options: Options, before: Sequence[Step]) -> None:
        """Put the weight of another module among the tensors of one that has none."""
        if word.kind not in _MAY_BE_TIED:
            return
        tied = options.pop("tied", None)
        if tied is None and own.keys() - {"bias"}:
            return
        others = [tied] if tied is not None else self._partners(word)
        weights = {m: self.tensor(f"{m}.weight") for m in others if f"{m}.weight" in self.names}
        if tied is not None and not weights:
            raise WeightsError(f"tied={tied}, of which there is no {tied}.weight")
        if len(weights) != 1:
            return
        ((module, weight),) = weights.items()
        if tied is None and not _goes_behind(weight, own, before, word.kind):
            return
        if "weight" in own and not torch.equal(own["weight"], weight):
            raise WeightsError(f"tied={tied}, but its own weight is another; leave tied out")
        own["weight"] = weight
        if tied is None:
            say(
                f"{word.module}.weight is not there: it is {module}.weight, "
                f"as {word.module}:{word.kind}(tied={module}) says"
            )

    def _partners(self, word: Word) -> list[str]:
        (other,) = {"Embedding", "Linear"} - {word.kind}
        return [w.module for w in self.words if w.module is not None and w.kind == other]

    def _found(self, word: Word, own: Mapping[str, str]) -> str:
        """Say what a module has, or else what may be meant."""
        module = word.module or ""
        if own:
            shapes = (f"{n} {tuple(self.tensor(name).shape)}" for n, name in own.items())
            return f"the state dict has {first_of(shapes)}"
        if any(other.module == module for other in self.words if other is not word):
            return f"{module} is there twice, and its tensors are those of the first"
        names = list(self.names.values())
        found = like(module, names)
        if found:
            return f"the state dict has no {module}; like it: {first_of(found)}"
        shapes = (f"{n} {tuple(t.shape)}" for n, t in self.leftover.tensors.items())
        return f"the state dict has no {module}; it has {first_of(shapes)}"


def _goes_behind(weight: torch.Tensor, own: Own, before: Sequence[Step], kind: str) -> bool:
    """Whether a weight (V, E) is that of a head behind E features, with such a bias."""
    sizes = [size for step in before if (size := _output_size(step))]
    if weight.dim() != 2 or (kind == "Linear" and sizes and sizes[-1] != weight.shape[1]):
        return False
    return "bias" not in own or own["bias"].shape == weight.shape[:1]


def _output_size(step: Step) -> int:
    """Return how many features a module gives, 0 for one that leaves them as they are."""
    match step:
        case nn.RNNBase():
            return int(step.proj_size or step.hidden_size) * (2 if step.bidirectional else 1)
        case nn.RNNCellBase():
            return int(step.hidden_size)
        case nn.Embedding():
            return int(step.embedding_dim)
        case nn.Linear():
            return int(step.out_features)
        case nn.Conv1d():
            return int(step.out_channels)
    return 0


def _step_without_tensors(word: str, kind: str) -> Step:
    step = step_of_word(word)
    if step is not None:
        return step
    if kind in spec.FUNCTIONS:
        raise Refused(f"expected {len(spec.FUNCTIONS[kind])} numbers in brackets")
    raise Refused(f"{kind} needs the prefix of its tensors, as in lstm:{kind}")


def _read_options(text: str | None) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in text.split(",") if text is not None else []:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise WeightsError(f"{part.strip()!r} is not option=value")
        if name in options:
            raise WeightsError(f"option {name} is there twice")
        options[name] = value
    return options
