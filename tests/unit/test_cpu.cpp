// The CPU's convolution and product: exactly the sums that their docstrings promise, at every level that this
// processor has and for any number of threads.

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <limits>
#include <thread>

#include "ops/conv/cpu/cpu.h"
#include "ops/elementwise/program.h"
#include "ops/matmul/gemm.h"
#include "runtime/parallel.h"
#include "tests/cases/conv_cases.h"
#include "tests/support/oracle.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

std::vector<CpuLevel> levels() {
  std::vector<CpuLevel> result{CpuLevel::portable};
  for (const CpuLevel level : {CpuLevel::avx2, CpuLevel::avx512})
    if (level <= best_cpu_level()) result.push_back(level);
  return result;
}

// sum + a * b as `level` rounds it.
float add_product(CpuLevel level, float sum, float a, float b) {
#if defined(__x86_64__)
  if (level == CpuLevel::portable) return sum + a * b;
#endif
  return std::fma(a, b, sum);
}

// The terms in chains of 64, and these in order.
template <class AddTerm>
float sum_in_chains(int64_t terms, const AddTerm& add_term) {
  float all = 0;
  for (int64_t begin = 0; begin < terms; begin += 64) {
    float sum = 0;
    for (int64_t term = begin; term < std::min(begin + 64, terms); ++term) sum = add_term(sum, term);
    all = begin == 0 ? sum : all + sum;
  }
  return all;
}

/// A result between guards, full of NaN before.
struct Guarded {
  static constexpr size_t kGuard = 64;
  std::vector<float> memory;
  explicit Guarded(int64_t elems) : memory(static_cast<size_t>(elems) + 2 * kGuard, kNaN) {
    std::fill_n(memory.begin(), kGuard, 77.0f);
    std::fill_n(memory.end() - kGuard, kGuard, 77.0f);
  }
  float* data() { return memory.data() + kGuard; }
  std::span<const float> values() const { return {memory.data() + kGuard, memory.size() - 2 * kGuard}; }
  bool guards_hold() const {
    const auto holds = [](float value) { return value == 77.0f; };
    return std::all_of(memory.begin(), memory.begin() + kGuard, holds) &&
           std::all_of(memory.end() - kGuard, memory.end(), holds);
  }
};

bool same(std::span<const float> a, std::span<const float> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return bits_of(x) == bits_of(y) || (std::isnan(x) && std::isnan(y));
  });
}

// run(y, pool) gives the expected elements, without a pool and with each of them.
template <class Run>
void check_threads(std::span<ThreadPool> pools, std::span<const float> expected, const Run& run) {
  for (size_t i = 0; i <= pools.size(); ++i) {
    ThreadPool* const pool = i < pools.size() ? &pools[i] : nullptr;
    CAPTURE(pool != nullptr ? pool->num_threads() : 0);
    Guarded y(static_cast<int64_t>(expected.size()));
    run(y.data(), pool);
    CHECK(same(y.values(), expected));
    CHECK(y.guards_hold());
  }
}

// Every element summed as the docstring of conv_cpu says.
std::vector<float> conv_in_order(const ConvShape& s, CpuLevel level, std::span<const float> x,
                                 std::span<const float> w) {
  std::vector<float> y;
  const int64_t group_c = s.C / s.groups;
  for (int64_t n = 0; n < s.N; ++n)
    for (int64_t k = 0; k < s.K; ++k)
      for (int64_t p = 0; p < s.P(); ++p)
        for (int64_t q = 0; q < s.Q(); ++q) {
          y.push_back(sum_in_chains(s.gemm_k(), [&](float sum, int64_t term) {
            const int64_t c = k / (s.K / s.groups) * group_c + term / (s.R * s.S);
            const int64_t h = p * s.stride_h + term / s.S % s.R * s.dil_h - s.pad_top;
            const int64_t column = q * s.stride_w + term % s.S * s.dil_w - s.pad_left;
            const bool is_inside = h >= 0 && h < s.H && column >= 0 && column < s.W;
            const float value =
                is_inside ? x[static_cast<size_t>(((n * s.C + c) * s.H + h) * s.W + column)] : 0;
            return add_product(level, sum, w[static_cast<size_t>(k * s.gemm_k() + term)], value);
          }));
        }
  return y;
}

// Ragged against 8 rows, 48 columns, vectors of 4, 8 and 16, and 576 terms.
std::vector<ConvShape> shapes() {
  std::vector<ConvShape> result{
      make_shape({1, 1, 1, 1}, {1, 1, 1}), make_shape({2, 3, 7, 9}, {15, 3, 3}, {.padding = 1}),
      make_shape({1, 65, 6, 8}, {7, 3, 3}, {.padding = 1}),
      make_shape({1, 70, 5, 11}, {70, 3, 3}, {.padding = 1}),
      make_shape({1, 5, 3, 100}, {9, 5, 5}, {.padding = 2}),
      make_shape({1, 2, 30, 31}, {6, 31, 31}, {.padding = 15}), make_shape({3, 577, 4, 13}, {3, 1, 1}),
      make_shape({2, 1153, 1, 1}, {130, 1, 1}),
      make_shape({2, 12, 11, 13}, {18, 3, 3}, {.stride = {2, 3}, .padding = {1, 1, 1, 4}, .groups = 3}),
      make_shape({1, 6, 14, 15}, {6, 3, 3}, {.padding = {5, 9}, .dilation = {2, 4}, .groups = 6}),
      make_shape({1, 3, 20, 60}, {5, 3, 3}, {.stride = {1, 2}, .padding = {-2, -3, 1, -1}}),
      make_shape({1, 2, 4, 5}, {4, 1, 1}, {.stride = {1, 3}, .padding = {2, 30, 0, 60}}),
      make_shape({1, 2, 4, 0}, {3, 3, 3}, {.padding = {1, 2, 1, 1}}),  // nothing but padding
      // Panels that meet groups, strides and padding of either sign.
      make_shape({2, 4, 11, 13}, {140, 3, 3}, {.stride = {2, 3}, .padding = {1, 1, 1, 4}, .groups = 2}),
      make_shape({1, 3, 20, 60}, {66, 3, 3}, {.stride = {1, 2}, .padding = {-2, -3, 1, -1}}),
      make_shape({1, 3, 14, 15}, {65, 3, 3}, {.padding = {5, 9}, .dilation = {2, 4}}),
      make_shape({1, 2, 4, 5}, {70, 1, 1}, {.stride = {1, 3}, .padding = {2, 30, 0, 60}}),
      // Tiles of taps: several down and across, every phase of the strides, output channels divided.
      make_shape({2, 5, 57, 61}, {5, 3, 3}, {.padding = 1, .groups = 5}),
      make_shape({1, 2, 9, 1201}, {2, 1, 7}, {.padding = {0, 3}, .groups = 2}),
      make_shape({1, 6, 31, 33}, {9, 3, 3}, {.stride = 2, .padding = 1, .groups = 3}),
      make_shape({1, 4, 23, 29}, {8, 5, 4}, {.stride = {3, 2}, .padding = {2, 1, 4, 3}, .groups = 2}),
      make_shape({1, 3, 40, 37}, {3, 5, 5},
                 {.stride = {2, 3}, .padding = 7, .dilation = {3, 2}, .groups = 3}),
      make_shape({2, 4, 9, 10}, {8, 1, 1}, {.stride = {3, 2}, .padding = {1, 0}, .groups = 4}),
      make_shape({1, 4, 20, 21}, {4, 3, 3}, {.stride = 2, .padding = {-2, -3, 1, -1}, .groups = 4}),
      make_shape({1, 16, 14, 14}, {40, 3, 3}, {.padding = 1}), make_shape({1, 8, 20, 20}, {33, 3, 3}),
      make_shape({1, 900, 3, 3}, {3, 3, 3}, {.padding = 1, .groups = 3})};  // more taps than those hold
  for (const int64_t columns :
       {1, 2, 3, 4, 49, 52})  // few columns: blocks of rows, several and one, and rows left over
    for (const int64_t c : {3, 130, 583}) result.push_back(make_shape({1, c, 1, columns}, {77, 1, 1}));
  for (const int64_t columns : {1, 2, 4, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 47, 48, 49, 56, 57})
    for (const int64_t k : {1, 4, 7, 9, 10, 12, 15})
      result.push_back(make_shape({1, 2, 1, columns}, {k, 1, 1}));
  return result;
}

GemmShape gemm(int64_t m, int64_t n, int64_t k, bool transpose_b, int64_t count = 1) {
  GemmShape shape = packed_gemm(m, n, k, transpose_b);
  shape.count = count;
  return shape;
}

}  // namespace

TEST_CASE("cpu conv: the promised sums, bit for bit, at every level and with 1, 2, 3 and 8 threads") {
  ThreadPool pools[] = {ThreadPool(1), ThreadPool(2), ThreadPool(3), ThreadPool(8)};
  for (const ConvShape& s : shapes()) {
    CAPTURE(to_string(s));
    validate(s, "conv");
    const Tensor x = uniform({s.N, s.C, s.H, s.W}, 1), w = uniform({s.K, s.C / s.groups, s.R, s.S}, 2);
    for (const CpuLevel level : levels()) {
      CAPTURE(static_cast<int>(level));
      const std::vector<float> expected = conv_in_order(s, level, x.floats(), w.floats());
      check_threads(pools, expected, [&](float* y, ThreadPool* pool) {
        conv_cpu(s, ConvStrides::dense(s), x.floats().data(), w.floats().data(), y, pool, level);
      });
    }
  }
}

TEST_CASE("cpu conv: within the bound of Math::fp32, and threads share what is worth it") {
  const ConvShape s = make_shape({2, 40, 19, 19}, {150, 3, 3}, {.padding = 1});
  const Tensor x = uniform({s.N, s.C, s.H, s.W}, 3), w = uniform({s.K, s.C, s.R, s.S}, 4);
  ThreadPool pools[] = {ThreadPool(2), ThreadPool(3), ThreadPool(8)};
  for (const CpuLevel level : levels()) {
    CAPTURE(static_cast<int>(level));
    std::vector<float> y(static_cast<size_t>(s.N * s.K * s.gemm_n()), kNaN);
    const auto run = [&](float* to, ThreadPool* pool) {
      conv_cpu(s, ConvStrides::dense(s), x.floats().data(), w.floats().data(), to, pool, level);
    };
    run(y.data(), nullptr);
    check_threads(pools, y, run);
    int64_t bad = 0;
    for (int64_t i = 0; i < static_cast<int64_t>(y.size()); ++i) {
      const ConvOutput exact = conv_oracle(s, x.floats(), w.floats(), i);
      const double error = std::abs(y[static_cast<size_t>(i)] - exact.value);
      bad += !(error <= conv_bound(Math::fp32, s, exact, 1));
    }
    CHECK(bad == 0);
  }
}

TEST_CASE("cpu conv: NaN and infinity pass, and an infinite weight that meets padding makes NaN") {
  for (const int64_t groups : {1, 3})  // in panels, and in tiles of taps
    for (const CpuLevel level : levels()) {
      const ConvShape s = make_shape({1, 2 * groups, 5, 20}, {72, 3, 3}, {.padding = 1, .groups = groups});
      CAPTURE(groups);
      CAPTURE(static_cast<int>(level));
      for (const float special : {kNaN, kInf, -kInf}) {
        CAPTURE(special);
        for (const bool in_weights : {false, true}) {
          Tensor x = uniform({1, s.C, s.H, s.W}, 5), w = uniform({s.K, 2, s.R, s.S}, 6);
          (in_weights ? w : x).floats()[in_weights ? 8 * 18 : 47] = special;  // w[8,0,0,0]; x[0,0,2,7]
          Guarded y(s.K * s.gemm_n());
          conv_cpu(s, ConvStrides::dense(s), x.floats().data(), w.floats().data(), y.data(), nullptr, level);
          CHECK(same(y.values(), conv_in_order(s, level, x.floats(), w.floats())));
          const auto at = [&](int64_t k, int64_t p, int64_t q) {
            return y.values()[static_cast<size_t>((k * s.H + p) * s.W + q)];
          };
          CHECK(std::isfinite(at(0, 4, 19)));
          CHECK_FALSE(std::isfinite(in_weights ? at(8, 4, 19) : at(2, 2, 7)));
          if (in_weights) CHECK(std::isnan(at(8, 0, 5)));  // tap (0,0) of the first row is padding
        }
      }
    }
}

TEST_CASE("cpu matmul: the promised sums, bit for bit, at every level and with 1, 2, 3 and 8 threads") {
  std::vector<GemmShape> cases;
  for (const bool transpose_b : {false, true}) {
    for (const int64_t n : {1, 2, 3, 5, 16, 47, 48, 49, 64, 101})
      for (const int64_t m : {1, 3, 8, 13}) cases.push_back(gemm(m, n, 7 + n, transpose_b));
    cases.push_back(gemm(3, 50, 0, transpose_b));
    cases.push_back(gemm(0, 50, 4, transpose_b));
    cases.push_back(gemm(3, 0, 4, transpose_b));
    cases.push_back(gemm(2, 30, 1155, transpose_b));
    cases.push_back(gemm(130, 100, 60, transpose_b));
    cases.push_back(gemm(5, 9, 33, transpose_b, 7));
    cases.push_back(gemm(5, 9, 33, transpose_b, 3));
    cases.back().stride_b = 0;
    cases.push_back(gemm(4, 20, 10, transpose_b, 2));  // rows of B and C with gaps
    cases.back().ld_b += 3, cases.back().ld_c += 5;
    cases.back().stride_b = 700, cases.back().stride_c = 4 * 25;
  }
  ThreadPool pools[] = {ThreadPool(1), ThreadPool(2), ThreadPool(3), ThreadPool(8)};
  for (const GemmShape& s : cases) {
    CAPTURE(s.m);
    CAPTURE(s.n);
    CAPTURE(s.k);
    CAPTURE(s.transpose_b);
    const int64_t b_elems = s.stride_b * (s.count - 1) + s.ld_b * (s.transpose_b ? s.n : s.k);
    const Tensor a = uniform({s.count * s.stride_a}, 7), b = uniform({b_elems}, 8);
    const int64_t c_elems = s.stride_c * (s.count - 1) + s.ld_c * s.m;
    for (const CpuLevel level : levels()) {
      CAPTURE(static_cast<int>(level));
      std::vector<float> expected(static_cast<size_t>(c_elems), kNaN);  // the gaps too
      for (int64_t i = 0; i < s.count; ++i)
        for (int64_t row = 0; row < s.m; ++row)
          for (int64_t col = 0; col < s.n; ++col) {
            const float sum = sum_in_chains(s.k, [&](float part, int64_t k) {
              const int64_t at_b = i * s.stride_b + (s.transpose_b ? col * s.ld_b + k : k * s.ld_b + col);
              return add_product(level, part, a.floats()[static_cast<size_t>(i * s.stride_a + row * s.k + k)],
                                 b.floats()[static_cast<size_t>(at_b)]);
            });
            expected[static_cast<size_t>(i * s.stride_c + row * s.ld_c + col)] = sum;
          }
      check_threads(pools, expected, [&](float* c, ThreadPool* pool) {
        gemm_cpu(s, a.floats().data(), b.floats().data(), c, pool, level);
      });
    }
  }
}

TEST_CASE(
    "cpu elementwise: each function gives the same bits at every level and with 1, 2, 3 and 8 threads") {
  // Half of them of any exponent, half from -64 to 64; NaN is compared as NaN.
  constexpr int64_t kElems = 70'001;
  Tensor x = Tensor::empty({kElems});
  uint32_t bits = 1;
  for (size_t i = 0; float& value : x.floats()) {
    bits = bits * 1664525u + 1013904223u;
    value = ++i % 2 == 0 ? std::bit_cast<float>(bits) : static_cast<float>(static_cast<int>(bits)) * 0x1p-25f;
  }
  for (size_t i = 0;
       const float special : {0.0f, -0.0f, kInf, -kInf, kNaN, 127.99f, 128.0f, -126.0f, -149.5f})
    x.floats()[i++] = special;
  ThreadPool pools[] = {ThreadPool(1), ThreadPool(2), ThreadPool(3), ThreadPool(8)};
  for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16}) {
    CAPTURE(std::string(to_string(dtype)));
    const Tensor source = x.to(dtype);
    const auto view = [&](Tensor& tensor) { return dense_view(tensor.data(), dtype, {kElems}); };
    for (int op = 0; op < kNumUnaryOps + kNumBinaryOps; ++op) {
      CAPTURE(std::string(op_info(static_cast<Op>(op)).name));
      Program program{.num_operands = 2};
      const Source other = is_binary(static_cast<Op>(op)) ? Source::operand : Source::none;
      program.push({static_cast<Op>(op), other, op % 2 == 0, 1, -0.75f, 1.5f});
      program.push({.op = Op::store_output});
      Tensor a = source, b = Tensor::empty({kElems}, dtype), y = Tensor::empty({kElems}, dtype);
      std::memcpy(b.data(), static_cast<const char*>(source.data()) + size_of(dtype) * 1000,
                  static_cast<size_t>(size_of(dtype) * (kElems - 1000)));
      const TensorView operands[] = {view(a), view(b)};
      const auto run = [&](Tensor& to, ThreadPool* pool, CpuLevel level) {
        const TensorView output = view(to);
        elementwise_cpu(program, bind_elementwise(operands, {&output, 1}), pool, level);
      };
      Tensor expected = Tensor::empty({kElems}, dtype);
      run(expected, nullptr, CpuLevel::portable);
      for (const CpuLevel level : levels()) {
        CAPTURE(static_cast<int>(level));
        for (ThreadPool& pool : pools) {
          run(y, &pool, level);
          CHECK(same_bits(y, expected));
        }
      }
    }
  }
}

TEST_CASE("threads: a loop runs each index once, inside another and from two callers as well") {
  for (const int num_threads : {0, 1, 2, 5}) {
    ThreadPool pool(num_threads);
    CHECK(pool.num_threads() == std::max(1, num_threads));
    const auto count_all = [&pool] {
      for (const int64_t count : {0, 1, 2, 3, 100}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(count * 10));
        parallel_for(&pool, count, [&](int64_t i) {
          parallel_for(&pool, 10, [&](int64_t j) { ++seen[static_cast<size_t>(i * 10 + j)]; });
        });
        if (!std::all_of(seen.begin(), seen.end(), [](const auto& times) { return times == 1; }))
          return false;
      }
      return true;
    };
    std::atomic<int> num_right = 0;
    const auto caller = [&] {
      for (int run = 0; run < 200; ++run) num_right += count_all();
    };
    std::thread other(caller);
    caller();
    other.join();
    CHECK(num_right == 400);
  }
}

TEST_CASE("threads: workers round to nearest, whatever the thread did that made them") {
  std::fesetround(FE_UPWARD);
  ThreadPool pool(2);
  std::fesetround(FE_TONEAREST);
  REQUIRE(pool.num_threads() == 2);
  std::atomic<int> num_arrived = 0, num_right = 0;
  parallel_for(&pool, 2, [&](int64_t) {
    num_right += std::fegetround() == FE_TONEAREST;
    for (++num_arrived; num_arrived < 2;) std::this_thread::yield();  // each on a thread of its own
  });
  CHECK(num_right == 2);
}

TEST_CASE("threads: parts cover a range once") {
  ThreadPool pool(3);
  for (const int64_t count : {0, 1, 7, 8, 9, 100}) {
    std::vector<int> visits(static_cast<size_t>(count));
    parallel_parts(&pool, count, 8, [&](int64_t first, int64_t last) {
      if (first % 8 != 0 || last - first > 8) return;  // seen as places left out
      for (int64_t i = first; i < last; ++i) ++visits[static_cast<size_t>(i)];
    });
    CHECK(std::ranges::count(visits, 1) == count);
  }
}

TEST_CASE("threads: SOLDER_THREADS and a limit") {
  {
    const EnvironmentVariable unset("SOLDER_THREADS", nullptr);
    CHECK(num_cpu_threads() >= 1);
    CHECK(num_cpu_threads(1) == 1);
    CHECK_ERROR(num_cpu_threads(-1), invalid_argument, "threads", "-1");
  }
  {
    const EnvironmentVariable three("SOLDER_THREADS", "3");
    CHECK(num_cpu_threads() == 3);
    CHECK(num_cpu_threads(2) == 2);
    CHECK(num_cpu_threads(5) == 3);
  }
  for (const char* wrong : {"", "0", "-2", "two", "2x", "99999999999999", "1025"}) {
    const EnvironmentVariable variable("SOLDER_THREADS", wrong);
    CHECK_ERROR(num_cpu_threads(), invalid_argument, "SOLDER_THREADS", wrong);
  }
}
