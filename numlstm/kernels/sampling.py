"""The choice of the next token from the scores of all, at the end of a step.

The order is that of Hugging Face's generation: repetition penalty, temperature, top-k, top-p,
min-p. A softmax of all scores is not made: those that the top-k leaves out get no exponential, the
sum divides nothing, and a greedy choice needs neither. Nothing is sorted: the k-th largest score
and the edge of the nucleus are found by bisection, and tokens whose scores are equal to it stay.
Every sum has one order, so a seed gives the same tokens on every CPU.

Candidates are tokens that may be chosen: their scores and ids lie together.
"""

import numpy as np

from numlstm.kernels.activations import exp, log
from numlstm.kernels.plan import (
    ARE_PROBABILITIES,
    LANES,
    MIN_P,
    NUM_CHOSEN,
    NUM_SEEN,
    REPETITION_PENALTY,
    SEEN,
    STOP,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    X_AT,
    X_SIZE,
    Y_AT,
    Z_AT,
)
from numlstm.kernels.simd import (
    at_least,
    first_lanes,
    fma,
    jit,
    load,
    max_lanes,
    reinterpret,
    splat,
    store,
    sum_lanes,
    where_greater,
)

_F = np.float32
_ZERO, _ONE, _TWO = _F(0.0), _F(1.0), _F(2.0)
_MINUS_INF, _LOWEST, _LARGEST = _F(-np.inf), _F(-1e30), _F(np.finfo(np.float32).max)


@jit
def sample(op, state, ys, t):
    """Choose a token, write its id to ys[t]; return whether the scores are finite, and if it stops.

    op      X_AT: the scores (V,), or where ARE_PROBABILITIES is 1 probabilities
    state   settings and flags: `plan.NUM_SETTINGS`, `plan.NUM_SAMPLE_ROWS`
    ys      (T,), int32 ids in the bits of float32; where the choice is made by chance, ys[t] holds
            a float32 in [0, 1) that decides it
    """
    size, settings, scores = op[X_SIZE], op[Y_AT], op[Z_AT]
    stride = (size + LANES - 1) // LANES * LANES
    weights, ids, flags = scores + stride, scores + 2 * stride, scores + 3 * stride
    seen = flags + stride
    numbers = reinterpret(state, np.int32)
    if not _read_scores(state, op[X_AT], op[ARE_PROBABILITIES], scores, size):
        return False, False
    penalty = state[settings + REPETITION_PENALTY]
    if penalty != _ONE:
        _penalize(state, penalty, scores, seen, numbers[settings + NUM_SEEN])
    top_k = numbers[settings + TOP_K]
    if state[settings + TEMPERATURE] == _ZERO or top_k == 1:
        choice = _first_from(state, scores, size, _largest(state, scores, size))
    else:
        if top_k < size:
            size = _keep_top(state, scores, weights, ids, size, top_k)
        _weigh(state, settings, scores, weights, size)
        choice = _draw(state, weights, size, ys[t])
        if top_k < op[X_SIZE]:
            choice = np.int64(numbers[ids + choice])
    reinterpret(ys, np.int32)[t] = choice
    flag = numbers[flags + choice]
    if flag & SEEN == 0:
        numbers[flags + choice] = flag | SEEN
        numbers[seen + numbers[settings + NUM_SEEN]] = choice
        numbers[settings + NUM_SEEN] += 1
    numbers[settings + NUM_CHOSEN] += 1
    return True, flag & STOP != 0


@jit
def _read_scores(state, x_at, are_probabilities, scores, size):
    """Copy the scores, the lanes behind them -inf; return whether all are finite."""
    lowest = splat(_MINUS_INF)
    zero = splat(_ZERO)
    products = zero  # x * 0 is 0 for finite x, else NaN
    for j in range(0, size, LANES):
        x = load(state, x_at + j)
        if are_probabilities:
            x = at_least(log(x), splat(_LOWEST))
        products = fma(first_lanes(x, size - j, zero), zero, products)
        store(state, scores + j, first_lanes(x, size - j, lowest))
    return sum_lanes(products) == _ZERO


@jit
def _penalize(state, penalty, scores, seen, num_seen):
    """Lower the scores of tokens that were seen: Keskar et al. 2019 (CTRL). All stay finite."""
    numbers = reinterpret(state, np.int32)
    for n in range(num_seen):
        at = scores + numbers[seen + n]
        score = state[at]
        score = score / penalty if score > _ZERO else score * penalty
        state[at] = min(max(score, -_LARGEST), _LARGEST)


@jit
def _keep_top(state, scores, spare, ids, size, count):
    """Move the ``count`` largest scores, and those equal to the last of them, to the front.

    The largest scores of 16 each are few: the count-th of these is a score that enough have, and
    few beside the wanted ones have more.
    """
    num_sixteens = (size + LANES - 1) // LANES
    for n in range(num_sixteens):
        state[spare + n] = max_lanes(load(state, scores + n * LANES))
    edge = _MINUS_INF
    if num_sixteens > count:
        _fill_up(state, spare, num_sixteens)
        edge = _edge(state, spare, spare, num_sixteens, _F(count), False)
    size = _move_up(state, scores, spare, ids, size, edge, False)
    edge = _edge(state, scores, scores, size, _F(count), False)
    return _move_up(state, scores, spare, ids, size, edge, True)


@jit
def _move_up(state, scores, spare, ids, size, edge, have_ids):
    """Move the candidates that score ``edge`` or more to the front; return their number.

    spare   where there are no ids yet, the largest score of every 16
    """
    numbers = reinterpret(state, np.int32)
    count = 0
    for j in range(0, size, LANES):
        if have_ids or state[spare + j // LANES] >= edge:
            for n in range(j, min(j + LANES, size)):
                if state[scores + n] >= edge:
                    numbers[ids + count] = numbers[ids + n] if have_ids else n
                    state[scores + count] = state[scores + n]
                    count += 1
    _fill_up(state, scores, count)
    return count


@jit
def _fill_up(a, at, size):
    """Make the lanes behind a run of floats -inf."""
    for n in range(size, (size + LANES - 1) // LANES * LANES):
        a[at + n] = _MINUS_INF


@jit
def _weigh(state, settings, scores, weights, size):
    """Write exp(score / temperature), of the largest score 1, and 0 for tokens that are out."""
    zero = splat(_ZERO)
    temperature = splat(state[settings + TEMPERATURE])
    top = splat(_largest(state, scores, size))
    for j in range(0, size, LANES):
        x = at_least((load(state, scores + j) - top) / temperature, splat(_LOWEST))
        store(state, scores + j, first_lanes(x, size - j, splat(_MINUS_INF)))
        store(state, weights + j, first_lanes(exp(x), size - j, zero))
    edge = _LOWEST
    if state[settings + TOP_P] < _ONE:
        total = _sum_from(state, scores, weights, size, _LOWEST, True)
        edge = _edge(state, scores, weights, size, total * state[settings + TOP_P], True)
    least = splat(state[settings + MIN_P])
    for j in range(0, size, LANES):
        x, w = load(state, scores + j), load(state, weights + j)
        w = where_greater(splat(edge), x, zero, w)
        store(state, weights + j, where_greater(least, w, zero, w))


@jit
def _edge(state, scores, weights, size, wanted, weighted):
    """Return the largest number for which the tokens that score it or more have what is wanted.

    wanted     their number, or their weight
    """
    low, high = _smallest(state, scores, size), _largest(state, scores, size)
    if _sum_from(state, scores, weights, size, high, weighted) >= wanted:
        return high
    while True:
        middle = low / _TWO + high / _TWO
        if not (low < middle and middle < high):  # they are neighbours
            return low
        found = _sum_from(state, scores, weights, size, middle, weighted)
        if found >= wanted:
            low = middle
            if found == wanted:
                return low
        else:
            high = middle


@jit
def _sum_from(state, scores, weights, size, edge, weighted):
    """Return the weight, or the number, of tokens that score ``edge`` or more."""
    zero, one = splat(_ZERO), splat(_ONE)
    total = zero
    for j in range(0, size, LANES):
        each = load(state, weights + j) if weighted else one
        total = total + where_greater(splat(edge), load(state, scores + j), zero, each)
    return sum_lanes(total)


@jit
def _largest(a, at, size):
    top = splat(_MINUS_INF)
    for j in range(0, size, LANES):
        top = at_least(load(a, at + j), top)
    return max_lanes(top)


@jit
def _smallest(a, at, size):
    zero = splat(_ZERO)
    top = splat(_MINUS_INF)
    for j in range(0, size, LANES):
        top = at_least(first_lanes(zero - load(a, at + j), size - j, top), top)
    return -max_lanes(top)


@jit
def _first_from(a, at, size, low):
    """Return the place of the first of a run of floats that is ``low`` or more."""
    for j in range(0, size, LANES):
        if max_lanes(load(a, at + j)) >= low:
            for n in range(j, min(j + LANES, size)):
                if a[at + n] >= low:
                    return n
    return 0


@jit
def _draw(state, weights, size, chance):
    """Return a token with a probability in proportion to its weight; chance is in [0, 1)."""
    total = splat(_ZERO)
    for j in range(0, size, LANES):
        total = total + load(state, weights + j)
    rest = sum_lanes(total) * chance
    at = 0
    for j in range(0, size, LANES):
        here = sum_lanes(load(state, weights + j))
        if here > _ZERO:
            at = j
            if rest < here:
                break
            rest -= here
    choice = at
    for n in range(at, min(at + LANES, size)):
        weight = state[weights + n]
        if weight > _ZERO:
            choice = n  # the last one, if rounding leaves a rest
            if rest < weight:
                break
            rest -= weight
    return choice
