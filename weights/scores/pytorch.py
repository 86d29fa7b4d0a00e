"""The bundled networks in PyTorch, and how far the engine is from it on the test parts."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

import numlstm
from numlstm import spec
from numlstm.spec import parse_function
from numlstm.tasks.audio.features import LogMel
from numlstm.tasks.text.chat import BOT, encode_history
from numlstm.tasks.text.encoding import encode
from numlstm.tasks.text.sentences import split_sentences
from numlstm.tasks.text.seq2seq import EncoderDecoder
from numlstm.tasks.text.summarize import (
    MAX_TOKENS_EXTRACT,
    MAX_TOKENS_SUMMARIZE,
    SUMMARY,
)
from numlstm.tasks.text.tag import Tagger
from weights.recipes import abstracts, dialogues, speech_data
from weights.scores import classification, language, tagging
from weights.scores.card import Subject, watch

NUM_ITEMS = 200
NUM_TOKENS = 100  # of a piece of the text of a language model

Floats = NDArray[np.float32]


class TorchNetwork(nn.Module):  # type: ignore[misc]
    """A network of numlstm as modules and functions of PyTorch: the layers that are bundled.

    Its state is a list of tensors: h and c (D, 1, H) of every LSTM, and the maximum so far (1, I)
    of every pooling.

    Args:
        weights: What it is made of.
        last_only: Pool all steps into one row, as is enough where only the last answer is read.
    """

    def __init__(self, weights: numlstm.Weights, last_only: bool = False) -> None:
        super().__init__()
        self.network = weights.network
        self.last_only = last_only or not weights.network.is_causal
        self.tensors: dict[str, dict[str, torch.Tensor]] = {}
        self.lstms: dict[str, nn.LSTM] = {}
        for prefix, layer in self.network.named_layers():
            own = {
                name: torch.from_numpy(weights.tensors[f"{prefix}.{name}"].copy())
                for name in layer.tensors()
            }
            self.tensors[prefix] = own
            if isinstance(layer, numlstm.LSTM):
                self.lstms[prefix] = nn.LSTM(
                    layer.input_size,
                    layer.hidden_size,
                    batch_first=True,
                    bidirectional=layer.direction == "bidirectional",
                )
                self.lstms[prefix].load_state_dict(
                    {n: own[n.replace("_l0", "")] for n in self.lstms[prefix].state_dict()}
                )

    def initial(self) -> list[torch.Tensor]:
        """Return the state before the first step."""
        state = []
        for prefix, layer in self.network.named_layers():
            if isinstance(layer, numlstm.LSTM):
                directions = 1 + self.lstms[prefix].bidirectional
                state += [torch.zeros(directions, 1, layer.hidden_size)] * 2
            elif isinstance(layer, numlstm.Pooling):
                state.append(torch.full((1, layer.input_size), -torch.inf))
        return state

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def forward(
        self,
        xs: torch.Tensor,
        memory: torch.Tensor | None = None,
        memory_ids: torch.Tensor | None = None,
        state: list[torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return ys (T, O) of xs (T,) or (T, I), and the state after them."""
        before = iter(self.initial() if state is None else state)
        after: list[torch.Tensor] = []
        values = {-1: xs}
        for n, (prefix, layer) in enumerate(self.network.named_layers()):
            sources = [values[source] for source in self.network.sources(n)]
            if isinstance(layer, numlstm.Add):
                values[n] = torch.stack(sources).sum(0)
                continue
            x = sources[0] if len(sources) == 1 else torch.cat(sources, -1)
            own = self.tensors[prefix]
            match layer:
                case numlstm.LSTM():
                    hs, (h, c) = self.lstms[prefix](x[None], (next(before), next(before)))
                    after += [h, c]
                    values[n] = h.reshape(1, -1) if layer.outputs == "last" else hs[0]
                case numlstm.Pooling(mode="max"):
                    joined = torch.cat([next(before), x])
                    values[n] = joined.amax(0, keepdim=True)
                    after.append(values[n])
                    if not self.last_only:
                        values[n] = joined.cummax(0).values[1:]
                case numlstm.Attention(score="dot", memory=""):
                    assert memory is not None
                    values[n] = (layer.scale * x @ memory.T).softmax(-1) @ memory
                case numlstm.Copy():
                    assert memory is not None
                    assert memory_ids is not None
                    values[n] = copied(layer.vocab_size, x, memory, memory_ids)
                case _:
                    values[n] = stateless(layer, own, x)
        return values[len(values) - 2], after


def copied(
    vocab_size: int, x: torch.Tensor, memory: torch.Tensor, ids: torch.Tensor
) -> torch.Tensor:
    """Return p (T, V) of tokens that are written or copied."""
    written, gate, query = x.split([vocab_size, 1, memory.shape[1]], dim=-1)
    shares = (1 - gate) * (query @ memory.T).softmax(-1)
    return (gate * written).index_add(1, ids.long(), shares)


def stateless(layer: spec.Layer, own: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return what a layer without a state makes of rows."""
    match layer:
        case numlstm.Embedding():
            return F.embedding(x.long(), own["weight"])
        case numlstm.Linear():
            y = F.linear(x, own["weight"], own.get("bias"))
            return y if layer.activation is None else getattr(torch, layer.activation)(y)
        case numlstm.FrameConv1d():
            frames = x.unflatten(-1, (-1, layer.in_channels)).transpose(1, 2)
            frames = F.pad(frames, layer.padding)
            y = F.conv1d(frames, own["weight"], own.get("bias"), layer.stride)
            y = y.transpose(1, 2).flatten(1)
            return y if layer.activation is None else getattr(torch, layer.activation)(y)
        case numlstm.Slice():
            return x[:, layer.start : layer.stop]
        case numlstm.BatchNorm():
            mean, var = own["running_mean"], own["running_var"]
            return F.batch_norm(x, mean, var, own.get("weight"), own.get("bias"), eps=layer.eps)
        case numlstm.Softmax():
            return x.softmax(-1)
        case numlstm.LogSoftmax():
            return x.log_softmax(-1)
        case numlstm.Concat():
            return x
        case numlstm.Activation():
            match parse_function(layer.function):
                case "affine", (alpha, beta):
                    return alpha * x + beta
                case name, ():
                    return getattr(torch, name)(x)
    raise TypeError(f"{layer} is in no bundled network")


def difference(model: numlstm.Model, net: TorchNetwork, xs: NDArray[Any]) -> tuple[float, Floats]:
    """Return max |engine - PyTorch| over the answers to a sequence, and those of PyTorch."""
    ys = net(torch.from_numpy(xs))[0].numpy()
    return float(np.abs(model.run(xs) - ys).max()), ys


def differences(subject: Subject) -> Iterator[float]:
    """Yield max |engine - PyTorch| for items of the test part, all weights in float32."""
    source = subject.float32 or subject.path
    parts = numlstm.load_parts(source, "float32")
    nets = {part: TorchNetwork(model.weights) for part, model in parts.items()}
    pipe = numlstm.pipeline(subject.task, parts)
    match subject.task:
        case "chat" | "summarize" if "decoder" in parts:
            for ids, tokens in sources(subject, pipe.networks):
                yield difference_of_decoder(pipe.networks, nets, ids, tokens)
        case "pos":
            for sentence in tagging.read(subject.data, "test"):
                yield difference_of_tags(pipe, nets, sentence.words)
        case _:
            part = "16000" if subject.task == "vad" else ""
            for xs in inputs(subject, pipe):
                yield difference(parts[part], nets[part], xs)[0]


def inputs(subject: Subject, pipe: Any) -> Iterator[NDArray[Any]]:
    """Yield what a network of one part reads of each item."""
    match subject.task:
        case "sentiment" | "email":
            split = next(s for s in classification.SPLITS[subject.task] if s.endswith(".test"))
            for text in classification.read(subject, split)[0]:
                yield np.array(pipe.encoder(text), np.int32)
        case "language-model":
            ids = np.array(pipe.encoder(language.read(subject, "test")), np.int32)
            yield from np.array_split(ids, max(len(ids) // NUM_TOKENS, 1))
        case "vad":  # its network for 16 kHz, of noise that comes and goes
            rng = np.random.default_rng(0)
            for _ in range(NUM_ITEMS):
                loudness = np.abs(rng.standard_normal((50, 1))) ** 3 * 0.1
                yield (rng.standard_normal((50, 576)) * loudness).astype(np.float32)
        case "speech":
            recordings = speech_data.read(subject.data / "speech_digits", "test")
            spoken = speech_data.singles(recordings)
            for each in spoken + speech_data.strings(recordings, NUM_ITEMS - len(spoken), 0):
                yield LogMel().feed(each.samples)
        case "summarize":
            for paper in abstracts.read(subject.data / "summarization", "test"):
                sentences = split_sentences(paper.abstract)
                tokenizer = pipe.model.load_tokenizer()
                read, _ = abstracts.encode_sentences(tokenizer, sentences, MAX_TOKENS_EXTRACT)
                yield np.array(read, np.int32)


def sources(
    subject: Subject, networks: EncoderDecoder
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Yield what the encoder reads, and what the decoder is to write from its first token on."""
    if subject.task == "chat":
        for name in dialogues.SETS:
            exchanges = dialogues.read(subject.data / "chatbot", f"{name}.test")
            for exchange in exchanges[: NUM_ITEMS // len(dialogues.SETS)]:
                ids = encode_history(networks.tokenizer, exchange.history)
                tokens = [BOT, *encode(networks.tokenizer, exchange.reply)]
                yield np.array(ids, np.int32), np.array(tokens, np.int32)
    else:
        for paper in abstracts.read(subject.data / "summarization", "test"):
            sentences = split_sentences(paper.abstract)
            tokenizer = networks.tokenizer
            read, _ = abstracts.encode_sentences(tokenizer, sentences, MAX_TOKENS_SUMMARIZE)
            tokens = [SUMMARY, *encode(tokenizer, paper.summaries[0])]
            yield np.array(read, np.int32), np.array(tokens, np.int32)


def difference_of_decoder(
    networks: EncoderDecoder,
    nets: dict[str, TorchNetwork],
    ids: NDArray[np.int32],
    tokens: NDArray[np.int32],
) -> float:
    """Return the larger one of the encoder's and the decoder's, each side by itself."""
    largest, rows = difference(networks.encoder, nets["encoder"], ids)
    stream = networks.read(ids)
    state = nets["decoder"].initial()
    state[0] = torch.from_numpy(networks.last_of(rows))[None, None]
    given = torch.from_numpy(rows), torch.from_numpy(ids)
    ys, _ = nets["decoder"](torch.from_numpy(tokens), *given, state=state)
    return max(largest, float(np.abs(stream.run(tokens) - ys.numpy()).max()))


def difference_of_tags(pipe: Tagger, nets: dict[str, TorchNetwork], words: list[str]) -> float:
    """Return max |engine - PyTorch| over the probabilities of the tags of a sentence."""
    vectors = []
    for word in words:
        token, characters = pipe.ids(word)
        both = nets["words"](torch.tensor([token])), nets["characters"](torch.tensor(characters))
        vectors.append(torch.cat([ys[-1] for ys, _ in both]))
    ys = nets["tagger"](torch.stack(vectors))[0].numpy()
    return float(np.abs(pipe.probabilities(words) - ys).max())


def agreement(subject: Subject) -> str:
    """Return how far the engine is from PyTorch, in words."""
    found = list(watch(islice(differences(subject), NUM_ITEMS), "PyTorch"))
    if not found or not max(found) <= 1e-4:
        raise ValueError(f"{subject.name} differs from PyTorch by {max(found, default=np.nan)}")
    return (
        f"In float32 the answers to {len(found)} items of the test part differ from PyTorch's by "
        f"{max(found):.1e} at most."
    )
