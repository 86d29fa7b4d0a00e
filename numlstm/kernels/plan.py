"""The table that tells the walker what to run: one int64 row per operation.

A column holds a kind, a size, or an offset into `params` or `state`. `program/builder.py` fills the
table, `walker.py` and the operations read it. Sizes count floats; those of buffers are multiples of
16. Whatever else compiled code and its callers must agree on stands here as well.

A number that is not finite ends the call, and nothing has changed: `elementwise.finite` looks at
what a stream keeps, at the answer, and at all that goes into what could hide it: a function, a
softmax, a cell. Sums, products and norms need no look: they pass it on, as 0 times infinity is NaN.

The rows of a block are steps of one stream, one after another, which keeps its state at
``state[:STATE_SIZE]``; or, in a pool, a step of as many streams, which are copied there together.
A stream's state begins with the number of steps that it has taken, int64.
"""

from enum import IntEnum

LANES = 16  # floats of a vector
HALF = LANES // 2  # cells of so many units work on half of one

# What `run` returns. Unless it is one of the first two, the state is as it was before the call.
DONE, STOPPED, WRONG_ARRAY, WRONG_ID, INPUT_NOT_FINITE, OUTPUT_NOT_FINITE = range(6)

# Kinds. The first row of a plan is INPUT, EMBEDDING or ONE_HOT, the last is OUTPUT or SAMPLE.
(
    INPUT, EMBEDDING, ONE_HOT,
    LINEAR, LINEAR_ADD, QUANTIZE, GRU_CELL, LSTM_CELL, ROWS,
    COPY, KEEP, ACTIVATION, ADD, MULTIPLY, SCALE, SCALE_ADD,
    SOFTMAX, LOG_SOFTMAX, LAYER_NORM, WINDOW, WINDOW_MAX, WINDOW_SUM, WINDOW_MEAN,
    SUM, MEAN, MAX, ATTENTION_POOL, ATTENTION, COPY_TOKENS,
    OUTPUT, SAMPLE,
) = range(31)  # fmt: skip

# Weights, by their names in a spec.
Dtype = IntEnum("Dtype", ["FLOAT32", "BFLOAT16", "INT8"], start=0)

MAX_INPUTS = 2**16  # of int8 weights: 128 * 127 * MAX_INPUTS is below 2**31

# Elementwise functions, by their names in a spec.
Function = IntEnum(
    "Function",
    [
        "LINEAR", "TANH", "SIGMOID", "RELU", "AFFINE", "LEAKY_RELU", "THRESHOLDED_RELU",
        "SCALED_TANH", "HARD_SIGMOID", "ELU", "SELU", "SOFTSIGN", "SOFTPLUS", "SILU", "CLIP",
        "EXP", "LOG", "SQRT", "SQUARE", "LINEAR_SIGMOID", "ABS", "RECIPROCAL", "GELU", "GELU_TANH",
        "ERF",
    ],
    start=0,
)  # fmt: skip

# Columns.
KIND = 0
X_SIZE = 1  # floats read per row
Y_SIZE = 2  # floats written per row
X_AT = 3  # state: the first row of input
X_STRIDE = 4  # from one row of input to the next
Y_AT = 5  # state: the first row of output
Y_STRIDE = 6
Z_AT = 7  # state: the first row of a second input
Z_STRIDE = 8
W_AT = 9  # params: packed weights, or the rows of an embedding
B_AT = 10  # params: bias
ALPHA_AT = 11  # params: up to two parameters (of the function; what a layer adds or scales by)
H_AT = 12  # state: what is kept from step to step (h; a pool's sum or maximum; a window's rows)
C_AT = 13  # state: the second such vector (c; a pool's rounding errors)
COUNT_AT = 14  # state: an int64 counter
KEPT_STRIDE = 15  # from what a row keeps (H_AT, C_AT, COUNT_AT) to what the next row keeps
CHECK_AT = 16  # state: 16 floats per row, 0 while all that the row's stream keeps is finite
# Of single kinds:
REPEATS = 17  # ROWS: how many operations behind it
DTYPE = 18  # LINEAR, LINEAR_ADD: a `Dtype`
S_AT = 19  # LINEAR, LINEAR_ADD, params: the scales of int8 weights
SX_AT = 20  # LINEAR, LINEAR_ADD, state: the scale of the first row of quantised inputs
SX_STRIDE = 21  # from the scale of a row to the next
PLANES = 22  # QUANTIZE and what reads it: bytes of a quantised input
IS_UNIT = 23  # QUANTIZE: whether the inputs are in [-1, 1]
DECAYS = 24  # KEEP: whether what is kept decays from step to step
FUNCTION = 25  # ACTIVATION: a `Function`
TAPS = 26  # WINDOW and what reads it: rows side by side
DILATION = 27  # WINDOW: rows from one tap to the next
MEMORY_STRIDE = 28  # ATTENTION, COPY_TOKENS: floats of a row of the memory
KEY_AT = 29  # where in such a row the keys are
SCORE_AT = 30  # where in such a row there is a place for a score
IS_ADDITIVE = 31  # ATTENTION: whether the score is
ARE_PROBABILITIES = 32  # SAMPLE: whether the scores are
# Only in the first row:
BLOCK_ROWS = 33  # rows that fit in the buffers
STATE_SIZE = 34  # floats that a stream keeps from step to step
NUM_ROWS = 35  # rows of the plan
ARRAY_TYPE_AT = 36  # addresses by which `arrays.py` knows an array
X_TYPE_AT = 37  # of xs, int32 where they are token ids
FLOAT32_AT = 38
MAX_STEPS = 39  # of one call
MAX_AXES = 40  # of xs and ys: 1 for a single step, whose shape nobody else looks at
KEPT_AT = 41  # state: what the streams of a pool keep, a row per slot; 0 if there is no pool
SLOTS_AT = 42  # state: the slots of the rows of a block, int64
VOCAB_SIZE = 43  # EMBEDDING, ONE_HOT: token ids are below it
NUM_COLUMNS = 44

# What SAMPLE has at Y_AT: the settings, then how many tokens were seen, and how many were chosen.
TEMPERATURE, TOP_P, MIN_P, REPETITION_PENALTY = range(4)  # float32
TOP_K, NUM_SEEN, NUM_CHOSEN = range(4, 7)  # int32
NUM_SETTINGS = LANES
# Behind it, at Z_AT, rows as long as the scores, rounded up: scores, weights (float32), ids of the
# candidates, flags of the tokens, and those that were seen (int32).
NUM_SAMPLE_ROWS = 5
SEEN, STOP = 1, 2  # bits of a flag
