// An LSTM whose sizes are known when it is compiled, as one writes it by hand: the floor.
//
// g++ -O3 -ffast-math -march=... -DI=input_size -DH=hidden_size. A panel is as many units as a
// register has lanes: its four gates are summed in registers, its weights read in sequence.
#include <cstddef>
#include <cstring>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));

static constexpr int PANELS = (H + LANES - 1) / LANES;
static constexpr int UNITS = PANELS * LANES;  // those beyond H have weights of 0

struct State {
    float h[UNITS], c[UNITS];
};

static inline Vector load(const float *from) {
    Vector x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

static inline void store(float *to, Vector x) { std::memcpy(to, &x, sizeof x); }

// x P(x^2) / Q(x^2), the fit of numlstm/kernels/activations.py.
static inline Vector tanh(Vector x) {
    const Vector limit = Vector{} + 7.9f;
    x = x > limit ? limit : x;
    x = x < -limit ? -limit : x;
    const Vector s = x * x;
    Vector p = s * 1.542812877910107e-08f + 2.2023354157315263e-05f;
    p = p * s + 0.0035789985619445503f;
    p = p * s + 0.13450626060009796f;
    p = p * s + 0.9999999943560841f;
    Vector q = s * 8.598842768699165e-07f + 0.0003423661294339093f;
    q = q * s + 0.026192262756394143f;
    q = q * s + 0.4678395406256488f;
    q = q * s + 1.0f;
    return x * p / q;
}

static inline Vector sigmoid(Vector x) { return tanh(x * 0.5f) * 0.5f + 0.5f; }

struct Gates {
    Vector i, f, g, o;

    void add(const float *w, float x) {
        i += load(w) * x;
        f += load(w + LANES) * x;
        g += load(w + 2 * LANES) * x;
        o += load(w + 3 * LANES) * x;
    }
};

// Weights times `in`, added to two sums of each gate in turn: one would wait for its last addition.
template <int SIZE>
static inline const float *product(const float *w, const float *in, Gates &even, Gates &odd) {
#pragma GCC unroll 8
    for (int k = 0; k + 1 < SIZE; k += 2, w += 2 * 4 * LANES) {
        even.add(w, in[k]);
        odd.add(w + 4 * LANES, in[k + 1]);
    }
    if (SIZE % 2) {
        even.add(w, in[SIZE - 1]);
        w += 4 * LANES;
    }
    return w;
}

// w [panel][k][gate][lane], k over x, then h; bias [panel][gate][lane].
static inline void step(const float *w, const float *bias, const float *x, State &state) {
    float h[UNITS];
    for (int panel = 0; panel < PANELS; panel++, bias += 4 * LANES) {
        Gates a = {load(bias), load(bias + LANES), load(bias + 2 * LANES), load(bias + 3 * LANES)};
        Gates b = {};
        w = product<I>(w, x, a, b);
        w = product<H>(w, state.h, a, b);
        Vector c = load(state.c + panel * LANES);
        c = sigmoid(a.f + b.f) * c + sigmoid(a.i + b.i) * tanh(a.g + b.g);
        store(state.c + panel * LANES, c);
        store(h + panel * LANES, sigmoid(a.o + b.o) * tanh(c));
    }
    std::memcpy(state.h, h, sizeof h);
}

extern "C" int lanes() { return LANES; }

// xs (T, I) -> ys (T, H), count times; anew: each time from zeros.
extern "C" void run(const float *w, const float *bias, State *state, const float *xs, float *ys,
                    int num_steps, int count, int anew) {
    State kept = *state;
    for (int n = 0; n < count; n++) {
        if (anew) kept = State{};
        for (int t = 0; t < num_steps; t++) {
            step(w, bias, xs + t * I, kept);
            std::memcpy(ys + t * H, kept.h, H * sizeof(float));
        }
    }
    *state = kept;
}
