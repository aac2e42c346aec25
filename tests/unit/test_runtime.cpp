#include <array>
#include <bit>
#include <limits>
#include <span>
#include <type_traits>

#include "runtime/divide.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

// What the compiler refuses, since it would refer into a temporary that is gone.
static_assert(!std::is_convertible_v<Floats, std::span<const float>>);
static_assert(!std::is_convertible_v<Floats, std::span<float>>);
template <class Map>
concept gives_elements = requires(Map&& map) {
  std::forward<Map>(map)["y"];
};
template <class Map>
concept gives_iterators = requires(Map&& map) {
  std::forward<Map>(map).begin();
}
|| requires(Map&& map) { std::forward<Map>(map).find("y"); };
static_assert(gives_elements<TensorMap&> && !gives_elements<TensorMap>);
static_assert(gives_iterators<TensorMap&> && gives_iterators<const TensorMap&> &&
              !gives_iterators<TensorMap>);
static_assert(std::is_same_v<decltype(std::declval<TensorMap>().at("y")), Tensor>);
static_assert(std::is_same_v<decltype(std::declval<Tensor>().shape()), Shape>);
static_assert(!std::is_convertible_v<std::string, Shape> &&
              !std::is_convertible_v<std::vector<float>, Shape>);
static_assert(std::is_nothrow_move_constructible_v<Tensor> && std::is_nothrow_copy_constructible_v<Tensor>);

}  // namespace

TEST_CASE("shape: text, element counts, overflow") {
  CHECK(to_string(Shape{}) == "[]");
  CHECK(to_string(Shape{64, 3, 1}) == "[64, 3, 1]");
  CHECK(num_elements({}) == 1);
  CHECK(num_elements({5, 0, 7}) == 0);
  CHECK(num_elements({int64_t{1} << 31, 3}) == (int64_t{3} << 31));
  CHECK_ERROR(num_elements({2, -1}), invalid_argument, "[2, -1]", "negative");
  CHECK_ERROR(num_elements({0, -1}), invalid_argument, "negative");
  CHECK_ERROR(num_elements({int64_t{1} << 32, int64_t{1} << 31}), invalid_argument, "2^63");
  CHECK_ERROR(num_bytes({int64_t{1} << 61}, DType::float32), invalid_argument, "bytes");
  CHECK(num_bytes({int64_t{1} << 61}, DType::float16) == int64_t{1} << 62);
}

TEST_CASE("shape: from any integers") {
  const std::vector<int> ints{1, 3, 8, 8};
  const std::array<uint32_t, 2> array{4, 4'000'000'000};
  const size_t rows = 7;
  const short columns = 5;
  const int64_t plain[] = {2, 3};
  CHECK(Tensor::empty(ints).shape() == Shape{1, 3, 8, 8});
  CHECK(Shape(array) == Shape{4, 4'000'000'000});
  CHECK(Shape(std::span(ints).first(2)) == Shape{1, 3});
  CHECK(Shape(plain) == Shape{2, 3});
  CHECK(Shape{rows, columns} == Shape{7, 5});
  CHECK(Shape(ints.begin() + 2, ints.end()) == Shape{8, 8});
  CHECK(Shape(3) == Shape{0, 0, 0});
  CHECK(Shape(2, 6) == Shape{6, 6});
  Graph g;
  CHECK(g.type(g.input("x", ints)).shape == Shape{1, 3, 8, 8});
  CHECK_ERROR(Tensor::empty({~size_t{0}}), invalid_argument, "negative");
  CHECK_ERROR(Tensor::empty(std::vector<uint64_t>{uint64_t{1} << 63}), invalid_argument, "negative");
}

TEST_CASE("FastDivisor: what the division gives") {
  constexpr uint32_t kLimit = uint32_t{1} << 31;
  std::mt19937 engine(1);
  int64_t bad = 0;
  const auto check = [&](uint32_t divisor) {
    const FastDivisor by(divisor);
    const auto differs = [&](uint32_t n) { bad += n < kLimit && by.divide(n) != n / divisor; };
    for (const uint32_t n : {0u, 1u, divisor - 1, divisor, divisor + 1, kLimit - 1}) differs(n);
    for (int i = 0; i < 20; ++i) {
      const auto n = static_cast<uint32_t>(engine() % kLimit), below = n / divisor * divisor;
      for (const uint32_t near : {n, below, below - 1, below + divisor}) differs(near);
    }
    INFO("divisor ", divisor);
    CHECK(bad == 0);
  };
  for (uint32_t divisor = 1; divisor < 3000; ++divisor) check(divisor);
  for (int i = 0; i < 3000; ++i) check(1 + static_cast<uint32_t>(engine() % kLimit));
  for (uint32_t bits = 1; bits <= 31; ++bits)
    for (const int off : {-1, 0, 1})
      if (bits < 31 || off <= 0) check((uint32_t{1} << bits) + static_cast<uint32_t>(off));
}

TEST_CASE("shape: broadcasting follows numpy") {
  Shape result;
  CHECK(broadcast({4, 1, 3}, {5, 1}, &result));
  CHECK(result == Shape{4, 5, 3});
  CHECK(broadcast({}, {2, 3}, &result));
  CHECK(result == Shape{2, 3});
  CHECK(broadcast({0}, {1}, &result));
  CHECK(result == Shape{0});
  CHECK_FALSE(broadcast({2}, {3}, &result));
  CHECK_FALSE(broadcast({0}, {2}, &result));
}

TEST_CASE("dtype: every float16 goes to float32 and back; values by the definition") {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const float value = float_from_float16(half);
    const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent == 31 && fraction != 0) {
      CHECK(std::isnan(value));
      CHECK(std::isnan(float_from_float16(float16_from_float(value))));
      continue;
    }
    const double sign = bits & 0x8000 ? -1.0 : 1.0;
    const double expected = exponent == 31  ? sign * std::numeric_limits<double>::infinity()
                            : exponent == 0 ? sign * std::ldexp(fraction, -24)
                                            : sign * std::ldexp(1024 + fraction, exponent - 25);
    if (value != expected || float16_from_float(value) != half) FAIL_CHECK("float16 bits ", bits);
  }
}

TEST_CASE("dtype: rounding to 16 bits is to nearest, ties to even") {
  // Between two neighbours, the halfway point and its float32 neighbours on both sides decide.
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = float_from_float16(static_cast<uint16_t>(bits));
    const float high = float_from_float16(static_cast<uint16_t>(bits + 1));
    const float middle = low + (high - low) / 2;
    const uint32_t even = bits + (bits & 1);
    const bool right = float16_from_float(middle) == even &&
                       float16_from_float(std::nextafter(middle, 0.0f)) == bits &&
                       float16_from_float(std::nextafter(middle, 1e9f)) == bits + 1;
    if (!right) FAIL_CHECK("float16 bits ", bits);
  }
  CHECK(float16_from_float(65519.0f) == 0x7bff);
  CHECK(float16_from_float(65520.0f) == 0x7c00);
  CHECK(float16_from_float(-1e30f) == 0xfc00);
  for (uint32_t bits = 0; bits < 0x7f7f; ++bits) {
    const float middle = std::bit_cast<float>((bits << 16) | 0x8000u);
    const bool right = bfloat16_from_float(middle) == bits + (bits & 1) &&
                       bfloat16_from_float(std::nextafter(middle, 0.0f)) == bits &&
                       bfloat16_from_float(std::nextafter(middle, INFINITY)) == bits + 1;
    if (!right) FAIL_CHECK("bfloat16 bits ", bits);
  }
  CHECK(std::isnan(float_from_bfloat16(bfloat16_from_float(std::bit_cast<float>(0x7f800001u)))));
}

TEST_CASE("tensor: construction, conversion, errors") {
  const std::vector<float> values{1, 2, 3, 4, 5, 6};
  const Tensor t = Tensor::from({2, 3}, values);
  CHECK(t.num_elems() == 6);
  CHECK(t.num_bytes() == 24);
  CHECK(t.floats()[5] == 6);
  CHECK(reinterpret_cast<uintptr_t>(t.data()) % 256 == 0);
  CHECK(same_bits(t.to(DType::float16).to(DType::float32), t));
  CHECK(Tensor::empty({0, 4}).num_elems() == 0);
  CHECK_ERROR(Tensor::from({2, 2}, values), shape_mismatch, "[2, 2]", "4", "6");
  CHECK_ERROR(t.to(DType::float16).floats(), invalid_argument, "float16");
  CHECK_ERROR(Tensor::empty({int64_t{1} << 50}), out_of_memory, "4503599627370496");
  const auto no_dtype = static_cast<DType>(9);
  CHECK_ERROR(Tensor::empty({2}, no_dtype), invalid_argument, "dtype 9", "bfloat16");
  CHECK_ERROR(t.to(no_dtype), invalid_argument, "dtype 9");
  CHECK_ERROR(Graph().input("x", {2}, no_dtype), invalid_argument, "dtype 9");
  const Tensor listed = Tensor::from({2, 2}, {1, 2, 3, 4});
  CHECK(listed.shape() == Shape{2, 2});
  CHECK(listed.floats()[3] == 4);
  CHECK(Tensor::from({2}, {values.data(), 2}).floats()[1] == 2);
  CHECK(Tensor::from({values.size()}, values).num_elems() == 6);
}

TEST_CASE("tensor: one that was moved from is empty") {
  for (const Shape& shape : {Shape{2, 2}, Shape{}, Shape{0}}) {
    Tensor a = Tensor::empty(shape);
    const Tensor copy = a, b = std::move(a);
    CHECK(b.shape() == shape);
    CHECK(b.data() == copy.data());
    CHECK(a.shape() == Shape{0});  // NOLINT: that is what is asked
    CHECK(a.num_elems() == 0);
    CHECK(a.floats().empty());
    CHECK(a.to(DType::float16).num_bytes() == 0);
    a = b;
    CHECK(a.shape() == shape);
  }
  CHECK(Tensor().shape() == Shape{0});
}

TEST_CASE("tensor: views are of memory that is there and aligned") {
  alignas(4) char bytes[16] = {};
  CHECK(Tensor::view(bytes, {4}).num_bytes() == 16);
  CHECK(Tensor::view(bytes + 2, {4}, DType::float16).data() == bytes + 2);
  CHECK(Tensor::view(nullptr, {3, 0}).num_elems() == 0);
  CHECK_ERROR(Tensor::view(nullptr, {4}), invalid_argument, "[4]", "null");
  CHECK_ERROR(Tensor::view(nullptr, {}), invalid_argument, "null");
  CHECK_ERROR(Tensor::view(bytes + 2, {1}), invalid_argument, "float32", "aligned to 4 bytes");
  CHECK_ERROR(Tensor::view(bytes + 1, {1}, DType::bfloat16), invalid_argument, "aligned to 2 bytes");
}

TEST_CASE("tensor: the elements of a temporary live as long as they are looked at") {
  Graph g;
  g.output("y", g.relu(g.input("x", {1000})));
  Session session = compile(g, {}, {.device = Device::cpu()}).session();
  const TensorMap x{{"x", Tensor::from({1000}, std::vector<float>(1000, 3))}};
  float sum = 0;
  for (const float value : session.run(x).at("y").floats()) sum += value;
  CHECK(sum == 3000);
  const auto y = session.run(x).at("y").floats();
  session.run(x);
  CHECK(std::ranges::count(y, 3.0f) == 1000);
  const std::span<const float> span = y;
  CHECK(span.size() == 1000);
  CHECK(span.data() == y.data());
  CHECK(session.run(x).at("y").floats()[999] == 3);
  int64_t num_elems = 1;
  for (const int64_t extent : session.run(x).at("y").shape()) num_elems *= extent;
  CHECK(num_elems == 1000);
  session.input("x").floats()[0] = -1;  // a view: the session's own memory
  session.execute();
  CHECK(session.output("y").floats()[0] == 0);
  CHECK(session.output("y").floats()[999] == 3);
}

TEST_CASE("tensor map: a name that is not there is an error that lists those that are") {
  TensorMap map;
  CHECK_ERROR(map.at("y"), invalid_argument, "no \"y\"", "nor any other");
  for (int i = 0; i < 20; ++i) map[str("layer", 10 + i)] = Tensor::empty({1});
  CHECK_ERROR(map.at("typo"), invalid_argument, "no \"typo\"", "\"layer10\", \"layer11\"", "and 8 more");
  CHECK_ERROR(std::as_const(map).at("typo"), invalid_argument, "typo");
  CHECK_ERROR(TensorMap(map).at("typo"), invalid_argument, "typo");
  CHECK(TensorMap(map).at("layer12").data() == map.at("layer12").data());
  map.at("layer12") = Tensor::empty({2});
  CHECK(map.find("layer12")->second.num_elems() == 2);
}

TEST_CASE("device: names and refusals") {
  CHECK(to_string(Device::cpu()) == "cpu");
  CHECK_ERROR(device_info(Device::cpu()), invalid_argument, "cpu");
  CHECK_ERROR(Device::cuda(4096), unsupported, "cuda:4096");
  std::string why;
  const Device best = Device::best(&why);
  CHECK(why.empty() == best.is_cuda());
}

TEST_CASE("device: without the device a view of its memory is refused where it is read") {
  float value = 1;
  const Device none{Device::Type::cuda, 4096};
  const Tensor there = Tensor::view(&value, {1}, DType::float32, none);
  Graph g;
  g.output("y", g.mish(g.input("x", {1})));
  Session session = compile(g, {}, {.device = Device::cpu()}).session();
  CHECK_THROWS_AS(there.to(Device::cpu()), Error);
  CHECK_THROWS_AS(session.run({{"x", there}}), Error);
  CHECK_THROWS_AS(session.run({{"x", Tensor::from({1}, {1})}}, {{"y", there}}), Error);
  CHECK(value == 1);
}

GPU_TEST_CASE("tensor: to the GPU and back; larger than the card is a typed error") {
  const Tensor t = uniform({3, 5, 7}, 1);
  const Device gpu = Device::cuda(0);
  const Tensor there = t.to(gpu);
  CHECK(there.device() == gpu);
  CHECK(same_bits(there.to(Device::cpu()), t));
  CHECK_ERROR(there.to(DType::float16), unsupported, "cuda:0");
  CHECK_ERROR(Tensor::empty({int64_t{1} << 40}, DType::float32, gpu), out_of_memory, "4398046511104", "free");
  CHECK(same_bits(t.to(gpu).to(Device::cpu()), t));
  const DeviceInfo info = device_info(gpu);
  CHECK(info.num_sms > 0);
  CHECK(info.cc_major >= 8);
}
