"""What of a state dict no layer takes: it is left out where that is safe or wished, else refused.

Safe is what its name says to be of training (a loss, a metric, an optimizer), unless it looks like
a layer of the network, and what counts steps. A layer that was forgotten is never left out so.
"""

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch

from numlstm.cached import cached_property
from numlstm.convert.assembly import Refusals
from numlstm.convert.likely import Shapes, by_module, likely_kind
from numlstm.convert.torch.names import Located, is_of_training, outer_modules
from numlstm.errors import first_of

_MOST = 12  # modules that are listed
_NORM = re.compile(r"norm|(^|[._])(bn|ln|rms)\d*[._]")  # of a layer, though it may have one tensor


def patterns_of(ignore: str | Iterable[str]) -> tuple[str, ...]:
    """Return patterns of names, which may be given in one text, between commas.

    Raises
    ------
    TypeError
        If they are no texts.
    """
    texts = [ignore] if isinstance(ignore, str) else list(ignore)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("ignore has what is no str, expected patterns of names")
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())


def say(text: str) -> None:
    """Say what was found or left out: to the log, which the command prints."""
    logging.getLogger("numlstm").info("%s", text)


@dataclass
class Leftover:
    """What no layer takes, by the names that the file has for it.

    tensors    all tensors of the state dict
    located    where the layers are in it
    ignore     patterns of what to leave out
    owned      whether what is left of a module must be refused; without it all is
    """

    tensors: Mapping[str, torch.Tensor]
    located: Located
    ignore: tuple[str, ...] = ()
    layers: str = "layer of the description"
    owned: Callable[[str], bool] | None = None
    taken: set[str] = field(default_factory=set)

    def settle(self, refusals: Refusals) -> None:
        """Leave out what may be, and refuse the rest."""
        outside = set(self.located.outside)
        beyond, ignored, training, others, refused = [], [], [], [], []
        ours = {full: name for name, full in self.located.names.items()}
        for name, tensor in self.tensors.items():
            if name in self.taken:
                continue
            if name in outside and self.located.chosen:
                beyond.append(name)
            elif self._is_ignored(name, ours.get(name, name)):
                ignored.append(name)
            elif _is_count(tensor) or self._is_of_training(name):
                training.append(name)
            elif self.owned is not None and not self.owned(ours.get(name, "")):
                others.append(name)
            else:
                refused.append(name)
        self._check_patterns(refusals, ours)
        self._refuse(refusals, refused, ours)
        if refusals:
            return
        _said(f"other names than {self.located.prefix}", beyond)
        _said("by ignore", ignored)
        _said("of training as the names say, or a count", training)
        _said("of no layer of the network", others)

    def _is_of_training(self, name: str) -> bool:
        """Whether a tensor is of training by its name, and of no layer by what is beside it."""
        if not is_of_training(name):
            return False
        module, _, last = name.rpartition(".")
        beside = self._shapes_by_module.get(module, {})
        is_matrix = last.startswith("weight") and len(beside[last]) > 1
        return not (is_matrix or likely_kind(module, beside) or _NORM.search(name.lower()))

    @cached_property
    def _shapes_by_module(self) -> dict[str, dict[str, tuple[int, ...]]]:
        return by_module({name: tensor.shape for name, tensor in self.tensors.items()})

    def _is_ignored(self, *names: str) -> bool:
        return any(_matches(pattern, *names) for pattern in self.ignore)

    def _check_patterns(self, refusals: Refusals, ours: Mapping[str, str]) -> None:
        """Refuse a pattern that is of tensors of layers and of no others."""
        for pattern in self.ignore:
            found = [n for n in self.tensors if _matches(pattern, n, ours.get(n, n))]
            if found and self.taken.issuperset(found):
                refusals.add(
                    f'ignore="{pattern}"', f"is of {first_of(found)}, which a {self.layers} takes"
                )

    def _refuse(self, refusals: Refusals, names: Collection[str], ours: Mapping[str, str]) -> None:
        modules = by_module({name: self.tensors[name].shape for name in names})
        fits = not refusals  # what is not found elsewhere may be meant by a word that does not fit
        for module, own in list(modules.items())[:_MOST]:
            inside = ours.get(f"{module}.{next(iter(own))}", "").rpartition(".")[0] or module
            shapes = [f"{name} {shape}" if module else str(shape) for name, shape in own.items()]
            refusals.add(
                module or first_of(own),
                f"{first_of(shapes)} belongs to no {self.layers}",
                self._instead(module, inside, own) if fits else "",
            )
        if len(modules) > _MOST:
            refusals.add(
                f"and {len(modules) - _MOST:,} modules more", f"belong to no {self.layers}"
            )
        if len(modules) > 1 and fits:
            patterns = dict.fromkeys(self._short(module, own) for module, own in modules.items())
            every = ",".join(patterns)
            refusals.add("to leave out all of that", f'ignore="{every}" (--ignore "{every}")')

    @cached_property
    def _owners(self) -> set[str]:
        """The modules that have tensors of a layer, and what they are in, once all are taken."""
        return {outer for name in self.taken for outer in outer_modules(name)}

    def _instead(self, module: str, inside: str, own: Shapes) -> str:
        kind = likely_kind(module, own) if self.owned is None else ""
        describe = f"describe it, as {inside}:{kind}, or " if kind and inside else ""
        pattern = self._pattern(module, own)
        return f'{describe}leave it out: ignore="{pattern}" (--ignore "{pattern}")'

    def _pattern(self, module: str, own: Iterable[str]) -> str:
        """Return what matches these tensors and none that is taken."""
        if module and module not in self._owners:
            return f"{_literal(module)}.*"
        return ",".join(_literal(f"{module}.{name}" if module else name) for name in own)

    def _short(self, module: str, own: Iterable[str]) -> str:
        """Return a pattern of the outermost module with these tensors and none that is taken."""
        outer = next((o for o in outer_modules(f"{module}.") if o and o not in self._owners), None)
        return self._pattern(module, own) if outer is None else f"{_literal(outer)}.*"


def _said(why: str, names: Collection[str]) -> None:
    if names:
        say(f"left out, {why}: {first_of(names)}")


def _matches(pattern: str, *names: str) -> bool:
    """Whether a pattern is of a tensor with these names, or of a module that it is in."""
    return any(fnmatchcase(name, p) for name in names for p in (pattern, f"{pattern}.*"))


def _literal(name: str) -> str:
    """Return the pattern of one name."""
    return re.sub(r"[*?[,\"]", "?", name)


def _is_count(tensor: torch.Tensor) -> bool:
    return tensor.dim() == 0 and not tensor.is_floating_point()
