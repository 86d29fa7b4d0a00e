"""Elementwise functions on vectors of 16, and softmax over a run of floats.

A NaN stays a NaN. Errors are tested over every exponent of float32
(`tests/kernels/test_activations.py`).
"""

import numpy as np

from numlstm.kernels.plan import LANES, Function
from numlstm.kernels.simd import (
    at_least,
    at_most,
    exponent,
    first_lanes,
    fma,
    jit,
    load,
    magnitude,
    max_lanes,
    power_of_two,
    splat,
    square_root,
    store,
    sum_lanes,
    times_power_of_two,
    where_greater,
)

_F = np.float32

# tanh(x) = x P(x^2) / Q(x^2) on [-7.9, 7.9]: a fit of our own, of least largest relative error
# (iteratively reweighted least squares), whose error in exact arithmetic is 5.7e-9. At 7.9 tanh is
# 1 - 2.8e-7, so beyond it the argument is clamped. |tanh| never exceeds 1.
_TANH_LIMIT = _F(7.9)
_P0, _P1, _P2, _P3, _P4 = (
    _F(c)
    for c in (
        0.9999999943560841,
        0.13450626060009796,
        0.0035789985619445503,
        2.2023354157315263e-05,
        1.542812877910107e-08,
    )
)
_Q0, _Q1, _Q2, _Q3, _Q4 = (
    _F(c)
    for c in (
        1.0,
        0.4678395406256488,
        0.026192262756394143,
        0.0003423661294339093,
        8.598842768699165e-07,
    )
)

# exp(x) = 2^n exp(r), r in [-ln2/2, ln2/2] with ln2 in two parts (Cody, Waite 1980), exp(r) by its
# Taylor series to r^7, whose rest is below 6e-9. Adding 1.5 * 2^23 rounds to a whole number.
_LOG2_E = _F(1.4426950408889634)
_LOG2_E_REST = _F(1.4426950408889634 - float(_LOG2_E))
_LN2_HIGH = _F(0.693359375)
_LN2_LOW = _F(-2.12194440054690583e-4)
_ROUNDER = _F(12582912.0)

# 2^r = 1 + e1 r + ... + e6 r^6 on [-1/2, 1/2]: a fit as above, of largest relative error 2.0e-9.
_E1, _E2, _E3, _E4, _E5, _E6 = (
    _F(c)
    for c in (
        0.6931472028550831,
        0.24022647913626535,
        0.055503324710995075,
        0.009618437357807288,
        0.0013398874422502483,
        0.00015353361893921322,
    )
)
_EXP_LOW = _F(-104.0)  # exp is 0 below
_EXP_HIGH = _F(89.0)  # exp is inf above
_SIGMOID_LIMIT = _F(87.0)  # keeps 2^n normal
_HALF = _F(0.5)
_ONE = _F(1.0)
_ZERO = _F(0.0)
_MINUS_INF = _F(-np.inf)
_1_6, _1_24, _1_120, _1_720, _1_5040 = (_F(1 / n) for n in (6, 24, 120, 720, 5040))

# log(1 + f) = f - f^2 / 2 + f^3 P(f) on [sqrt(1/2) - 1, sqrt(2) - 1]: a fit as above, of least
# largest error relative to log(1 + f), 7.5e-10.
_LOGS = tuple(
    _F(c)
    for c in (
        0.33333312603254,
        -0.2500000959863226,
        0.2000211871925067,
        -0.16667995952257159,
        0.14219551111963066,
        -0.12405586151094636,
        0.11888169267090097,
        -0.11675673057404083,
        0.06746650966801995,
    )
)
# exp(a^2 / 2) times the share of a normal distribution beyond a, on [0, 14]: t (r0 + ... + r8 t^8)
# of t = 1 / (1 + 0.21 a): a fit as above, of largest relative error 1.6e-8.
_TAIL_STEP = _F(0.21)
_TAILS = tuple(
    _F(c)
    for c in (
        0.08371157372533918,
        0.08506884507784937,
        0.06919223118270122,
        0.12487251807559069,
        -0.09392482313663399,
        0.34940062330642796,
        -0.3302532132636558,
        0.28358857499216655,
        -0.07165632320875313,
    )
)
_TAIL_LIMIT = _F(15.0)  # where exp(-a^2 / 2) is 0

# erf(x) = x (s0 + ... + s5 x^10) on [-0.75, 0.75]: a fit as above, of largest relative error
# 1.4e-9.
_ERF_SMALL = _F(0.75)
_ERFS = tuple(
    _F(c)
    for c in (
        1.1283791655036024,
        -0.37612618782105023,
        0.11283376824973526,
        -0.026834634663261647,
        0.005114363339337973,
        -0.0006749627261629736,
    )
)
_SQRT_2 = _F(np.sqrt(2.0))
_GELU_SCALE = _F(2 * np.sqrt(2 / np.pi))
_GELU_CUBE = _F(0.044715)
_LOG_LN2_HIGH = _F(0.693359375)
_LOG_LN2_LOW = _F(-2.12194440054690583e-4)
_LARGEST = _F(np.finfo(np.float32).max)
_LARGEST_DENORMAL = np.nextafter(np.finfo(np.float32).tiny, _F(0.0))
_TWO = _F(2.0)
_NAN = _F(np.nan)


@jit
def tanh(x):
    """Return tanh(x), within 3e-7 absolute and 4 units in the last place below 0.5."""
    x = at_most(at_least(x, splat(-_TANH_LIMIT)), splat(_TANH_LIMIT))
    y = x * x
    p = fma(y, splat(_P4), splat(_P3))
    q = fma(y, splat(_Q4), splat(_Q3))
    p = fma(y, p, splat(_P2))
    q = fma(y, q, splat(_Q2))
    p = fma(y, p, splat(_P1))
    q = fma(y, q, splat(_Q1))
    p = fma(y, p, splat(_P0))
    q = fma(y, q, splat(_Q0))
    return x * p / q


@jit
def relu(x):
    """Return max(x, 0)."""
    return at_least(x, splat(_ZERO))


@jit
def exp(x):
    """Return exp(x), within 1.05 units in the last place; 0 below -104, inf above 89."""
    x = at_most(at_least(x, splat(_EXP_LOW)), splat(_EXP_HIGH))
    rounder = splat(_ROUNDER)
    n = fma(x, splat(_LOG2_E), rounder) - rounder
    r = fma(n, splat(-_LN2_HIGH), x)
    r = fma(n, splat(-_LN2_LOW), r)
    e = fma(r, splat(_1_5040), splat(_1_720))
    e = fma(r, e, splat(_1_120))
    e = fma(r, e, splat(_1_24))
    e = fma(r, e, splat(_1_6))
    e = fma(r, e, splat(_HALF))
    e = fma(r * r, e, r)
    e = e + splat(_ONE)
    # 2^n may be outside float32 where exp(x) is inside, so it is applied in two halves.
    half = fma(n, splat(_HALF), rounder) - rounder
    return e * power_of_two(half) * power_of_two(n - half)


@jit
def sigmoid(x):
    """Return 1 / (1 + exp(-x)), within 1e-7 absolute; beyond -87 and 87 as there.

    Not tanh(x / 2) / 2 + 1/2: its error of 1e-7 at 1 makes a forget gate leak. Nor by `exp`: a
    step waits for three of these, and this one takes half of the time.
    """
    x = at_most(at_least(x, splat(-_SIGMOID_LIMIT)), splat(_SIGMOID_LIMIT))
    # exp(-x) = 2^(n + r), n whole, r in [-1/2, 1/2].
    rounder, one = splat(_ROUNDER), splat(_ONE)
    t = fma(x, splat(-_LOG2_E), rounder)
    r = fma(x, splat(-_LOG2_E), rounder - t)
    r = fma(x, splat(-_LOG2_E_REST), r)
    square = r * r
    e = fma(square, splat(_E6), fma(r, splat(_E5), splat(_E4)))
    e = fma(square, e, fma(r, splat(_E3), splat(_E2)))
    e = fma(square, e, fma(r, splat(_E1), one))
    # x - x is 0, or keeps a NaN.
    return one / (times_power_of_two(e, t) + (one + (x - x)))


@jit
def log(x):
    """Return log(x), within 1 unit in the last place; -inf of 0 and denormals, NaN below."""
    n = exponent(x)
    f = times_power_of_two(x, splat(_ROUNDER) - n) - splat(_ONE)
    square = f * f
    p = splat(_LOGS[8])
    p = fma(p, f, splat(_LOGS[7]))
    p = fma(p, f, splat(_LOGS[6]))
    p = fma(p, f, splat(_LOGS[5]))
    p = fma(p, f, splat(_LOGS[4]))
    p = fma(p, f, splat(_LOGS[3]))
    p = fma(p, f, splat(_LOGS[2]))
    p = fma(p, f, splat(_LOGS[1]))
    p = fma(p, f, splat(_LOGS[0]))
    y = fma(f * square, p, n * splat(_LOG_LN2_LOW))
    y = fma(square, splat(-_HALF), y)
    y = fma(n, splat(_LOG_LN2_HIGH), f + y)
    y = where_greater(x, splat(_LARGEST), x, y)
    below = where_greater(splat(_ZERO), x, splat(_NAN), splat(_MINUS_INF) + (x - x))
    return where_greater(x, splat(_LARGEST_DENORMAL), y, below)


@jit
def affine(x, alpha, beta):
    """Return alpha * x + beta."""
    return fma(x, splat(alpha), splat(beta))


@jit
def leaky_relu(x, alpha):
    """Return x where it is positive, else alpha * x."""
    zero = splat(_ZERO)
    return at_least(x, zero) + splat(alpha) * at_most(x, zero)


@jit
def thresholded_relu(x, alpha):
    """Return x where it is larger than alpha, else 0."""
    return where_greater(x, splat(alpha), x, x * splat(_ZERO))


@jit
def scaled_tanh(x, alpha, beta):
    """Return alpha * tanh(beta * x)."""
    return splat(alpha) * tanh(splat(beta) * x)


@jit
def clip(x, low, high):
    """Return min(max(x, low), high)."""
    return at_most(at_least(x, splat(low)), splat(high))


@jit
def hard_sigmoid(x, alpha, beta):
    """Return alpha * x + beta, bounded to [0, 1]."""
    return clip(affine(x, alpha, beta), _ZERO, _ONE)


@jit
def elu(x, alpha):
    """Return x where it is positive, else alpha * (exp(x) - 1)."""
    zero = splat(_ZERO)
    return at_least(x, zero) + splat(alpha) * (exp(at_most(x, zero)) - splat(_ONE))


@jit
def selu(x, alpha, beta):
    """Return beta * elu(x, alpha); Klambauer et al. 2017."""
    return splat(beta) * elu(x, alpha)


@jit
def softsign(x):
    """Return x / (1 + |x|)."""
    return x / (splat(_ONE) + at_least(x, splat(_ZERO) - x))


@jit
def softplus(x):
    """Return log(1 + exp(x)), within 2e-7 absolute."""
    magnitude = at_least(x, splat(_ZERO) - x)
    return at_least(x, splat(_ZERO)) + log(splat(_ONE) + exp(splat(_ZERO) - magnitude))


@jit
def silu(x):
    """Return x * sigmoid(x); as at -87 below, where it is -1e-36."""
    return at_least(x, splat(-_SIGMOID_LIMIT)) * sigmoid(x)


@jit
def square(x):
    """Return x * x."""
    return x * x


@jit
def linear_sigmoid(x):
    """Return x + 1/2 where it is positive, else sigmoid(x); Feng et al. 2024."""
    zero = splat(_ZERO)
    return at_least(x, zero) + sigmoid(at_most(x, zero))


@jit
def reciprocal(x):
    """Return 1 / x."""
    return splat(_ONE) / x


@jit
def normal_tail(a):
    """Return the share of a normal distribution beyond a >= 0, within 3e-8 absolute."""
    t = splat(_ONE) / fma(a, splat(_TAIL_STEP), splat(_ONE))
    p = splat(_TAILS[8])
    p = fma(p, t, splat(_TAILS[7]))
    p = fma(p, t, splat(_TAILS[6]))
    p = fma(p, t, splat(_TAILS[5]))
    p = fma(p, t, splat(_TAILS[4]))
    p = fma(p, t, splat(_TAILS[3]))
    p = fma(p, t, splat(_TAILS[2]))
    p = fma(p, t, splat(_TAILS[1]))
    p = fma(p, t, splat(_TAILS[0]))
    return p * t * exp(a * a * splat(-_HALF))


@jit
def gelu(x):
    """Return x (1 + erf(x / sqrt(2))) / 2, within 1e-7 (1 + |x|)."""
    a = at_most(magnitude(x), splat(_TAIL_LIMIT))
    return at_least(x, splat(_ZERO)) - a * normal_tail(a)


@jit
def gelu_tanh(x):
    """Return x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, by the sigmoid of twice that."""
    bounded = at_most(at_least(x, splat(-_TAIL_LIMIT)), splat(_TAIL_LIMIT))
    cube = fma(bounded * bounded, bounded * splat(_GELU_CUBE), bounded)
    return at_least(x, splat(-_TAIL_LIMIT)) * sigmoid(cube * splat(_GELU_SCALE))


@jit
def erf(x):
    """Return erf(x), within 4 units in the last place."""
    square = x * x
    p = fma(square, splat(_ERFS[5]), splat(_ERFS[4]))
    p = fma(square, p, splat(_ERFS[3]))
    p = fma(square, p, splat(_ERFS[2]))
    p = fma(square, p, splat(_ERFS[1]))
    p = fma(square, p, splat(_ERFS[0]))
    a = magnitude(x)
    y = fma(normal_tail(at_most(a * splat(_SQRT_2), splat(_TAIL_LIMIT))), splat(-_TWO), splat(_ONE))
    y = where_greater(splat(_ZERO), x, splat(_ZERO) - y, y)
    return where_greater(a, splat(_ERF_SMALL), y, x * p)


@jit
def activate(function, alpha, beta, a, at, size):
    """Apply an elementwise function in place.

    function      a `Function`
    alpha, beta   its parameters, float32, where it has any
    a             [at, at + size), float32; rounded up to 16 lanes
    """
    if function == Function.TANH:
        for j in range(at, at + size, LANES):
            store(a, j, tanh(load(a, j)))
    elif function == Function.SIGMOID:
        for j in range(at, at + size, LANES):
            store(a, j, sigmoid(load(a, j)))
    elif function == Function.RELU:
        for j in range(at, at + size, LANES):
            store(a, j, relu(load(a, j)))
    elif function == Function.AFFINE:
        for j in range(at, at + size, LANES):
            store(a, j, affine(load(a, j), alpha, beta))
    elif function == Function.LEAKY_RELU:
        for j in range(at, at + size, LANES):
            store(a, j, leaky_relu(load(a, j), alpha))
    elif function == Function.THRESHOLDED_RELU:
        for j in range(at, at + size, LANES):
            store(a, j, thresholded_relu(load(a, j), alpha))
    elif function == Function.SCALED_TANH:
        for j in range(at, at + size, LANES):
            store(a, j, scaled_tanh(load(a, j), alpha, beta))
    elif function == Function.HARD_SIGMOID:
        for j in range(at, at + size, LANES):
            store(a, j, hard_sigmoid(load(a, j), alpha, beta))
    elif function == Function.ELU:
        for j in range(at, at + size, LANES):
            store(a, j, elu(load(a, j), alpha))
    elif function == Function.SELU:
        for j in range(at, at + size, LANES):
            store(a, j, selu(load(a, j), alpha, beta))
    elif function == Function.SOFTSIGN:
        for j in range(at, at + size, LANES):
            store(a, j, softsign(load(a, j)))
    elif function == Function.SOFTPLUS:
        for j in range(at, at + size, LANES):
            store(a, j, softplus(load(a, j)))
    elif function == Function.SILU:
        for j in range(at, at + size, LANES):
            store(a, j, silu(load(a, j)))
    elif function == Function.CLIP:
        for j in range(at, at + size, LANES):
            store(a, j, clip(load(a, j), alpha, beta))
    elif function == Function.EXP:
        for j in range(at, at + size, LANES):
            store(a, j, exp(load(a, j)))
    elif function == Function.LOG:
        for j in range(at, at + size, LANES):
            store(a, j, log(load(a, j)))
    elif function == Function.SQRT:
        for j in range(at, at + size, LANES):
            store(a, j, square_root(load(a, j)))
    elif function == Function.SQUARE:
        for j in range(at, at + size, LANES):
            store(a, j, square(load(a, j)))
    elif function == Function.LINEAR_SIGMOID:
        for j in range(at, at + size, LANES):
            store(a, j, linear_sigmoid(load(a, j)))
    elif function == Function.ABS:
        for j in range(at, at + size, LANES):
            store(a, j, magnitude(load(a, j)))
    elif function == Function.RECIPROCAL:
        for j in range(at, at + size, LANES):
            store(a, j, reciprocal(load(a, j)))
    elif function == Function.GELU:
        for j in range(at, at + size, LANES):
            store(a, j, gelu(load(a, j)))
    elif function == Function.GELU_TANH:
        for j in range(at, at + size, LANES):
            store(a, j, gelu_tanh(load(a, j)))
    elif function == Function.ERF:
        for j in range(at, at + size, LANES):
            store(a, j, erf(load(a, j)))


@jit
def _largest(a, at, size):
    """Return the largest of a run of floats, in every lane."""
    lowest = splat(_MINUS_INF)
    top = lowest
    for j in range(0, size, LANES):
        top = at_least(first_lanes(load(a, at + j), size - j, lowest), top)
    return splat(max_lanes(top))


@jit
def softmax(a, at, size):
    """Replace a run of floats by its softmax, ``exp(x - max x) / sum(exp(x - max x))``.

    a   [at, at + size), float32; the lanes that round it up to 16 become 0 (NaN if the rest is)
    """
    top = _largest(a, at, size)
    total = splat(_ZERO)
    for j in range(0, size, LANES):
        e = first_lanes(exp(load(a, at + j) - top), size - j, splat(_ZERO))
        store(a, at + j, e)
        total = total + e
    total = splat(sum_lanes(total))
    for j in range(0, size, LANES):
        store(a, at + j, load(a, at + j) / total)


@jit
def log_softmax(a, at, size):
    """Replace a run of floats by ``x - max x - log(sum(exp(x - max x)))``, as `softmax` does."""
    top = _largest(a, at, size)
    total = splat(_ZERO)
    for j in range(0, size, LANES):
        x = load(a, at + j) - top
        store(a, at + j, x)
        total = total + first_lanes(exp(x), size - j, splat(_ZERO))
    shift = log(splat(sum_lanes(total)))
    for j in range(0, size, LANES):
        store(a, at + j, load(a, at + j) - shift)
