// The choice of tiles of "nhwc" against measurements: every convolution of ResNet-50 and CSPDarknet53-Mish over 16-bit
// values, every configuration that the kernel takes, 20 launches in a CUDA graph, each of which follows the one before.
// Prints the time of what is chosen over the shortest, by batch: weighted by how often a convolution occurs, and the
// worst. A configuration whose last image differs from that of the first one by more than rounding is said to be WRONG.
//
//   bench_nhwc [--batches 1,16,64] [--size 256] [--headline] [--csv FILE]
//
// --csv writes every configuration's time, predicted and measured; --headline takes the headline's convolution alone.

#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>

#include "ops/conv/nhwc/launch.h"
#include "tests/bench/bench.h"
#include "tests/cases/conv_cases.h"

#if SOLDER_WITH_SM90

namespace networks {  // examples/networks/networks.h, which wants the installed headers
solder::Graph resnet50(const solder::Shape& images, solder::DType dtype);
solder::Graph cspdarknet53_mish(const solder::Shape& images, solder::DType dtype);
}  // namespace networks

namespace {

using namespace solder;

struct Layer {
  ConvShape shape;
  ConvChain activation = ConvChain::bias;
  bool has_residual = false;
  int count = 0;  // in the network

  NhwcWork work() const { return {has_residual, activation >= ConvChain::silu}; }
};

struct Options {
  std::vector<int64_t> batches{1, 16, 64};
  int64_t size = 256;
  bool headline = false;
  std::string csv;
};

// What runs as convolutions of their own: those of a network without its stem.
std::vector<Layer> layers_of(const Graph& graph, ConvChain activation) {
  std::map<std::string, Layer> layers;
  for (const Node& node : graph.nodes()) {
    if (node.kind != NodeKind::conv2d) continue;
    const Shape &x = graph.type(node.inputs[0]).shape, &w = graph.type(node.inputs[1]).shape;
    if (x[1] < 8) continue;
    const auto& o = std::get<Conv2dAttributes>(node.attributes);
    Layer layer{test::make_shape({x[0], x[1], x[2], x[3]}, {w[0], w[2], w[3]},
                                 {.stride = o.stride, .padding = o.padding, .dilation = o.dilation}),
                activation};
    // ResNet-50's last convolution of a block meets the shortcut; CSPDarknet's adds come after an activation.
    layer.has_residual = activation == ConvChain::relu ? node.name.ends_with("conv3")
                                                       : w[2] == 3 && w[0] == w[1] && o.stride == Pair(1);
    Layer& known =
        layers.try_emplace(to_string(layer.shape) + (layer.has_residual ? " + residual" : ""), layer)
            .first->second;
    ++known.count;
  }
  std::vector<Layer> result;
  for (auto& [name, layer] : layers) result.push_back(layer);
  return result;
}

class Bench {
 public:
  explicit Bench(const Options& options) : context_(Device::cuda(0)) {
    if (!options.csv.empty()) csv_.open(options.csv);
    csv_ << "shape;activation;residual;count;tile;fetch;split;predicted_us;us;config\n";
  }

  // The chosen one's microseconds, and the shortest.
  std::pair<double, double> run(const Layer& layer) {
    const ConvShape& s = layer.shape;
    const int64_t pixel = round_up(s.C, 8), out = round_up(s.K, 8);
    const PixelStrides strides{pixel, s.W * pixel, s.H * s.W * pixel};
    PixelCall call{.shape = s, .x_strides = strides, .activation = layer.activation};
    const Device gpu = context_.device();
    Tensor x = Tensor::empty({s.N * strides.image}, DType::float16, gpu),
           bias = Tensor::empty({s.K}, DType::float32, gpu);
    Tensor y = Tensor::empty({s.N * s.gemm_n() * out}, DType::float16, gpu), residual = y;
    Tensor w = Tensor::empty({s.K * s.gemm_k()});
    bench::fill_random(x, 1), bench::fill_random(bias, 2), bench::fill_random(w, 3);
    const float scale = 1 / std::sqrt(static_cast<float>(s.gemm_k()));
    for (float& value : w.floats()) value = float_from_float16(float16_from_float(value * scale));
    call.x = x.data(), call.bias = static_cast<const float*>(bias.data());
    const auto surface = [&](const Tensor& t) {
      return PixelSurface{.data = t.data(),
                          .image = s.gemm_n() * out,
                          .pixel = out,
                          .channel = 1,
                          .by_vectors = true,
                          .pixel_vectors = static_cast<uint32_t>(out / 8)};
    };
    call.y = surface(y);
    if (layer.has_residual) {
      residual = Tensor::empty(y.shape(), DType::float16, gpu);
      bench::fill_random(residual, 4);
      call.residual = surface(residual),
      call.residual_at = layer.activation == ConvChain::relu ? ResidualAt::before : ResidualAt::after;
    }
    std::string why;
    const auto chosen = choose_nhwc_config(s, strides, layer.work(), context_.info().num_sms, &why);
    if (!chosen) fail(ErrorKind::unsupported, str(to_string(s), ": ", why));
    double best_us = INFINITY, chosen_us = INFINITY;
    std::string best;
    std::vector<float> first;
    for (const NhwcFetch fetch : {NhwcFetch::im2col, NhwcFetch::flat, NhwcFetch::window})
      for (int tile = 0; tile < kNumNhwcTiles; ++tile)
        for (int split = 1; split <= kMaxNhwcSplit; split *= 2) {
          const auto c =
              make_nhwc_config(s, strides, layer.work(), context_.info().num_sms, tile, fetch, split, &why);
          if (!c) continue;
          const double us = time_us(call, *c, w);
          const bool is_right = check(y, s.gemm_n() * out, s.N, &first);
          if (!is_right) std::printf("WRONG: %s: %s\n", to_string(s).c_str(), to_string(*c).c_str());
          num_wrong_ += !is_right;
          if (us < best_us) best_us = us, best = to_string(*c);
          const bool is_chosen =
              c->tile == chosen->tile && c->fetch == chosen->fetch && c->split == chosen->split;
          if (is_chosen) chosen_us = us;
          csv_ << to_string(s) << ";" << static_cast<int>(layer.activation) << ";" << layer.has_residual
               << ";" << layer.count << ";" << tile << ";" << static_cast<int>(fetch) << ";" << split << ";"
               << c->predicted_us << ";" << us << ";" << to_string(*c) << "\n";
        }
    std::printf("%2d x %-58s %8.2f us, best %8.2f: %s\n", layer.count,
                (to_string(s) + (layer.has_residual ? " + residual" : "")).c_str(), chosen_us, best_us,
                best.c_str());
    std::fflush(stdout);
    return {chosen_us, best_us};
  }

  int num_wrong() const { return num_wrong_; }

 private:
  double time_us(PixelCall call, const NhwcConfig& config, const Tensor& w) {
    const std::vector<std::byte> packed =
        pack_nhwc_weights(call.shape, config, DType::float16, w.floats().data(),
                          pixel_exponents(call.shape, DType::float16, w.floats().data()));
    const auto weights = allocate(context_.device(), static_cast<int64_t>(packed.size()));
    copy(weights.get(), context_.device(), packed.data(), Device::cpu(), static_cast<int64_t>(packed.size()));
    call.packed = weights.get();
    constexpr int kLaunches = 20;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    SOLDER_CUDA(cudaStreamBeginCapture(context_.stream(), cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < kLaunches; ++i) conv_nhwc(context_, call, config);
    SOLDER_CUDA(cudaStreamEndCapture(context_.stream(), &graph));
    SOLDER_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    const double ms = bench::median_ms(
        context_.stream(), [&] { SOLDER_CUDA(cudaGraphLaunch(exec, context_.stream())); }, 5);
    context_.synchronize();
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    return ms * 1e3 / kLaunches;
  }

  // The last image against that of the first call.
  bool check(const Tensor& y, int64_t image, int64_t num_images, std::vector<float>* first) {
    Tensor last = Tensor::empty({image}, DType::float16);
    copy(last.data(), Device::cpu(), static_cast<const uint16_t*>(y.data()) + (num_images - 1) * image,
         y.device(), image * 2);
    SOLDER_CUDA(cudaMemset(const_cast<void*>(static_cast<const void*>(y.data())), 0xff,
                           static_cast<size_t>(y.num_bytes())));
    std::vector<float> values(static_cast<size_t>(image));
    for (int64_t i = 0; i < image; ++i)
      values[static_cast<size_t>(i)] = load_as_float(last.data(), DType::float16, i);
    if (first->empty()) *first = values;
    for (size_t i = 0; i < values.size(); ++i)
      if (!(std::abs(values[i] - (*first)[i]) <= 4e-3f * (1 + std::abs((*first)[i])))) return false;
    return true;
  }

  Context context_;
  std::ofstream csv_;
  int num_wrong_ = 0;
};

int run_all(const Options& options) {
  Bench bench(options);
  if (options.headline) {
    bench.run({test::headline_case().shape, ConvChain::double_mish, false, 1});
    return bench.num_wrong() == 0 ? 0 : 1;
  }
  for (const int64_t batch : options.batches) {
    double chosen = 0, shortest = 0, worst = 0;
    for (const bool is_resnet : {true, false}) {
      const Shape images{batch, 3, options.size, options.size};
      const Graph graph = is_resnet ? networks::resnet50(images, DType::float32)
                                    : networks::cspdarknet53_mish(images, DType::float32);
      for (const Layer& layer : layers_of(graph, is_resnet ? ConvChain::relu : ConvChain::mish)) {
        const auto [us, best_us] = bench.run(layer);
        chosen += us * layer.count, shortest += best_us * layer.count, worst = std::max(worst, us / best_us);
      }
    }
    std::printf("batch %lld: chosen %.0f us, shortest %.0f us: %.3f; worst %.2f\n",
                static_cast<long long>(batch), chosen, shortest, chosen / shortest, worst);
  }
  return bench.num_wrong() == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--headline") {
      options.headline = true;
    } else if (option == "--size" && i + 1 < argc) {
      options.size = std::atoll(argv[++i]);
    } else if (option == "--csv" && i + 1 < argc) {
      options.csv = argv[++i];
    } else if (option == "--batches" && i + 1 < argc) {
      options.batches.clear();
      std::istringstream list(argv[++i]);
      for (std::string number; std::getline(list, number, ',');)
        options.batches.push_back(std::atoll(number.c_str()));
    } else {
      return std::fprintf(stderr, "bench_nhwc: the first lines of bench_nhwc.cpp say what it takes\n"), 2;
    }
  }
  try {
    std::string why;
    const Device best = Device::best(&why);
    if (!best.is_cuda()) return std::printf("bench_nhwc: skipped: %s\n", why.c_str()), 0;
    if (device_info(best).cc_major != 9) return std::printf("bench_nhwc: skipped: needs a Hopper GPU\n"), 0;
    return run_all(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

#else

int main() { return std::printf("bench_nhwc: skipped: built without Hopper's kernels\n"), 0; }

#endif
