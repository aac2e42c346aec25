// Convolution + bias + mish on the headline model and 40 real-network shapes: median of CUDA-graph replays,
// percent of the bound, path, ratio to im2col + cuBLAS and, with --peers, to PyTorch's cuDNN convolution +
// mish in the same run. x is uniform in [0, 1), as the peers' is; the headline also comes with x of both
// signs, and with what is left of its speed after ten seconds under load. A shape whose result is wrong
// prints no time.
//
//   bench_conv [--math tf32|fp32] [--conv FAMILY] [--peers] [--json FILE] [--headline] [--quick]
//
// --conv takes a family of convolutions in place of what would be chosen, as CompileOptions::conv; --quick leaves out
// the ten seconds under load.

#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "tests/bench/bench.h"
#include "tests/cases/conv_cases.h"

namespace {

using namespace solder;

struct Case {
  std::string name;
  ConvShape shape;
  bool is_headline = false;
  float low = 0, high = 1;  // of x
  double seconds = 0;       // under load

  int num_mish() const { return is_headline ? 2 : 1; }
};

struct Result {
  double ms = 0, sustained_ms = 0, im2col_ms = 0, floor_ms = 0, peer_ms = 0, peer_sustained_ms = 0, error = 0;
  std::string path;
};

struct Options {
  Math math = Math::tf32;
  bool peers = false, headline_only = false, quick = false;
  std::string json, conv;
};

std::vector<Case> cases(const Options& options) {
  const ConvShape headline = test::headline_case().shape;
  const double seconds = options.quick ? 0 : 10;
  std::vector<Case> result{
      {"headline, batch 64", headline, true, 0, 1, seconds},
      {"headline, batch 64, x in [-2, 2)", headline, true, -2, 2, seconds},
      {"headline, batch 1", test::headline_case(1).shape, true},
  };
  if (options.headline_only) return result;
  for (const test::ConvCase& c : test::network_conv_cases()) result.push_back({c.name, c.shape});
  return result;
}

Graph graph_of(const Case& c) {
  const ConvShape& s = c.shape;
  Graph g;
  const Value x = g.input("x", {s.N, s.C, s.H, s.W}), w = g.parameter("w", {s.K, s.C, s.R, s.S});
  Value y = g.conv2d(x, w, g.parameter("b", {s.K}), test::conv_options(s));
  for (int i = 0; i < c.num_mish(); ++i) y = g.mish(y);
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
    const Model model =
        compile(graph_of(c), weights, {.device = gpu, .math = options.math, .conv = options.conv});
    Session session = model.session();
    bench::fill_random(session.input("x"), 13, c.low, c.high);
    const auto execute = [&] { session.execute(); };
    result.ms = bench::median_ms(session.stream(), execute);
    if (c.seconds > 0) result.sustained_ms = bench::sustained_median_ms(session.stream(), execute, c.seconds);
    result.path = model.nodes().back().path;
    fused = session.output("y").to(Device::cpu());
    result.floor_ms =
        bench::floor_median_ms(session.input("x").num_bytes(), fused.num_bytes(), session.stream());
  }
  for (const Math math : {options.math, Math::fp32}) {
    const Model model = compile(graph_of(c), weights, {.device = gpu, .math = math, .conv = "im2col"});
    Session session = model.session();
    bench::fill_random(session.input("x"), 13, c.low, c.high);
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

// PyTorch's times for the same cases into `results`, from conv_peers.py.
void time_peers(const std::vector<Case>& cases, const Options& options, std::vector<Result>& results) {
  std::ostringstream command;
  command << "python3 '" SOLDER_TEST_DATA "/../bench/conv_peers.py' --math " << to_string(options.math);
  for (const Case& c : cases) {
    const ConvShape& s = c.shape;
    command << " '";
    for (const int64_t number : {s.N, s.C, s.H, s.W, s.K, s.R, s.S, s.pad_top, s.pad_left, s.pad_bottom,
                                 s.pad_right, s.stride_h, s.stride_w, s.dil_h, s.dil_w})
      command << number << " ";
    command << c.num_mish() << " " << c.low << " " << c.high << " " << c.seconds << "'";
  }
  FILE* pipe = popen(command.str().c_str(), "r");
  size_t num_read = 0;
  for (Result& r : results)
    num_read += pipe != nullptr && std::fscanf(pipe, "%lf %lf", &r.peer_ms, &r.peer_sustained_ms) == 2;
  if (pipe != nullptr) pclose(pipe);
  if (num_read != results.size()) fail(ErrorKind::io, "the PyTorch peers did not run (see above)");
}

void write_json(const std::vector<Case>& cases, const std::vector<Result>& results, const Options& options) {
  std::ofstream out(options.json);
  out << "[\n";
  for (size_t i = 0; i < cases.size(); ++i) {
    const Result& r = results[i];
    out << "  {\"name\": \"" << cases[i].name << "\", \"shape\": \"" << to_string(cases[i].shape)
        << "\", \"math\": \"" << to_string(options.math) << "\", \"path\": \"" << r.path
        << "\", \"median_ms\": " << r.ms << ", \"sustained_ms\": " << r.sustained_ms
        << ", \"im2col_ms\": " << r.im2col_ms << ", \"read_x_write_y_floor_ms\": " << r.floor_ms
        << ", \"pytorch_ms\": " << r.peer_ms << ", \"pytorch_sustained_ms\": " << r.peer_sustained_ms
        << ", \"relative_frobenius_to_fp32_im2col\": " << r.error << "}" << (i + 1 < cases.size() ? "," : "")
        << "\n";
  }
  out << "]\n";
}

// One line of the table; false where the result is wrong.
bool print(const Case& c, const Result& r, const Options& options, double flops_per_s) {
  if (!(r.error <= (options.math == Math::tf32 ? 1e-3 : 3e-6))) {
    std::printf("%-42s WRONG: relative difference %g from fp32 im2col; %s\n", c.name.c_str(), r.error,
                r.path.c_str());
    return false;
  }
  const double flops = 2 * static_cast<double>(c.shape.num_macs());
  const double arithmetic_ms = flops / flops_per_s * 1e3 * (options.math == Math::fp32 ? 3 : 1);
  std::printf("%-42s %9.4f %8.1f %6.1f%% %8.2f %8.2f  %.60s\n", c.name.c_str(), r.ms, flops / r.ms * 1e-9,
              100 * std::max(r.floor_ms, arithmetic_ms) / r.ms, r.im2col_ms / r.ms, r.peer_ms / r.ms,
              r.path.c_str());
  if (c.seconds > 0)
    std::printf("%-42s %9.4f %8.1f %7s %8s %8.2f\n", "  the same under load", r.sustained_ms,
                flops / r.sustained_ms * 1e-9, "", "", r.peer_sustained_ms / r.sustained_ms);
  std::fflush(stdout);
  return true;
}

int run_all(const Options& options) {
  const std::vector<Case> all = cases(options);
  std::vector<Result> results(all.size());
  if (options.peers) time_peers(all, options, results);
  double flops_per_s = 0;
  {
    Context context(Device::cuda(0));
    context.create_cublas(Context::kDefaultCublasWorkspaceBytes);
    flops_per_s = bench::half_gemm_flops_per_s(context);
    std::printf(
        "%s on %s; ms median of 30 replays; bound: the larger of the memory floor, measured for each shape, "
        "and "
        "the arithmetic at cuBLAS's float16 rate (fp32: a third), now %.0f TFLOP/s\n",
        to_string(options.math), context.info().name.c_str(), flops_per_s * 1e-12);
  }
  std::printf("%-42s %9s %8s %7s %8s %8s  %s\n", "shape", "ms", "TFLOP/s", "%bound", "/im2col", "/torch",
              "path");
  double log_sum = 0;
  int num_shapes = 0, num_wrong = 0, num_slow = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    const Result peer = results[i];
    Result& r = results[i] = run(all[i], options);
    r.peer_ms = peer.peer_ms, r.peer_sustained_ms = peer.peer_sustained_ms;
    if (!print(all[i], r, options, flops_per_s)) {
      ++num_wrong;
    } else if (!all[i].is_headline) {  // which is reported by itself
      log_sum += std::log(r.peer_ms / r.ms);
      num_slow += r.peer_ms < 0.8 * r.ms;
      ++num_shapes;
    }
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
    else if (option == "--conv" && i + 1 < argc)
      options.conv = argv[++i];
    else if (option == "--quick")
      options.quick = true;
    else
      return std::fprintf(stderr, "bench_conv: the first lines of bench_conv.cpp say what it takes\n"), 2;
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
