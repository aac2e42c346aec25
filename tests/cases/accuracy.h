#pragma once
// The accuracy contract as the tests read it: the bounds that the formulas' docstrings state, and each
// function's exact value in double, naive and independent of the formulas. Host and device.

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "ops/elementwise/program.h"
#include "tests/support/ulp.h"

namespace solder::test {

/// What formulas.h says of each function: 0 where it is exact, 0.5 where it is correctly rounded, else "at
/// most N ULP".
std::map<std::string, double> stated_bounds();

/// A unary function with parameters. Its normal results are within `max_ulp`, the stated bound, of the exact
/// value, the subnormal ones within `max_steps` steps of 2^-149.
struct AccuracyCase {
  Op op;
  float p = 0, q = 0;
  double max_steps = 0;
  float at[4] = {};    ///< the results at -infinity, -0, +0 and +infinity; at NaN it is NaN
  double max_ulp = 0;  ///< filled in by accuracy_cases()
};

inline std::vector<AccuracyCase> accuracy_cases() {
  constexpr float kInf = INFINITY, kNan = NAN;
  std::vector<AccuracyCase> cases = {
      {.op = Op::abs, .at = {kInf, 0, 0, kInf}},
      {.op = Op::neg, .at = {kInf, 0, -0.0f, -kInf}},
      {.op = Op::exp, .max_steps = 2, .at = {0, 1, 1, kInf}},
      {.op = Op::log, .at = {kNan, -kInf, -kInf, kInf}},
      {.op = Op::sqrt, .at = {kNan, -0.0f, 0, kInf}},
      {.op = Op::rsqrt, .at = {kNan, -kInf, kInf, 0}},
      {.op = Op::reciprocal, .max_steps = 0.5, .at = {-0.0f, -kInf, kInf, 0}},
      {.op = Op::square, .max_steps = 0.5, .at = {kInf, 0, 0, kInf}},
      {.op = Op::erf, .max_steps = 1, .at = {-1, -0.0f, 0, 1}},
      {.op = Op::tanh, .max_steps = 1, .at = {-1, -0.0f, 0, 1}},
      {.op = Op::sigmoid, .max_steps = 2, .at = {0, 0.5f, 0.5f, 1}},
      {.op = Op::softplus, .max_steps = 4, .at = {0, 0.693147182f, 0.693147182f, kInf}},
      {.op = Op::relu, .at = {0, 0, 0, kInf}},
      {.op = Op::leaky_relu, .p = 0.01f, .max_steps = 0.5, .at = {-kInf, -0.0f, 0, kInf}},
      {.op = Op::leaky_relu, .p = -1.75f, .max_steps = 0.5, .at = {kInf, 0, -0.0f, kInf}},
      {.op = Op::elu, .p = 1.0f, .max_steps = 4, .at = {-1, -0.0f, 0, kInf}},
      {.op = Op::elu, .p = 0.3f, .max_steps = 4, .at = {-0.3f, -0.0f, 0, kInf}},
      {.op = Op::selu, .max_steps = 4, .at = {-1.75809932f, -0.0f, 0, kInf}},
      {.op = Op::gelu, .max_steps = 4, .at = {kNan, -0.0f, 0, kInf}},
      {.op = Op::gelu_tanh, .max_steps = 4, .at = {kNan, -0.0f, 0, kInf}},
      {.op = Op::silu, .max_steps = 4, .at = {kNan, -0.0f, 0, kInf}},
      {.op = Op::hard_sigmoid, .max_steps = 1, .at = {0, 0.5f, 0.5f, 1}},
      {.op = Op::hard_swish, .max_steps = 1, .at = {kNan, -0.0f, 0, kInf}},
      {.op = Op::mish, .max_steps = 4, .at = {kNan, -0.0f, 0, kInf}},
      {.op = Op::double_mish, .max_steps = 4, .at = {kNan, -0.0f, 0, kInf}},
      {.op = Op::clip, .p = -0.5f, .q = 2.0f, .at = {-0.5f, -0.0f, 0, 2}},
      {.op = Op::clip, .p = 0.0f, .q = 6.0f, .at = {0, -0.0f, 0, 6}},
      {.op = Op::floor, .at = {-kInf, -0.0f, 0, kInf}},
      {.op = Op::ceil, .at = {-kInf, -0.0f, 0, kInf}},
      {.op = Op::round, .at = {-kInf, -0.0f, 0, kInf}},
      {.op = Op::sign, .at = {-1, -0.0f, 0, 1}},
      {.op = Op::sin, .max_steps = 1, .at = {kNan, -0.0f, 0, kNan}},
      {.op = Op::cos, .max_steps = 1, .at = {kNan, 1, 1, kNan}},
      {.op = Op::tan, .max_steps = 1, .at = {kNan, -0.0f, 0, kNan}},
      {.op = Op::asin, .max_steps = 1, .at = {kNan, -0.0f, 0, kNan}},
      {.op = Op::acos, .at = {kNan, 1.57079637f, 1.57079637f, kNan}},
      {.op = Op::atan, .max_steps = 1, .at = {-1.57079637f, -0.0f, 0, 1.57079637f}},
      {.op = Op::sinh, .max_steps = 1, .at = {-kInf, -0.0f, 0, kInf}},
      {.op = Op::cosh, .at = {kInf, 1, 1, kInf}},
      {.op = Op::asinh, .max_steps = 1, .at = {-kInf, -0.0f, 0, kInf}},
      {.op = Op::acosh, .at = {kNan, kNan, kNan, kInf}},
      {.op = Op::atanh, .max_steps = 1, .at = {kNan, -0.0f, 0, kNan}},
      {.op = Op::to_float16, .at = {-kInf, -0.0f, 0, kInf}},
      {.op = Op::to_bfloat16, .at = {-kInf, -0.0f, 0, kInf}},
  };
  const std::map<std::string, double> bounds = stated_bounds();
  for (AccuracyCase& c : cases) c.max_ulp = bounds.at(to_string(c.op));
  return cases;
}

/// x rounded to nearest even with `digits` significant bits and exponents from `min_exponent` on; infinity
/// beyond `largest`.
SOLDER_TEST_HD double rounded_to(double x, int digits, int min_exponent, double largest) {
  if (x == 0 || !(x - x == 0)) return x;
  const int exponent = ilogb(x) < min_exponent ? min_exponent : ilogb(x);
  const double step = ldexp(1.0, exponent - (digits - 1));
  const double rounded = rint(x / step) * step;
  return fabs(rounded) > largest ? copysign(HUGE_VAL, x) : rounded;
}

/// The function by its definition; NaN for one that is missing here. Where the definition cancels or
/// overflows in double, double's own log1p, expm1 and erfc step in. double_mish is stepwise: its exact value
/// is that of mish at mish(x) as float32.
SOLDER_TEST_HD double exact_value(Op op, double p, double q, double x) {
  const double hard_sigmoid = (x + 3 < 0 ? 0 : x + 3 > 6 ? 6 : x + 3) / 6;
  const double gelu_tanh_u = sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  switch (op) {
    case Op::abs: return fabs(x);
    case Op::neg: return -x;
    case Op::exp: return exp(x);
    case Op::log: return log(x);
    case Op::sqrt: return sqrt(x);
    case Op::rsqrt: return 1 / sqrt(x);
    case Op::reciprocal: return 1 / x;
    case Op::square: return x * x;
    case Op::erf: return erf(x);
    case Op::tanh: return tanh(x);
    case Op::sigmoid: return 1 / (1 + exp(-x));
    case Op::softplus: return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
    case Op::relu: return x <= 0 ? 0 : x;
    case Op::leaky_relu: return x > 0 ? x : p * x;
    case Op::elu: return x > 0 ? x : p * expm1(x);
    case Op::selu:
      return 1.0507009873554804934193349852946 * (x > 0 ? x : 1.6732632423543772848170429916717 * expm1(x));
    case Op::gelu: return 0.5 * x * erfc(-x / sqrt(2.0));
    case Op::gelu_tanh: return x / (1 + exp(-2 * gelu_tanh_u));  // (1 + tanh(u)) / 2 = 1 / (1 + e^-2u)
    case Op::silu: return x / (1 + exp(-x));
    case Op::hard_sigmoid: return hard_sigmoid;
    case Op::hard_swish: return x * hard_sigmoid;
    case Op::mish:
    case Op::double_mish: return x * tanh(log1p(exp(x)));
    case Op::clip: return x < p ? p : x > q ? q : x;
    case Op::floor: return floor(x);
    case Op::ceil: return ceil(x);
    case Op::round: return rint(x);
    case Op::sign: return x > 0 ? 1 : x < 0 ? -1 : x;
    case Op::sin: return sin(x);
    case Op::cos: return cos(x);
    case Op::tan: return tan(x);
    case Op::asin: return asin(x);
    case Op::acos: return acos(x);
    case Op::atan: return atan(x);
    case Op::sinh: return sinh(x);
    case Op::cosh: return cosh(x);
    case Op::asinh: return asinh(x);
    case Op::acosh: return acosh(x);
    case Op::atanh: return atanh(x);
    case Op::to_float16: return rounded_to(x, 11, -14, 65504);
    case Op::to_bfloat16: return rounded_to(x, 8, -126, 0x1.fep127);
    default: return NAN;
  }
}

/// The same for two arguments.
inline double exact_value(Op op, double a, double b) {
  switch (op) {
    case Op::add: return a + b;
    case Op::sub: return a - b;
    case Op::mul: return a * b;
    case Op::div: return a / b;
    case Op::pow: return std::pow(a, b);
    case Op::fmod: return std::fmod(a, b);
    case Op::min: return std::min(a, b);
    case Op::max: return std::max(a, b);
    case Op::less: return a < b;
    case Op::less_equal: return a <= b;
    case Op::equal: return a == b;
    case Op::not_equal: return a != b;
    case Op::keep_if: return b != 0 ? a : 0.0;
    case Op::keep_unless: return b != 0 ? 0.0 : a;
    case Op::either:
      return std::bit_cast<float>(float_bits(static_cast<float>(a)) | float_bits(static_cast<float>(b)));
    default: return NAN;
  }
}

/// Takes the result for x into account.
SOLDER_TEST_HD void observe(Worst& worst, const AccuracyCase& c, float x, double exact, float result) {
  const Deviation d = deviation(result, exact);
  const uint64_t key = Worst::key(d.ulp, x);
  const bool is_over = d.is_normal && d.ulp > c.max_ulp * (1 + 0x1p-20);  // 2^-20 for the oracle's own error
  ++worst.num_inputs;
  worst.num_wrong += d.wrong;
  worst.num_over += is_over;
  if ((d.wrong || is_over) && float_bits(x) > worst.a_wrong_input) worst.a_wrong_input = float_bits(x);
  uint64_t& largest = d.is_normal ? worst.normal : worst.subnormal;
  if (d.ulp > 0 && key > largest) largest = key;
}

/// `y` [num_elems] against the exact values at `oracle_inputs` on the GPU, added to `worst`; these are x
/// itself but for double_mish, where they are mish(x). `second` is another way to the same results, bit for
/// bit, or null.
void observe_on_gpu(Worst* worst, const AccuracyCase& c, const float* x, const float* oracle_inputs,
                    const float* y, const float* second, int64_t num_elems, void* stream);

/// x[i] = the float32 with bits `first` + i, on the GPU.
void fill_with_bits(float* x, uint32_t first, int64_t num_elems, void* stream);

}  // namespace solder::test
