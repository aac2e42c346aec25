// The headline model: x [N,64,S,S] -> Conv2d(64, 128, kernel 3, bias) -> mish -> mish, timed and checked.
//
// The road from here to the GPU: build_graph() below -> compile() -> fuse() -> the plan of the conv2d node ->
// plan_conv(), which chooses the family of convolutions -> the rows kernel.
#include <solder/solder.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <iomanip>
#include <iostream>
#include <optional>
#include <random>
#include <vector>

#include "device_option.h"

namespace {

using solder::Tensor;

constexpr int64_t kInChannels = 64, kOutChannels = 128, kKernel = 3;

constexpr const char* kUsage = R"(conv_double_mish: x -> Conv2d(64, 128, 3) -> mish -> mish
  --batch N        images (default 64 on a GPU, 1 on the CPU; or what --input holds)
  --size S         image height and width (default 256)
  --device D       cpu, cuda, cuda:N or best (default)
  --math M         fp32 (default) or tf32
  --input F.npy    x, float32 [N, 64, S, S]; random without it
  --weights F.safetensors   conv.weight [128, 64, 3, 3] and conv.bias [128]; random without it
  --output F.npy   writes y
  --iters N        timed runs (default 20 on a GPU, 1 on the CPU)
  --check          compares sampled outputs with float64 and fails on excess error
  --workspace B    bytes of scratch memory (default 256 MiB)
  --no-fuse        runs every node by itself
  --dump-graph     prints the plan of every node and value too
)";

struct Options {
  std::optional<int64_t> batch, iters;
  int64_t size = 256;
  std::string device = "best", input, weights, output;
  bool check = false, dump_graph = false;
  solder::CompileOptions compile;
};

[[noreturn]] void usage_error(const std::string& message) {
  std::cerr << message << "\n" << kUsage;
  std::exit(2);
}

int64_t to_number(const std::string& option, const std::string& text) {
  try {
    size_t used = 0;
    const int64_t value = std::stoll(text, &used);
    if (used == text.size() && value > 0) return value;
  } catch (const std::exception&) {
  }
  usage_error(option + " takes a positive number, not \"" + text + "\"");
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) usage_error(option + " needs a value");
      return argv[++i];
    };
    if (option == "--batch")
      options.batch = to_number(option, value());
    else if (option == "--size")
      options.size = to_number(option, value());
    else if (option == "--iters")
      options.iters = to_number(option, value());
    else if (option == "--workspace")
      options.compile.workspace_bytes = to_number(option, value());
    else if (option == "--device")
      options.device = value();
    else if (option == "--input")
      options.input = value();
    else if (option == "--weights")
      options.weights = value();
    else if (option == "--output")
      options.output = value();
    else if (option == "--check")
      options.check = true;
    else if (option == "--no-fuse")
      options.compile.fuse = false;
    else if (option == "--dump-graph")
      options.dump_graph = true;
    else if (option == "--math") {
      const std::string math = value();
      if (math != "fp32" && math != "tf32") usage_error("--math takes fp32 or tf32");
      options.compile.math = math == "tf32" ? solder::Math::tf32 : solder::Math::fp32;
    } else if (option == "--help") {
      std::cout << kUsage;
      std::exit(0);
    } else {
      usage_error("unknown option " + option);
    }
  }
  return options;
}

solder::Graph build_graph(int64_t batch, int64_t size) {
  solder::Graph g;
  auto x = g.input("x", {batch, kInChannels, size, size});
  auto w = g.parameter("conv.weight", {kOutChannels, kInChannels, kKernel, kKernel});
  auto b = g.parameter("conv.bias", {kOutChannels});
  g.output("y", g.mish(g.mish(g.conv2d(x, w, b, {.name = "conv"}))));
  return g;
}

Tensor uniform(const solder::Shape& shape, uint64_t seed, float low, float high) {
  Tensor tensor = Tensor::empty(shape);
  for (float& value : tensor.floats()) {  // splitmix64: fast enough for a gigabyte of input
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    value = low + (high - low) * static_cast<float>((z ^ (z >> 31)) >> 40) * 0x1p-24f;
  }
  return tensor;
}

// Compares sampled outputs with float64. The bound on the convolution is Math's contract (K terms, A the
// largest |x| of the image); mish stretches an error by at most 1.09, and its own rounding is a few ULP.
bool check(const Tensor& x, const Tensor& w, const Tensor& b, const Tensor& y, solder::Math math) {
  const auto xs = x.floats(), ws = w.floats(), bs = b.floats(), ys = y.floats();
  const int64_t size = x.shape()[2], P = y.shape()[2], image_elems = kInChannels * size * size;
  constexpr int64_t kTerms = kInChannels * kKernel * kKernel;
  const auto mish = [](double v) { return v * std::tanh(std::log1p(std::exp(v))); };
  std::mt19937_64 engine(7);
  const int64_t samples = std::min<int64_t>(20000, y.num_elems());
  int64_t bad = 0;
  double worst = 0, error_squared = 0, reference_squared = 0;
  std::vector<float> image_max(static_cast<size_t>(x.shape()[0]), -1.0f);
  for (int64_t sample = 0; sample < samples; ++sample) {
    const int64_t index = sample < 2 ? sample * (y.num_elems() - 1)  // the first and the last output always
                                     : static_cast<int64_t>(engine() % static_cast<uint64_t>(y.num_elems()));
    const int64_t q = index % P, p = index / P % P, k = index / (P * P) % kOutChannels,
                  n = index / (P * P * kOutChannels);
    float& largest = image_max[static_cast<size_t>(n)];
    if (largest < 0) {
      for (int64_t i = 0; i < image_elems; ++i)
        largest = std::max(largest, std::abs(xs[static_cast<size_t>(n * image_elems + i)]));
    }
    double sum = 0, sum_abs = 0, sum_w = 0;
    for (int64_t c = 0; c < kInChannels; ++c) {
      for (int64_t tap = 0; tap < kKernel * kKernel; ++tap) {
        const int64_t h = p + tap / kKernel, column = q + tap % kKernel;
        const double xv = xs[static_cast<size_t>(((n * kInChannels + c) * size + h) * size + column)];
        const double wv = ws[static_cast<size_t>((k * kInChannels + c) * kKernel * kKernel + tap)];
        sum += xv * wv;
        sum_abs += std::abs(xv * wv);
        sum_w += std::abs(wv);
      }
    }
    const double reference = mish(mish(sum + bs[static_cast<size_t>(k)]));
    const double conv_bound = math == solder::Math::tf32
                                  ? 0x1p-10 * sum_abs + 0x1p-24 * largest * sum_w
                                  : kTerms * 0x1p-24 * sum_abs + 0x1p-32 * largest * sum_w;
    const double bound = 1.19 * (conv_bound + 0x1p-23 * std::abs(sum)) + 8 * 0x1p-23 * std::abs(reference);
    const double error = std::abs(ys[static_cast<size_t>(index)] - reference);
    worst = std::max(worst, error / bound);
    error_squared += error * error;
    reference_squared += reference * reference;
    if (!(error <= bound)) ++bad;  // a NaN is bad
  }
  std::cout << "check: " << samples << " outputs against float64: relative Frobenius error "
            << std::sqrt(error_squared / reference_squared) << ", worst error " << worst << " of its bound, "
            << bad << " out of bound\n";
  return bad == 0;
}

int run(const Options& options) {
  const auto device = find_device(options.device);
  if (!device) usage_error(solder::str("--device takes ", kDeviceNames));
  solder::CompileOptions compile_options = options.compile;
  compile_options.device = *device;
  const bool on_gpu = device->is_cuda();

  Tensor x;
  if (!options.input.empty()) {
    x = solder::load_npy(options.input);
  } else {
    const int64_t batch = options.batch.value_or(on_gpu ? 64 : 1);
    x = uniform({batch, kInChannels, options.size, options.size}, 1, 0, 1);
  }
  solder::TensorMap weights;
  if (!options.weights.empty()) {
    weights = solder::load_safetensors(options.weights);
  } else {
    const float range = 1.0f / 24;  // 1 / sqrt(64 * 3 * 3), PyTorch's initialisation
    weights["conv.weight"] = uniform({kOutChannels, kInChannels, kKernel, kKernel}, 2, -range, range);
    weights["conv.bias"] = uniform({kOutChannels}, 3, -range, range);
  }
  if (x.shape().size() != 4 || x.shape()[2] != x.shape()[3]) usage_error("--input must be [N, 64, S, S]");
  const int64_t batch = x.shape()[0], size = x.shape()[2];
  if (options.batch && *options.batch != batch) usage_error("--batch differs from what --input holds");

  const solder::Graph graph = build_graph(batch, size);
  const solder::Model model = solder::compile(graph, weights, compile_options);
  std::cout << "as written:\n" << dump(graph) << "as run:\n";
  std::cout << (options.dump_graph ? model.describe() : dump(model.graph()));
  std::cout << "peak " << model.peak_bytes() << " B: weights " << model.weights_bytes() << " B, values "
            << model.memory().values_bytes << " B, scratch "
            << model.session_bytes() - model.memory().values_bytes << " B\n";

  solder::Session session = model.session();
  const Tensor y = session.run({{"x", x}}).at("y");

  const int64_t iters = options.iters.value_or(on_gpu ? 20 : 1);
  std::vector<double> times_ms;
  for (int64_t i = 0; i < iters; ++i) {
    const auto start = std::chrono::steady_clock::now();
    session.execute();
    session.synchronize();
    times_ms.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(times_ms.begin(), times_ms.end());
  const double ms = times_ms[times_ms.size() / 2];
  const double flop = 2.0 * static_cast<double>(y.num_elems()) * kInChannels * kKernel * kKernel;
  const double bytes = static_cast<double>(x.num_bytes() + y.num_bytes());
  std::cout << std::setprecision(4) << "y " << solder::to_string(y.shape()) << " on "
            << solder::to_string(compile_options.device) << " with " << to_string(compile_options.math)
            << ": median " << ms << " ms of " << iters << " (" << times_ms.front() << " to "
            << times_ms.back() << "), " << flop / ms * 1e-9 << " TFLOP/s, " << bytes / ms * 1e-6 << " GB/s";
  if (on_gpu) {
    // The bound: x read once and y written once, at the rate of a device copy on this card.
    const double copy_bytes_per_ms = 1e-3 * session.profile(1).copy_bytes_per_s;
    std::cout << ", " << 100 * bytes / copy_bytes_per_ms / ms << "% of the memory bound (a device copy moves "
              << copy_bytes_per_ms * 1e-6 << " GB/s)";
  }
  std::cout << "\n";
  if (!options.output.empty()) solder::save_npy(options.output, y);
  if (!options.check) return 0;
  return check(x, weights.at("conv.weight"), weights.at("conv.bias"), y, compile_options.math) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(parse(argc, argv));
  } catch (const solder::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
