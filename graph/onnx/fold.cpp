// The folder: what is worked out at import, of tensors that are known and small. Integers are those of their type, reals
// are computed in double and rounded to theirs.

#include <algorithm>
#include <cmath>
#include <functional>

#include "graph/onnx/arguments.h"
#include "runtime/check.h"

namespace solder {
namespace {

double rounded(OnnxType type, double value) {
  const auto dtype = dtype_of(type);
  if (!dtype) return value;
  float narrow = 0;
  store_from_float(&narrow, *dtype, 0, static_cast<float>(value));
  return load_as_float(&narrow, *dtype, 0);
}

int64_t wrapped(OnnxType type, int64_t value) {
  switch (type) {
    case OnnxType::int8: return static_cast<int8_t>(value);
    case OnnxType::uint8: return static_cast<uint8_t>(value);
    case OnnxType::int16: return static_cast<int16_t>(value);
    case OnnxType::uint16: return static_cast<uint16_t>(value);
    case OnnxType::int32: return static_cast<int32_t>(value);
    case OnnxType::uint32: return static_cast<uint32_t>(value);
    case OnnxType::boolean: return value != 0;
    default: return value;
  }
}

// An index into a tensor that is read under a shape it broadcasts to.
class Walk {
 public:
  Walk(const Shape& from, const Shape& to) : to_(to), index_(to.size()), strides_(to.size()) {
    int64_t stride = 1;
    for (size_t i = from.size(); i-- > 0; stride *= from[i])
      strides_[i + to.size() - from.size()] = from[i] == 1 ? 0 : stride;
  }
  size_t at() const { return static_cast<size_t>(at_); }
  void next() {
    for (size_t i = to_.size(); i-- > 0;) {
      at_ += strides_[i];
      if (++index_[i] < to_[i]) return;
      at_ -= strides_[i] * to_[i];
      index_[i] = 0;
    }
  }

 private:
  Shape to_;
  std::vector<int64_t> index_, strides_;
  int64_t at_ = 0;
};

// f of doubles or of int64s, element by element.
template <class Reals, class Integers>
void zip(OnnxCall& call, Reals reals, Integers integers, bool gives_truth = false) {
  const OnnxConstant a = call.constant(0), b = call.constant(1);
  OnnxConstant result{.type = gives_truth ? OnnxType::boolean : a.type};
  if (a.is_real() != b.is_real())  // as in powers
    throw OnnxNotFolded(ErrorKind::unsupported, str("of ", to_string(a.type), " and ", to_string(b.type)));
  SOLDER_REQUIRE(broadcast(a.shape, b.shape, &result.shape), shape_mismatch, to_string(a.shape), " and ",
                 to_string(b.shape), " do not broadcast");
  require_foldable(result.shape, result.type);
  Walk i(a.shape, result.shape), j(b.shape, result.shape);
  for (int64_t left = num_elements(result.shape); left > 0; --left, i.next(), j.next()) {
    if (gives_truth)
      result.ints.push_back(a.is_real() ? reals(a.reals[i.at()], b.reals[j.at()]) != 0
                                        : integers(a.ints[i.at()], b.ints[j.at()]) != 0);
    else if (a.is_real())
      result.reals.push_back(rounded(a.type, static_cast<double>(reals(a.reals[i.at()], b.reals[j.at()]))));
    else
      result.ints.push_back(wrapped(a.type, static_cast<int64_t>(integers(a.ints[i.at()], b.ints[j.at()]))));
  }
  call.give(std::move(result));
}

int64_t wrap(uint64_t value) { return static_cast<int64_t>(value); }

int64_t sum_of(int64_t a, int64_t b) { return wrap(static_cast<uint64_t>(a) + static_cast<uint64_t>(b)); }

void add(OnnxCall& call) { zip(call, std::plus<double>(), sum_of); }
void sub(OnnxCall& call) {
  zip(call, std::minus<double>(),
      [](int64_t a, int64_t b) { return wrap(static_cast<uint64_t>(a) - static_cast<uint64_t>(b)); });
}
void mul(OnnxCall& call) {
  zip(call, std::multiplies<double>(),
      [](int64_t a, int64_t b) { return wrap(static_cast<uint64_t>(a) * static_cast<uint64_t>(b)); });
}
// Towards zero.
void div(OnnxCall& call) {
  zip(call, std::divides<double>(), [](int64_t a, int64_t b) {
    SOLDER_REQUIRE(b != 0, io, "an integer is divided by 0");
    return b == -1 ? wrap(0 - static_cast<uint64_t>(a)) : a / b;
  });
}
void mod(OnnxCall& call) {
  const bool is_c = call.integer("fmod", 0) != 0;
  zip(
      call, [](double a, double b) { return std::fmod(a, b); },
      [is_c](int64_t a, int64_t b) -> int64_t {
        SOLDER_REQUIRE(b != 0, io, "an integer is divided by 0");
        const int64_t rest = b == -1 ? 0 : a % b;
        return !is_c && rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
      });
}
void power(OnnxCall& call) {
  zip(
      call, [](double a, double b) { return std::pow(a, b); },
      [](int64_t a, int64_t b) -> int64_t {
        ONNX_REQUIRE(b >= 0 && b < 64, "an integer to the power ", b);
        uint64_t result = 1;
        for (int64_t i = 0; i < b; ++i) result *= static_cast<uint64_t>(a);
        return wrap(result);
      });
}

template <bool is_max>
void extreme(OnnxCall& call) {
  if (call.num_inputs() > 2) throw OnnxNotFolded(ErrorKind::unsupported, "of more than two known tensors");
  if (call.num_inputs() == 1) return call.give(call.item(0));
  zip(
      call,
      [](double a, double b) {
        return std::isnan(a) || std::isnan(b) ? NAN : is_max ? std::max(a, b) : std::min(a, b);
      },
      [](int64_t a, int64_t b) { return is_max ? std::max(a, b) : std::min(a, b); });
}

template <template <class> class Compare>
void compare(OnnxCall& call) {
  zip(call, Compare<double>(), Compare<int64_t>(), true);
}

template <class Reals, class Integers>
void map(OnnxCall& call, Reals reals, Integers integers) {
  OnnxConstant x = call.constant(0);
  for (double& each : x.reals) each = rounded(x.type, reals(each));
  for (int64_t& each : x.ints) each = wrapped(x.type, integers(each));
  call.give(std::move(x));
}

void abs(OnnxCall& call) {
  map(
      call, [](double x) { return std::fabs(x); },
      [](int64_t x) { return x < 0 ? wrap(0 - static_cast<uint64_t>(x)) : x; });
}
void neg(OnnxCall& call) {
  map(
      call, [](double x) { return -x; }, [](int64_t x) { return wrap(0 - static_cast<uint64_t>(x)); });
}
template <double (*function)(double)>
void real_map(OnnxCall& call) {
  map(call, function, [](int64_t x) { return x; });
}
double floor_of(double x) { return std::floor(x); }
double ceil_of(double x) { return std::ceil(x); }
double round_of(double x) { return std::nearbyint(x); }
double sqrt_of(double x) { return std::sqrt(x); }

void logical_not(OnnxCall& call) {
  map(
      call, [](double x) { return x; }, [](int64_t x) { return int64_t{x == 0}; });
}

void clip(OnnxCall& call) {
  OnnxConstant x = call.constant(0);
  // Attributes are of floats, and finite where they are not given.
  const bool has_attributes = call.opset() < 11;
  ONNX_REQUIRE(!has_attributes || x.is_real(), "of ", to_string(x.type));
  const auto limit = [&](size_t i, const char* name, float most, auto limited) {
    OnnxConstant bound{.type = x.type, .reals = {call.real(name, most)}};
    if (call.has(i)) bound = call.constant(i);
    SOLDER_REQUIRE(bound.type == x.type && bound.size() == 1, io, "of ", to_string(x.type), " by ",
                   to_string(bound.type), " ", to_string(bound.shape));
    for (double& each : x.reals) each = limited(each, bound.reals[0]);
    for (int64_t& each : x.ints) each = limited(each, bound.ints[0]);
  };
  if (call.has(1) || has_attributes)
    limit(1, "min", -kMostFloat, [](auto each, auto low) { return each < low ? low : each; });
  if (call.has(2) || has_attributes)
    limit(2, "max", kMostFloat, [](auto each, auto high) { return each > high ? high : each; });
  call.give(std::move(x));
}

void cast(OnnxCall& call) {
  const OnnxConstant& x = call.constant(0);
  OnnxConstant result{.type = static_cast<OnnxType>(call.integer("to")), .shape = x.shape};
  ONNX_REQUIRE(is_real(result.type) || is_integer(result.type), "to ", to_string(result.type));
  for (const double each : x.reals) {
    if (result.is_real())
      result.reals.push_back(rounded(result.type, each));
    else if (result.type == OnnxType::boolean)
      result.ints.push_back(each != 0);
    else
      result.ints.push_back(wrapped(result.type, each >= 0x1p63   ? INT64_MAX
                                                 : each > -0x1p63 ? static_cast<int64_t>(each)
                                                                  : INT64_MIN));
  }
  for (const int64_t each : x.ints) {
    if (result.is_real())
      result.reals.push_back(rounded(result.type, static_cast<double>(each)));
    else
      result.ints.push_back(wrapped(result.type, each));
  }
  call.give(std::move(result));
}

void where(OnnxCall& call) {
  const OnnxConstant c = call.constant(0), a = call.constant(1), b = call.constant(2);
  SOLDER_REQUIRE(!c.is_real() && a.is_real() == b.is_real(), io, "of ", to_string(c.type), ", ",
                 to_string(a.type), " and ", to_string(b.type));
  OnnxConstant result{.type = a.type};
  SOLDER_REQUIRE(
      broadcast(c.shape, a.shape, &result.shape) && broadcast(result.shape, b.shape, &result.shape),
      shape_mismatch, "its shapes do not broadcast");
  require_foldable(result.shape, result.type);
  Walk k(c.shape, result.shape), i(a.shape, result.shape), j(b.shape, result.shape);
  for (int64_t left = num_elements(result.shape); left > 0; --left, k.next(), i.next(), j.next()) {
    const bool first = c.ints[k.at()] != 0;
    if (a.is_real())
      result.reals.push_back(first ? a.reals[i.at()] : b.reals[j.at()]);
    else
      result.ints.push_back(first ? a.ints[i.at()] : b.ints[j.at()]);
  }
  call.give(std::move(result));
}

void cumulative_sum(OnnxCall& call) {
  OnnxConstant x = call.constant(0);
  call.only("exclusive", 0), call.only("reverse", 0);
  const OnnxConstant& given = call.constant(1);
  SOLDER_REQUIRE(given.ints.size() == 1, io, "the axis is ", to_string(given.type), " ",
                 to_string(given.shape));
  const auto axis = x.shape.begin() + as_axis(given.ints[0], call.rank(0));
  const int64_t step = num_elements(Shape(axis + 1, x.shape.end()));
  for (int64_t i = step; i < x.size(); ++i) {
    if (i / step % *axis == 0) continue;  // the first along the axis
    const auto to = static_cast<size_t>(i), from = static_cast<size_t>(i - step);
    if (x.is_real())
      x.reals[to] = rounded(x.type, x.reals[to] + x.reals[from]);
    else
      x.ints[to] = wrapped(x.type, sum_of(x.ints[to], x.ints[from]));
  }
  call.give(std::move(x));
}

constexpr OnnxFold kRows[] = {
    {"Abs", abs},
    {"Add", add},
    {"And", mul},
    {"Cast", cast},
    {"Ceil", real_map<ceil_of>},
    {"Clip", clip},
    {"CumSum", cumulative_sum},
    {"Div", div},
    {"Equal", compare<std::equal_to>},
    {"Floor", real_map<floor_of>},
    {"Greater", compare<std::greater>},
    {"GreaterOrEqual", compare<std::greater_equal>},
    {"Less", compare<std::less>},
    {"LessOrEqual", compare<std::less_equal>},
    {"Max", extreme<true>},
    {"Min", extreme<false>},
    {"Mod", mod},
    {"Mul", mul},
    {"Neg", neg},
    {"Not", logical_not},
    {"Or", extreme<true>},
    {"Pow", power},
    {"Round", real_map<round_of>},
    {"Sqrt", real_map<sqrt_of>},
    {"Sub", sub},
    {"Where", where},
    {"Xor", compare<std::not_equal_to>},
};

}  // namespace

const std::span<const OnnxFold> kFoldedArithmetic = kRows;

}  // namespace solder
