"""The names of a state dict: where the modules of a description are among them, and what is like.

Training wraps a module in others, which put their names before all of its own ("module.",
"model."), and before those of its parts ("_orig_mod.").
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from numlstm.budget import spend
from numlstm.cached import cached_property
from numlstm.convert.assembly import Refused
from numlstm.errors import first_of

# What DataParallel, torch.compile, FSDP and checkpointing of activations put into names.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}

_DEEPEST = 40  # modules within modules
_LONGEST = 200  # characters of a name that may be meant by another

_TRAINING = {
    "accuracy", "criteria", "criterion", "loss", "losses", "metric", "metrics", "optim",
    "optimizer", "optimizers", "scheduler", "schedulers", "sched",
    "bceloss", "celoss", "lossfn", "mseloss", "nllloss",
}  # fmt: skip
_WEIGHTS_OF_LOSS = {"class_weight", "class_weights", "loss_weight", "loss_weights", "pos_weight"}


@dataclass(frozen=True)
class Wanted:
    """The modules that a description names.

    modules     by their names, "" for one whose tensors have no name before theirs
    tied        those of them that may be without tensors
    """

    modules: frozenset[str]
    tied: frozenset[str] = frozenset()

    @property
    def fits(self) -> tuple[Callable[[Collection[str]], bool], ...]:
        """Whether modules are among names: all of them, or all that must have tensors."""
        return tuple(partial(self._are_among, modules) for modules in self.ways)

    @property
    def ways(self) -> tuple[frozenset[str], ...]:
        """All modules, and those that must have tensors."""
        return tuple(filter(None, (self.modules, self.modules - self.tied)))

    def _are_among(self, modules: frozenset[str], names: Collection[str]) -> bool:
        return any(True for _ in _Names(self.unwrapped(names)).all_prefixes(modules))

    def unwrapped(self, names: Iterable[str]) -> dict[str, str]:
        """Return names without wrappers, each with what it was."""
        names = list(names)
        wrappers = _WRAPPERS - {part for module in self.modules for part in module.split(".")}
        found = {_without(wrappers, name): name for name in names}
        return found if len(found) == len(names) else {name: name for name in names}


@dataclass(frozen=True)
class Located:
    """Which names of a state dict are those of the modules.

    prefix    what theirs begin with, "model."
    names     theirs without that, each with what the file calls it
    outside   the others, as the file calls them
    chosen    whether the prefix was given
    """

    prefix: str
    names: dict[str, str]
    outside: tuple[str, ...] = ()
    chosen: bool = False


def locate(names: Collection[str], wanted: Wanted, prefix: str | None = None) -> Located:
    """Return where modules are among names.

    Raises
    ------
    WeightsError
        If they are in several places, or no name begins with the prefix.
    """
    outside: list[str] = []
    found = {name: name for name in names}
    if prefix is not None:
        prefix = _whole_prefix(names, prefix)
        outside = [name for name in names if not name.startswith(prefix)]
        found = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    found = {name: found[before] for name, before in wanted.unwrapped(found).items()}
    if prefix is not None:
        return Located(prefix, found, tuple(outside), chosen=True)
    prefixes = _Names(found).prefixes(wanted)
    if len(prefixes) > 1:
        several = first_of(f'"{prefix}"' for prefix in prefixes)
        what = first_of(sorted(wanted.modules - {""})) or "the tensors"
        raise Refused(
            f"several parts of the state dict have {what}: {several}",
            f'choose one, as prefix="{prefixes[0]}"',
        )
    prefix = prefixes[0] if prefixes else ""
    inside = {n.removeprefix(prefix): full for n, full in found.items() if n.startswith(prefix)}
    others = tuple(full for name, full in found.items() if not name.startswith(prefix))
    return Located(prefix, inside, others)


def _without(wrappers: set[str], name: str) -> str:
    parts = name.split(".")
    return ".".join([part for part in parts[:-1] if part not in wrappers] + parts[-1:])


def _whole_prefix(names: Collection[str], prefix: str) -> str:
    """Return a prefix with its dot."""
    if not prefix:
        return prefix
    dotted = f"{prefix}." if not prefix.endswith(".") else prefix
    for candidate in (dotted, prefix):
        if any(name.startswith(candidate) for name in names):
            return candidate
    begin = first_of(dict.fromkeys(f'"{name.split(".")[0]}"' for name in names))
    raise Refused(f"no name begins with prefix={prefix!r}", f"the names begin with {begin}")


def outer_modules(name: str) -> list[str]:
    """Return the modules that a tensor is in, the outermost first: "a", "a.b" of "a.b.weight"."""
    parts = name.split(".", _DEEPEST)[:-1]
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


class _Names:
    """Names, and what begins them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)

    @cached_property
    def modules(self) -> dict[str, None]:
        """All modules, and what they are in, by their names with a dot before and behind."""
        found: dict[str, None] = {}
        for name in self.names:
            outer = outer_modules(name)
            spend("the names of the file", 100 + sum(map(len, outer)), 1e4 + 100 * len(name))
            found |= dict.fromkeys(f".{module}." for module in outer)
        return found

    @cached_property
    def parents(self) -> dict[str, None]:
        """The modules that have tensors themselves, so spelled; "." is where names have no dot."""
        parents = (name.rpartition(".")[0] for name in self.names)
        return dict.fromkeys(f".{parent}." if parent else "." for parent in parents)

    def prefixes(self, wanted: Wanted) -> list[str]:
        """Return what the names of all modules begin with, or else of all that have tensors."""
        for modules in wanted.ways:
            found = list(self.all_prefixes(modules))
            shortest = min(found, key=len, default="")
            if found:  # what lies within the first is a part of it
                return [shortest] if all(p.startswith(shortest) for p in found) else found
        return []

    def all_prefixes(self, modules: frozenset[str]) -> Iterator[str]:
        """Yield what the names of these modules begin with."""
        first = max(modules, key=len)
        where = self.modules if first else self.parents
        end = f".{first}." if first else "."
        for module in where:
            if module.endswith(end):
                before = module.removesuffix(end) + "."
                if all(self._has(before, other) for other in modules):
                    yield before[1:]

    def _has(self, before: str, module: str) -> bool:
        return f"{before}{module}." in self.modules if module else before in self.parents


# What names are like ------------------------------------------------------------------------------


def is_of_training(name: str) -> bool:
    """Whether a name says that it is of training alone: of a loss, a metric, an optimizer."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    return not _TRAINING.isdisjoint(words) or name.rpartition(".")[2] in _WEIGHTS_OF_LOSS


def like(module: str, names: Iterable[str]) -> list[str]:
    """Return the modules among names that one that is not there may be, the likeliest first."""
    parents = dict.fromkeys(name.rpartition(".")[0] for name in names if "." in name)
    modules = [parent for parent in parents if len(parent) <= _LONGEST][:1000]
    last = module.rpartition(".")[2].lower()
    ends = [
        m for m in modules if last in (m.rpartition(".")[2].lower(), m.partition(".")[0].lower())
    ]
    by_last = {other.rpartition(".")[2].lower(): other for other in reversed(modules)}
    close = difflib.get_close_matches(module[:_LONGEST], modules, 3)
    close += [
        by_last[name] for name in difflib.get_close_matches(last[:_LONGEST], list(by_last), 3)
    ]
    return list(dict.fromkeys([*ends, *close]))[:3]
