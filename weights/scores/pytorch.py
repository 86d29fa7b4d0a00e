"""The bundled networks in PyTorch, and how far the engine is from it on the test parts."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

import numlstm
from numlstm import layers
from numlstm.audio.features import LogMel
from numlstm.text.chat import BOT, encode_history
from numlstm.text.encoding import encode
from numlstm.text.sentences import split_sentences
from numlstm.text.seq2seq import EncoderDecoder
from numlstm.text.summarize import MAX_TOKENS_SUMMARIZE, SUMMARY, Extractor, encode_sentence
from numlstm.text.tag import Tagger
from weights.recipes import abstracts, dialogues, speech_data
from weights.scores import classification, language, tagging
from weights.scores.card import Subject, watch

NUM_ITEMS = 200
NUM_TOKENS = 100  # of a piece of the text of a language model

Floats = NDArray[np.float32]


class TorchNetwork(nn.Module):
    """A network of numlstm as modules and functions of PyTorch: the layers that are bundled."""

    def __init__(self, weights: numlstm.Weights) -> None:
        super().__init__()
        self.network = weights.network
        self.tensors = {name: torch.from_numpy(t.copy()) for name, t in weights.tensors.items()}
        self.recurrent = {
            prefix: self._lstm(prefix, layer)
            for prefix, layer in self.network.named_layers()
            if isinstance(layer, numlstm.LSTM)
        }

    def _lstm(self, prefix: str, layer: numlstm.LSTM) -> nn.LSTM:
        lstm = nn.LSTM(
            layer.input_size,
            layer.hidden_size,
            batch_first=True,
            bidirectional=layer.direction == "bidirectional",
        )
        lstm.load_state_dict(
            {
                name: self.tensors[f"{prefix}.{name.replace('_l0', '')}"]
                for name in lstm.state_dict()
            }
        )
        return lstm

    @torch.inference_mode()
    def forward(
        self, xs: torch.Tensor, memory: torch.Tensor | None = None, h: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return ys (T, O) of xs (T,) or (T, I); the first LSTM begins at h."""
        values = {-1: xs}
        for n, (prefix, layer) in enumerate(self.network.named_layers()):
            x = [values[source] for source in self.network.sources(n)]
            values[n] = self._layer(prefix, layer, torch.cat(x, -1), memory, h)
        return values[n]

    def _layer(
        self,
        prefix: str,
        layer: layers.Layer,
        x: torch.Tensor,
        memory: torch.Tensor | None,
        h: torch.Tensor | None,
    ) -> torch.Tensor:
        own = {
            name.removeprefix(f"{prefix}."): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(f"{prefix}.")
        }
        match layer:
            case numlstm.Embedding():
                return F.embedding(x.long(), own["weight"])
            case numlstm.LSTM():
                lstm = self.recurrent[prefix]
                state = None if h is None else (h[None, None], torch.zeros_like(h)[None, None])
                hs, (last, _) = lstm(x[None], state)
                return last.reshape(1, -1) if layer.outputs == "last" else hs[0]
            case numlstm.Linear():
                y = F.linear(x, own["weight"], own.get("bias"))
                return y if layer.activation is None else getattr(torch, layer.activation)(y)
            case numlstm.Pooling(mode="max"):
                if self.network.is_causal:
                    return x.cummax(0).values
                return x.amax(0, keepdim=True)
            case numlstm.BatchNorm():
                mean, var = own["running_mean"], own["running_var"]
                return F.batch_norm(x, mean, var, own.get("weight"), own.get("bias"), eps=layer.eps)
            case numlstm.Attention(score="dot", memory=""):
                assert memory is not None
                return (layer.scale * x @ memory.T).softmax(-1) @ memory
            case numlstm.Softmax():
                return x.softmax(-1)
            case numlstm.LogSoftmax():
                return x.log_softmax(-1)
            case numlstm.Concat():
                return x
        raise TypeError(f"{layer} is in no bundled network")


def difference(
    model: numlstm.Model, net: TorchNetwork, xs: Floats | NDArray[np.int32]
) -> tuple[float, Floats]:
    """Return max |engine - PyTorch| over the answers to a sequence, and those of PyTorch."""
    ys = net(torch.from_numpy(xs)).numpy()
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
            for xs in inputs(subject, pipe):
                yield difference(parts[""], nets[""], xs)[0]


def inputs(subject: Subject, pipe: numlstm.pipelines.Pipeline) -> Iterator[NDArray[np.generic]]:
    """Yield what a network of one part reads of each item."""
    match subject.task:
        case "sentiment" | "email":
            split = next(s for s in classification.SPLITS[subject.name] if s.endswith(".test"))
            for text in classification.read(subject, split)[0]:
                yield np.array(pipe.encoder(text), np.int32)
        case "language-model":
            ids = np.array(pipe.encoder(language.read(subject, "test")), np.int32)
            yield from np.array_split(ids, max(len(ids) // NUM_TOKENS, 1))
        case "speech":
            recordings = speech_data.read(subject.data / "speech_digits", "test")
            spoken = speech_data.singles(recordings)
            for each in spoken + speech_data.strings(recordings, NUM_ITEMS - len(spoken), 0):
                yield LogMel().feed(each.samples)
        case "summarize":
            assert isinstance(pipe, Extractor)
            for paper in abstracts.read(subject.data / "summarization", "test"):
                ids, _ = abstracts.encode_sentences(
                    pipe.model.load_tokenizer(), split_sentences(paper.abstract), 512
                )
                yield np.array(ids, np.int32)


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
            ids = [i for each in sentences for i in encode_sentence(networks.tokenizer, each)]
            tokens = [SUMMARY, *encode(networks.tokenizer, paper.summaries[0])]
            yield np.array(ids[:MAX_TOKENS_SUMMARIZE], np.int32), np.array(tokens, np.int32)


def difference_of_decoder(
    networks: EncoderDecoder,
    nets: dict[str, TorchNetwork],
    ids: NDArray[np.int32],
    tokens: NDArray[np.int32],
) -> float:
    """Return the larger one of the encoder's and the decoder's, each side by itself."""
    largest, rows = difference(networks.encoder, nets["encoder"], ids)
    stream, _ = networks.read(ids)
    half = rows.shape[1] // 2
    causal = networks.encoder.network.is_causal
    h = rows[-1] if causal else np.concatenate([rows[-1, :half], rows[0, half:]])
    memory, first = torch.from_numpy(rows), torch.from_numpy(h)
    ys = nets["decoder"](torch.from_numpy(tokens), memory, first).numpy()
    return max(largest, float(np.abs(stream.run(tokens) - ys).max()))


def difference_of_tags(pipe: Tagger, nets: dict[str, TorchNetwork], words: list[str]) -> float:
    """Return max |engine - PyTorch| over the probabilities of the tags of a sentence."""
    vectors = []
    for word in words:
        token, characters = pipe.ids(word)
        both = nets["words"](torch.tensor([token])), nets["characters"](torch.tensor(characters))
        vectors.append(torch.cat([part[-1] for part in both]))
    ys = nets["tagger"](torch.stack(vectors)).numpy()
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
