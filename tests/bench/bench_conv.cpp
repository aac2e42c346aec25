// Convolution + bias + mish on the headline model and 40 real-network shapes: median of CUDA-graph replays,
// percent of the bound, path, ratio to im2col + cuBLAS and, with --peers, to PyTorch's cuDNN convolution +
// mish in the same run. A shape whose result is wrong prints no time.
//
//   bench_conv [--math tf32|fp32] [--peers] [--json FILE] [--headline]

#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "tests/bench/bench.h"
#include "tests/cases/conformance.h"

namespace {

using namespace solder;

struct Case {
  std::string name;
  ConvShape shape;
  int num_mish = 1;
};

struct Result {
  double ms = 0, im2col_ms = 0, floor_ms = 0, peer_ms = 0, error = 0;
  std::string path;
};

struct Options {
  Math math = Math::tf32;
  bool peers = false, headline_only = false;
  std::string json;
};

// Every sixth distinct shape of conv_shapes.csv that has one group and at least 0.5 GMAC: smaller ones
// measure launches. A systematic sample, so that nobody picks favourites.
std::vector<Case> cases(bool headline_only) {
  const ConvShape headline{.N = 64, .C = 64, .H = 256, .W = 256, .K = 128, .R = 3, .S = 3};
  ConvShape single = headline;
  single.N = 1;
  std::vector<Case> result{{"headline, batch 64", headline, 2}, {"headline, batch 1", single, 2}};
  if (headline_only) return result;
  constexpr size_t kEvery = 6;
  std::set<std::string> seen;
  size_t eligible = 0;
  for (const test::CsvRow& row : test::read_conformance("conv_shapes.csv")) {
    const ConvShape shape = test::conv_shape(row);
    if (shape.groups != 1 || shape.num_macs() < 500'000'000 || row.at("sym_pad_ok") != "1") continue;
    if (!seen.insert(to_string(shape)).second) continue;
    if (eligible++ % kEvery == 0) result.push_back({row.at("name"), shape, 1});
  }
  return result;
}

Graph graph_of(const Case& c) {
  const ConvShape& s = c.shape;
  Graph g;
  const Value x = g.input("x", {s.N, s.C, s.H, s.W}), w = g.parameter("w", {s.K, s.C, s.R, s.S});
  Value y = g.conv2d(x, w, g.parameter("b", {s.K}),
                     {.stride = {s.stride_h, s.stride_w},
                      .padding = {s.pad_top, s.pad_left, s.pad_bottom, s.pad_right},
                      .dilation = {s.dil_h, s.dil_w}});
  for (int i = 0; i < c.num_mish; ++i) y = g.mish(y);
  g.output("y", y);
  return g;
}

// Relative Frobenius difference over every 97th element.
double difference(const Tensor& a, const Tensor& b) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < a.floats().size(); i += 97) {
    const double x = a.floats()[i], y = b.floats()[i];
    error += (x - y) * (x - y);
    norm += y * y;
  }
  return std::sqrt(error / norm);
}

Result run(const Case& c, const Options& options) {
  const ConvShape& s = c.shape;
  const Device gpu = Device::cuda(0);
  Tensor w = Tensor::empty({s.K, s.C, s.R, s.S}), b = Tensor::empty({s.K});
  bench::fill_random(w, 11);
  bench::fill_random(b, 12);
  const float scale = 1 / std::sqrt(static_cast<float>(s.gemm_k()));
  for (float& value : w.floats()) value *= scale;
  const TensorMap weights{{"w", w}, {"b", b}};
  Result result;
  Tensor fused, reference;
  {
    const Model model = compile(graph_of(c), weights, {.device = gpu, .math = options.math});
    Session session = model.session();
    bench::fill_random(session.input("x"), 13);
    result.ms = bench::median_ms(session.stream(), [&] { session.execute(); });
    result.path = model.nodes().back().path;
    fused = session.output("y").to(Device::cpu());
    result.floor_ms =
        bench::floor_median_ms(session.input("x").num_bytes(), fused.num_bytes(), session.stream());
  }
  for (const Math math : {options.math, Math::fp32}) {
    const Model model =
        compile(graph_of(c), weights, {.device = gpu, .math = math, .conv = ConvAlgorithm::im2col});
    Session session = model.session();
    bench::fill_random(session.input("x"), 13);
    if (math == options.math)
      result.im2col_ms = bench::median_ms(
          session.stream(), [&] { session.execute(); }, 10);
    session.execute();
    session.synchronize();
    reference = session.output("y").to(Device::cpu());
  }
  result.error = difference(fused, reference);
  return result;
}

// PyTorch's times for the same shapes, from tests/bench/conv_peers.py.
std::vector<double> peer_times(const std::vector<Case>& cases, const Options& options) {
  std::ostringstream command;
  command << "python3 '" SOLDER_TEST_DATA "/../bench/conv_peers.py' --math " << to_string(options.math);
  for (const Case& c : cases) {
    const ConvShape& s = c.shape;
    command << " '";
    for (const int64_t number : {s.N, s.C, s.H, s.W, s.K, s.R, s.S, s.pad_top, s.pad_left, s.pad_bottom,
                                 s.pad_right, s.stride_h, s.stride_w, s.dil_h, s.dil_w})
      command << number << " ";
    command << c.num_mish << "'";
  }
  std::vector<double> times;
  FILE* pipe = popen(command.str().c_str(), "r");
  for (double ms = 0; pipe != nullptr && std::fscanf(pipe, "%lf", &ms) == 1;) times.push_back(ms);
  if (pipe != nullptr) pclose(pipe);
  if (times.size() != cases.size()) fail(ErrorKind::io, "the PyTorch peers did not run (see above)");
  return times;
}

void write_json(const std::vector<Case>& cases, const std::vector<Result>& results, const Options& options) {
  std::ofstream out(options.json);
  out << "[\n";
  for (size_t i = 0; i < cases.size(); ++i) {
    const Result& r = results[i];
    out << "  {\"name\": \"" << cases[i].name << "\", \"shape\": \"" << to_string(cases[i].shape)
        << "\", \"math\": \"" << to_string(options.math) << "\", \"path\": \"" << r.path
        << "\", \"median_ms\": " << r.ms << ", \"im2col_ms\": " << r.im2col_ms
        << ", \"read_x_write_y_floor_ms\": " << r.floor_ms << ", \"pytorch_ms\": " << r.peer_ms
        << ", \"relative_frobenius_to_fp32_im2col\": " << r.error << "}" << (i + 1 < cases.size() ? "," : "")
        << "\n";
  }
  out << "]\n";
}

int run_all(const Options& options) {
  const std::vector<Case> all = cases(options.headline_only);
  const std::vector<double> peers =
      options.peers ? peer_times(all, options) : std::vector<double>(all.size());
  std::vector<Result> results;
  double log_sum = 0;
  int num_shapes = 0, num_wrong = 0, num_slow = 0;
  std::printf(
      "%s; ms median of 30 replays; bound: the larger of the measured memory floor and the arithmetic\n",
      to_string(options.math));
  std::printf("%-42s %9s %8s %7s %8s %8s  %s\n", "shape", "ms", "TFLOP/s", "%bound", "/im2col", "/torch",
              "path");
  for (size_t i = 0; i < all.size(); ++i) {
    Result r = run(all[i], options);
    r.peer_ms = peers[i];
    results.push_back(r);
    const double tflop = 2e-12 * static_cast<double>(all[i].shape.num_macs());
    // 670 TFLOP/s: cuBLAS's measured float16 rate on an H100; fp32 takes three such passes.
    const double arithmetic_ms = tflop / 670 * 1e3 * (options.math == Math::fp32 ? 3 : 1);
    const double bound_ms = std::max(r.floor_ms, arithmetic_ms);
    if (!(r.error <= (options.math == Math::tf32 ? 1e-3 : 3e-6))) {
      std::printf("%-42s WRONG: relative difference %g from fp32 im2col; %s\n", all[i].name.c_str(), r.error,
                  r.path.c_str());
      ++num_wrong;
      continue;
    }
    std::printf("%-42s %9.4f %8.1f %6.1f%% %8.2f %8.2f  %.60s\n", all[i].name.c_str(), r.ms,
                tflop / r.ms * 1e3, 100 * bound_ms / r.ms, r.im2col_ms / r.ms, r.peer_ms / r.ms,
                r.path.c_str());
    std::fflush(stdout);
    if (i < 2) continue;  // the headline is reported by itself
    log_sum += std::log(r.peer_ms / r.ms);
    num_slow += r.peer_ms < 0.8 * r.ms;
    ++num_shapes;
  }
  if (options.peers && num_shapes > 0)
    std::printf("geometric mean against PyTorch over %d shapes: %.3f times faster; %d slower than 0.8\n",
                num_shapes, std::exp(log_sum / num_shapes), num_slow);
  if (!options.json.empty()) write_json(all, results, options);
  return num_wrong == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--peers")
      options.peers = true;
    else if (option == "--headline")
      options.headline_only = true;
    else if (option == "--math" && i + 1 < argc)
      options.math = std::strcmp(argv[++i], "fp32") == 0 ? Math::fp32 : Math::tf32;
    else if (option == "--json" && i + 1 < argc)
      options.json = argv[++i];
    else
      return std::fprintf(stderr, "bench_conv [--math tf32|fp32] [--peers] [--json FILE] [--headline]\n"), 2;
  }
  try {
    std::string why;
    if (!Device::best(&why).is_cuda()) return std::printf("bench_conv: skipped: %s\n", why.c_str()), 0;
    return run_all(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
