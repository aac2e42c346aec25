// The accuracy contract: every unary function against its exact value, on the GPU over all 2^32 float32
// inputs, on the CPU over 2^24 of them. A line a function says its worst input; tests/ACCURACY.md is made of
// these lines (make accuracy).

#include "tests/cases/accuracy.h"

#include <atomic>
#include <cfenv>
#include <cstdio>
#include <fstream>
#include <map>
#include <mutex>
#include <regex>
#include <thread>

#include "runtime/check.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

std::string name_of(const AccuracyCase& c) {
  const std::string params = params_text(c.op, c.p, c.q, ",");
  return to_string(c.op) + (params.empty() ? "" : "(" + params.substr(1) + ")");
}

// y = f(x) as users run it. For double_mish also mish(x), of which it is the exact function, and
// mish(mish(x)), to which it must be equal.
Model model_of(const AccuracyCase& c, int64_t num_elems, Device device) {
  Graph g;
  const Value x = g.input("x", {num_elems});
  g.output("y", g.unary(c.op, x, c.p, c.q));
  if (c.op == Op::double_mish) {
    const Value once = g.mish(x);
    g.output("once", once);
    g.output("twice", g.mish(once));
  }
  return compile(g, {}, {.device = device, .fuse = false});
}

void report(const AccuracyCase& c, Device device, const Worst& worst) {
  const std::string name = name_of(c);
  std::printf(
      "accuracy: %s on %s: %.3f ULP at %.9g, bound %g; subnormal results %.3f steps at %.9g, bound %g; "
      "%llu inputs\n",
      name.c_str(), device.is_cuda() ? "GPU" : "CPU", Worst::ulp(worst.normal), Worst::input(worst.normal),
      c.max_ulp, Worst::ulp(worst.subnormal), Worst::input(worst.subnormal), c.max_steps,
      static_cast<unsigned long long>(worst.num_inputs));
  const float bad_input = std::bit_cast<float>(worst.a_wrong_input);
  INFO(name, " on ", to_string(device), ": worst ", Worst::ulp(worst.normal), " ULP at ",
       Worst::input(worst.normal), ", bound ", c.max_ulp, "; subnormal results ", Worst::ulp(worst.subnormal),
       " steps at ", Worst::input(worst.subnormal), "; one bad input is ", bad_input);
  CHECK(worst.num_wrong == 0);
  CHECK(worst.num_over == 0);
  CHECK(worst.num_different == 0);
  CHECK(Worst::ulp(worst.subnormal) <= c.max_steps);
}

// The i-th of 2^24 inputs: every value of the high 24 bits, the low 8 scattered.
float spread_input(uint32_t i) { return std::bit_cast<float>(i << 8 | (i * 2654435761u >> 24)); }

Worst observe_on_cpu(const AccuracyCase& c, uint32_t num_inputs) {
  constexpr uint32_t kChunk = 1 << 16;
  const Model model = model_of(c, kChunk, Device::cpu());
  std::atomic<uint32_t> next{0};
  std::mutex mutex;
  Worst worst;
  const auto work = [&] {
    Session session = model.session();
    const auto x = session.input("x").floats(), y = session.output("y").floats();
    const bool stepwise = c.op == Op::double_mish;
    const auto oracle_inputs = stepwise ? session.output("once").floats() : x;
    const auto second = stepwise ? session.output("twice").floats() : y;
    Worst mine;
    for (uint32_t first = next.fetch_add(kChunk); first < num_inputs; first = next.fetch_add(kChunk)) {
      for (uint32_t i = 0; i < kChunk; ++i) x[i] = spread_input(first + i);
      session.execute();
      for (uint32_t i = 0; i < kChunk; ++i) {
        observe(mine, c, x[i], exact_value(c.op, c.p, c.q, oracle_inputs[i]), y[i]);
        mine.num_different += bits_of(second[i]) != bits_of(y[i]) && second[i] == second[i];
      }
    }
    const std::lock_guard lock(mutex);
    worst.merge(mine);
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  return worst;
}

#if SOLDER_WITH_CUDA
Worst observe_all_inputs(const AccuracyCase& c) {
  constexpr int64_t kChunk = int64_t{1} << 27, kAll = int64_t{1} << 32;
  Session session = model_of(c, kChunk, Device::cuda(0)).session();
  const auto floats = [](const Tensor& tensor) { return static_cast<float*>(tensor.data()); };
  float* x = floats(session.input("x"));
  const float* y = floats(session.output("y"));
  const bool stepwise = c.op == Op::double_mish;
  const float* oracle_inputs = stepwise ? floats(session.output("once")) : x;
  const float* second = stepwise ? floats(session.output("twice")) : nullptr;

  const auto bytes = [](Worst& worst) { return Tensor::view(&worst, {int64_t{sizeof(Worst)} / 4}); };
  Worst worst;
  const Tensor on_device = bytes(worst).to(Device::cuda(0));
  for (int64_t first = 0; first < kAll; first += kChunk) {
    fill_with_bits(x, static_cast<uint32_t>(first), kChunk, session.stream());
    session.execute();
    observe_on_gpu(static_cast<Worst*>(on_device.data()), c, x, oracle_inputs, y, second, kChunk,
                   session.stream());
  }
  session.synchronize();
  std::memcpy(&worst, on_device.to(Device::cpu()).data(), sizeof(Worst));
  CHECK(worst.num_inputs == kAll);
  return worst;
}
#endif

}  // namespace

std::map<std::string, double> solder::test::stated_bounds() {
  std::ifstream in(SOLDER_TEST_DATA "/../../ops/elementwise/formulas.h");
  const std::regex function(R"(^SOLDER_HD (?:float|void) (\w+)\(float )"),
      bound(R"([Aa]t most ([0-9.]+) ULP|(correctly rounded)|(exact)\b)");
  std::map<std::string, double> stated;
  std::string line, comment;
  while (std::getline(in, line)) {
    std::smatch found, words;
    if (line.starts_with("///")) {
      comment += line.substr(3);
    } else if (std::regex_search(line, found, function)) {
      if (std::regex_search(comment, words, bound))
        stated[found[1]] = words[1].matched ? std::stod(words[1]) : words[2].matched ? 0.5 : 0;
    } else if (line.empty()) {
      comment.clear();
    }
  }
  return stated;
}

TEST_CASE("accuracy: every function states its bound, and every unary one has a case") {
  const std::map<std::string, double> stated = stated_bounds();
  const std::vector<AccuracyCase> cases = accuracy_cases();
  for (const OpInfo& info : kOps) {
    if (!is_unary(info.op) && !is_binary(info.op)) continue;
    INFO(std::string(info.name));
    CHECK(stated.count(info.name) == 1);
    const bool has_case =
        std::any_of(cases.begin(), cases.end(), [&](const auto& c) { return c.op == info.op; });
    CHECK(has_case == is_unary(info.op));
  }
  // As the docstrings had it when this was written: what reads them reads them right.
  CHECK(stated.at("abs") == 0);
  CHECK(stated.at("sqrt") == 0.5);
  CHECK(stated.at("hard_swish") == 2.5);
  CHECK(stated.at("mish") == 4);
  CHECK(stated.at("div") == 0.5);
  CHECK(stated.at("pow") == 8);
}

TEST_CASE("accuracy: special values, and the same at subnormal inputs on the CPU and the GPU") {
  std::vector<float> inputs{-INFINITY, -0.0f, 0.0f, INFINITY, NAN};
  for (uint32_t bits = 1; bits <= 0x00800000; bits = bits * 5 / 4 + 1) {
    inputs.push_back(std::bit_cast<float>(bits));
    inputs.push_back(std::bit_cast<float>(bits | 0x80000000));
  }
  const int64_t size = static_cast<int64_t>(inputs.size());
  for (const AccuracyCase& c : accuracy_cases()) {
    std::vector<Tensor> results;
    for (const Device device : devices()) {
      const TensorMap x{{"x", Tensor::from({size}, inputs)}};
      results.push_back(model_of(c, size, device).session().run(x).at("y"));
      const std::span<float> y = results.back().floats();
      for (size_t i = 0; i < 4; ++i) {
        INFO(name_of(c), " on ", to_string(device), " at ", inputs[i], " is ", y[i], ", not ", c.at[i]);
        const bool right = std::isnan(c.at[i]) ? std::isnan(y[i]) : bits_of(y[i]) == bits_of(c.at[i]);
        CHECK(right);
      }
      CHECK(std::isnan(y[4]));
    }
    // glibc and CUDA round a few logarithms and error functions of subnormal numbers to different neighbours.
    int64_t most_apart = 0;
    for (size_t i = 4; i < inputs.size(); ++i)
      most_apart =
          std::max(most_apart, ulp_distance(results.front().floats()[i], results.back().floats()[i]));
    INFO(name_of(c));
    CHECK(most_apart <= (c.op == Op::log || c.op == Op::erf ? 1 : 0));
  }
}

TEST_CASE("accuracy: the caller's floating-point environment changes no bit, and stays") {
  constexpr int64_t kSize = 1 << 12;
  const Tensor x = Tensor::empty({kSize});
  for (uint32_t i = 0; i < kSize; ++i) x.floats()[i] = spread_input(i << 12);
  const Tensor image = uniform({2, 3, 9, 9}, 1), filter = uniform({4, 3, 3, 3}, 2), a = uniform({7, 33}, 3),
               b = uniform({33, 5}, 4);
  Graph g;
  const Value in = g.input("x", {kSize});
  for (const AccuracyCase& c : accuracy_cases()) g.output(name_of(c), g.unary(c.op, in, c.p, c.q));
  g.output("half", g.cast(in, DType::float16));
  g.output("conv2d", g.conv2d(g.input("image", image.shape()), g.parameter("filter", filter.shape())));
  g.output("matmul", g.matmul(g.input("a", a.shape()), g.parameter("b", b.shape())));
  const auto results = [&] {
    const Model model = compile(g, {{"filter", filter}, {"b", b}}, {.device = Device::cpu()});
    return model.session().run({{"x", x}, {"image", image}, {"a", a}});
  };
  const TensorMap expected = results();
  const auto check = [&](const char* what, auto set) {
    std::fenv_t before;
    std::fegetenv(&before);
    set();
    const int mode = std::fegetround();
    const TensorMap found = results();
    const Tensor half = x.to(DType::float16);
    const bool is_kept = std::fegetround() == mode;
    std::fesetenv(&before);
    INFO(std::string(what));
    CHECK(is_kept);
    CHECK(same_bits(half, x.to(DType::float16)));
    for (const auto& [name, tensor] : expected) {
      INFO(name);
      CHECK(same_bits(tensor, found.at(name)));
    }
  };
  check("upward", [] { std::fesetround(FE_UPWARD); });
  check("downward", [] { std::fesetround(FE_DOWNWARD); });
  check("toward zero", [] { std::fesetround(FE_TOWARDZERO); });
#if defined(__SSE__)
  check("subnormals flushed", [] { __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040); });
#endif
#if defined(__GLIBC__)
  check("traps", [] { ::feenableexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW); });
#endif
}

TEST_CASE("accuracy: 2^24 spread inputs on the CPU") {
  for (const AccuracyCase& c : accuracy_cases()) report(c, Device::cpu(), observe_on_cpu(c, 1u << 24));
}

GPU_TEST_CASE("accuracy: all 2^32 inputs") {
#if SOLDER_WITH_CUDA
  for (const AccuracyCase& c : accuracy_cases()) report(c, Device::cuda(0), observe_all_inputs(c));
#endif
}
