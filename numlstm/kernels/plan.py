"""The table that tells the walker what to run: one int64 row per operation.

A column holds a kind, a size, or an offset into `params` or `state`. `program.py` fills the table,
`layers.py` and `network.py` read it. Sizes count floats; those of buffers are multiples of 16.

Whatever a stream keeps goes there through `elementwise.finite`: a number that is not finite, in it
or in the answer, ends the call, and nothing has changed. In between, an infinity may reach a
function that bounds it, as a very large number would.

The rows of a block are steps of one stream, one after another, which keeps its state at
``state[:STATE_SIZE]``; or, in a pool, a step of as many streams, which are copied there together.
A stream's state begins with the number of steps that it has taken, int64.
"""

# Kinds. The first row of a plan is INPUT, EMBEDDING or ONE_HOT, the last is OUTPUT or SAMPLE.
(
    INPUT, EMBEDDING, ONE_HOT,
    LINEAR, LINEAR_ADD, QUANTIZE, GRU_CELL, LSTM_CELL, ROWS,
    COPY, KEEP, ACTIVATION, ADD, MULTIPLY, SCALE, SCALE_ADD,
    SOFTMAX, LOG_SOFTMAX, LAYER_NORM, WINDOW,
    SUM, MEAN, MAX, ATTENTION_POOL, ATTENTION, COPY_TOKENS,
    OUTPUT, SAMPLE,
) = range(28)  # fmt: skip

# Types of weights.
FLOAT32, BFLOAT16, INT8 = range(3)

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
H_AT = 11  # state: what is kept from step to step (h; a pool's sum or maximum; a window's rows)
C_AT = 12  # state: the second such vector (c; a pool's rounding errors)
COUNT_AT = 13  # state: an int64 counter
FUNCTION = 14  # one of activations.FUNCTIONS; a yes or no of other kinds
ALPHA_AT = 15  # params: up to two parameters (of the function; what a layer adds or scales by)
COUNT = 16  # operations that ROWS repeats; taps of a WINDOW; planes of quantised inputs
SPREAD = 17  # rows from one tap of a WINDOW to the next
MEMORY_STRIDE = 18  # floats of a row of the memory
KEY_AT = 19  # where in such a row an attention's keys are, behind them a place for its score
DTYPE = 20  # of the weights
S_AT = 21  # params: the scales of int8 weights
S_STRIDE = 22  # from the scale of a row of quantised inputs to the next
SX_AT = 23  # state: the scale of the first such row
KEPT_STRIDE = 24  # from what a row keeps (H_AT, C_AT, COUNT_AT) to what the next row keeps
CHECK_AT = (
    25  # state: 16 floats per row, 0 while all that the row's stream keeps is finite, else NaN
)
# Only in the first row:
BLOCK_ROWS = 26  # rows that fit in the buffers
STATE_SIZE = 27  # floats that a stream keeps from step to step
NUM_ROWS = 28  # rows of the plan
ARRAY_TYPE_AT = 29  # addresses by which `arrays.py` knows an array
X_TYPE_AT = 30  # of xs, int32 where they are token ids
FLOAT32_AT = 31
MAX_STEPS = 32  # of one call
KEPT_AT = 33  # state: what the streams of a pool keep, a row per slot; 0 if there is no pool
SLOTS_AT = 34  # state: the slots of the rows of a block, int64
VOCAB_SIZE = 35  # token ids are below it
MAX_AXES = 36  # of xs and ys: 1 for a single step, whose shape nobody else looks at
NUM_COLUMNS = 37
