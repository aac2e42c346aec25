#pragma once
// What the tests share: the device list, random data, the float64 oracle's pieces, error checks.

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "graph/solder.h"

/// A test case that needs a GPU: skipped, and counted as skipped, where there is none.
#define GPU_TEST_CASE(name) TEST_CASE("[gpu] " name* doctest::skip(!solder::test::has_gpu()))

/// Checks that `expression` throws solder::Error of `expected_kind` whose text contains every given word.
#define CHECK_ERROR(expression, expected_kind, ...)                     \
  do {                                                                  \
    bool thrown_ = false;                                               \
    try {                                                               \
      (void)(expression);                                               \
    } catch (const solder::Error& error_) {                             \
      thrown_ = true;                                                   \
      const std::string text_ = error_.what();                          \
      CAPTURE(text_);                                                   \
      CHECK(error_.kind() == solder::ErrorKind::expected_kind);         \
      for (const char* word_ : std::vector<const char*>{__VA_ARGS__}) { \
        CAPTURE(word_);                                                 \
        CHECK(text_.find(word_) != std::string::npos);                  \
      }                                                                 \
    }                                                                   \
    CHECK_MESSAGE(thrown_, "no solder::Error from " #expression);       \
  } while (0)

namespace solder::test {

/// Under compute-sanitizer (see tests/gpu/sanitize.sh), where a run takes seconds: fewer repeats and values.
inline bool is_sanitized() { return std::getenv("SOLDER_SANITIZED") != nullptr; }

/// An environment variable for a scope (null: unset).
class EnvironmentVariable {
 public:
  EnvironmentVariable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    set(value);
  }
  ~EnvironmentVariable() { set(before_ ? before_->c_str() : nullptr); }
  EnvironmentVariable(const EnvironmentVariable&) = delete;
  EnvironmentVariable& operator=(const EnvironmentVariable&) = delete;

 private:
  void set(const char* value) { value != nullptr ? setenv(name_, value, 1) : unsetenv(name_); }

  const char* name_;
  std::optional<std::string> before_;
};

inline bool has_gpu() { return Device::best().is_cuda(); }

/// The CPU, and the GPU where there is one.
inline std::vector<Device> devices() {
  if (has_gpu()) return {Device::cpu(), Device::cuda(0)};
  return {Device::cpu()};
}

/// float32 values of a uniform distribution.
inline Tensor uniform(const Shape& shape, uint64_t seed, float low = -1, float high = 1) {
  Tensor tensor = Tensor::empty(shape);
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<float> distribution(low, high);
  for (float& value : tensor.floats()) value = distribution(engine);
  return tensor;
}

inline float round_to(DType dtype, float value) {
  return dtype == DType::float16    ? float_from_float16(float16_from_float(value))
         : dtype == DType::bfloat16 ? float_from_bfloat16(bfloat16_from_float(value))
                                    : value;
}

/// Float32 values that `dtype` has.
inline Tensor uniform_of(DType dtype, const Shape& shape, uint64_t seed, float low = -1, float high = 1) {
  Tensor tensor = uniform(shape, seed, low, high);
  for (float& value : tensor.floats()) value = round_to(dtype, value);
  return tensor;
}

inline uint32_t bits_of(float value) { return std::bit_cast<uint32_t>(value); }

/// Same bits everywhere; NaN equals NaN of any payload.
inline bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) return false;
  if (a.num_elems() == 0) return true;  // memcmp takes no null
  if (a.dtype() == b.dtype() && std::memcmp(a.data(), b.data(), static_cast<size_t>(a.num_bytes())) == 0)
    return true;
  for (int64_t i = 0; i < a.num_elems(); ++i) {
    const float x = load_as_float(a.data(), a.dtype(), i), y = load_as_float(b.data(), b.dtype(), i);
    if (bits_of(x) != bits_of(y) && !(std::isnan(x) && std::isnan(y))) return false;
  }
  return true;
}

/// Distance in representable floats; NaN against NaN is 0, NaN against anything else the maximum.
inline int64_t ulp_distance(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b) ? 0 : INT64_MAX;
  const auto ordered = [](float value) {
    const int64_t bits = std::bit_cast<int32_t>(value);
    return bits < 0 ? int64_t{INT32_MIN} - bits : bits;
  };
  return std::abs(ordered(a) - ordered(b));
}

/// Runs a one-output graph "y".
inline Tensor run(const Graph& graph, const TensorMap& weights, const TensorMap& inputs,
                  CompileOptions options) {
  return compile(graph, weights, options).session().run(inputs).at("y");
}

}  // namespace solder::test
