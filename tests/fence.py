"""Arrays beside pages that nobody may touch: what reads or writes beyond ends the process.

It is the address sanitizer of compiled kernels, which have no other.
"""

import ctypes
import faulthandler
import mmap
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

from numlstm.kernels import addresses
from numlstm.program import builder, lower
from numlstm.run import compiled, pool

_NONE, _READ = 0, 1


class _Pages:
    """Anonymous pages; the first and the last cannot be touched."""

    def __init__(self, num_bytes: int) -> None:
        self.size = -(-max(num_bytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        self.map = mmap.mmap(-1, self.size + 2 * mmap.PAGESIZE)
        whole = np.frombuffer(self.map, np.uint8)
        self._at = whole.ctypes.data
        for at in (0, mmap.PAGESIZE + self.size):
            self._protect(at, mmap.PAGESIZE, _NONE)
        self.inside = whole[mmap.PAGESIZE : mmap.PAGESIZE + self.size]

    def _protect(self, at: int, num_bytes: int, how: int) -> None:
        place = ctypes.c_void_p(self._at + at)
        if ctypes.CDLL(None).mprotect(place, ctypes.c_size_t(num_bytes), how):
            raise OSError("mprotect failed")

    def make_read_only(self) -> None:
        self._protect(mmap.PAGESIZE, self.size, _READ)


def fenced(
    shape: int | tuple[int, ...], dtype: DTypeLike = np.float32, at_end: bool = True
) -> NDArray[Any]:
    """Return an array of zeros that ends, or begins, where pages begin that cannot be touched."""
    num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    inside = _Pages(num_bytes).inside
    part = inside[len(inside) - num_bytes :] if at_end else inside[:num_bytes]
    return part.view(dtype).reshape(shape)


def read_only(values: NDArray[Any], at_end: bool = True) -> NDArray[Any]:
    """Return a copy that ends, or begins, beside such pages, and is not writeable itself."""
    pages = _Pages(values.nbytes)
    part = pages.inside[pages.size - values.nbytes :] if at_end else pages.inside[: values.nbytes]
    copy = part.view(values.dtype).reshape(values.shape)
    copy[...] = values
    pages.make_read_only()
    copy.flags.writeable = False
    return copy


class Strip:
    """Room that is used again and again for an array beside such pages."""

    def __init__(self, at_end: bool) -> None:
        self._at_end, self._room = at_end, _Pages(0).inside

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array, not initialised; it is lost when the next is asked for."""
        num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if num_bytes > len(self._room):
            self._room = _Pages(2 * num_bytes).inside
        room = self._room
        part = room[len(room) - num_bytes :] if self._at_end else room[:num_bytes]
        return part.view(dtype).reshape(shape)


@contextmanager
def fences(at_end: bool) -> Iterator[None]:
    """Put the params and states of all that is built, and xs and ys of each call, beside fences."""
    strips = {name: Strip(at_end) for name in ("x", "y", "both")}

    def aligned(size: int) -> NDArray[np.float32]:
        return fenced(size, at_end=at_end)

    def beside(name: str, array: NDArray[Any]) -> NDArray[Any]:
        copy = strips[name].array(array.shape, array.dtype)
        copy[...] = array
        return copy

    def guard(run: Callable[..., int]) -> Callable[..., int]:
        def guarded(plan: Any, params: Any, state: Any, xs: Any, ys: Any) -> int:
            are_arrays = type(xs) is np.ndarray and type(ys) is np.ndarray
            if not are_arrays or not ys.flags.carray or not xs.flags.c_contiguous:
                return run(plan, params, state, xs, ys)
            if not np.may_share_memory(xs, ys):
                x, y = beside("x", xs), beside("y", ys)
            else:  # each id that is chosen is the next input
                assert addresses.address(ys) - addresses.address(xs) == 4
                both = strips["both"].array((len(xs) + 1,), np.int32)
                x, y = both[:-1], both[1:].view(np.float32)
                x[...], y[-1] = xs, ys[-1]
                y[:-1] = ys[:-1]
            status = run(plan, params, state, x, y)
            ys[...] = y
            return status

        return guarded

    whole, run = builder.Params.whole, compiled.Compiled.run.func

    def fenced_run(self: compiled.Compiled) -> Callable[..., int]:
        return guard(run(self))

    with pytest.MonkeyPatch.context() as patch:
        for module in (lower, compiled, pool):
            patch.setattr(module, "aligned", aligned)
        patch.setattr(builder.Params, "whole", lambda self: read_only(whole(self), at_end))
        patch.setattr(compiled.Compiled, "run", property(fenced_run))
        yield


def in_child(work: Callable[[], None], seconds: int = 600) -> int:
    """Do work in a forked process; return its exit status, negative for a signal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of BLAS, which do nothing
        child = os.fork()
    if child == 0:
        status = 1
        try:
            faulthandler.disable()  # whoever waits tells what it was
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(seconds)
            work()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
