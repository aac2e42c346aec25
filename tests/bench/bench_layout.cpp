// Ops on images of 16-bit values whose channels are innermost, and the edges to and from row-major ones, against a
// device copy of the bytes that they read and write, in the same run: medians on random data. The first image of each
// result is compared with the CPU's; a case whose result is wrong prints no time. Small images are timed as a stream of
// launches in a CUDA graph, as in a network, each of which follows the one before.

#include <cuda_runtime.h>

#include <cstdio>

#include "graph/lower.h"
#include "ops/elementwise/generated.h"
#include "ops/elementwise/pass.h"
#include "ops/pool/pool.h"
#include "ops/reduce/reduce.h"
#include "ops/resize/resize.h"
#include "tests/bench/bench.h"

using namespace solder;

namespace {

enum class Lies { row_major, channels_last, part };  // part: of pixels twice as wide

struct Image {
  Image(const Shape& s, DType dtype, Lies lies_, Device device) : lies(lies_) {
    const int64_t channels = s[1] == 3 ? 8 : s[1];  // of what is channels last
    const int64_t pitch = lies == Lies::part ? 2 * channels : channels;
    memory = Tensor::empty({lies == Lies::row_major ? num_elements(s) : s[0] * s[2] * s[3] * pitch}, dtype,
                           device);
    view = dense_view(memory.data(), dtype, s);
    if (lies != Lies::row_major) view.strides = {s[2] * s[3] * pitch, 1, s[3] * pitch, pitch};
  }
  // The first image, on the CPU.
  Image first() const {
    Image result = *this;
    result.view.shape[0] = 1;
    const int64_t elems = memory.num_elems() / view.shape[0];
    result.memory = Tensor::empty({elems}, view.dtype);
    result.view.data = result.memory.data();
    copy(result.view.data, Device::cpu(), memory.data(), memory.device(), elems * size_of(view.dtype));
    return result;
  }
  // What it takes, not counting others' channels in its pixels.
  int64_t num_bytes() const { return memory.num_bytes() / (lies == Lies::part ? 2 : 1); }

  Lies lies;
  Tensor memory;
  TensorView view;
};

// Elements that differ between two images that lie alike, both on the CPU.
int64_t num_different(const Image& a, const Image& b) {
  int64_t wrong = 0;
  const Shape &s = a.view.shape, &strides = a.view.strides;
  for (int64_t c = 0; c < s[1]; ++c)
    for (int64_t h = 0; h < s[2]; ++h)
      for (int64_t w = 0; w < s[3]; ++w) {
        const int64_t offset = c * strides[1] + h * strides[2] + w * strides[3];
        wrong += load_as_float(a.view.data, a.view.dtype, offset) !=
                 load_as_float(b.view.data, b.view.dtype, offset);
      }
  return wrong;
}

class Bench {
 public:
  explicit Bench(Device gpu) : gpu_(gpu), context_(gpu), info_(device_info(gpu)) {}

  // An op by its CPU loops over views, and bound on the GPU.
  using OnCpu = std::function<void(const std::vector<TensorView>& inputs, const TensorView& y)>;

  void report(const std::string& name, const std::string& how, const std::vector<Image>& inputs, Image& y,
              const Launch& launch, const OnCpu& on_cpu) {
    launch();
    context_.synchronize();
    std::vector<Image> inputs_here;
    std::vector<TensorView> views;
    int64_t bytes = y.num_bytes();
    for (const Image& input : inputs) {
      bytes += input.num_bytes();
      inputs_here.push_back(input.view.shape[0] == y.view.shape[0] ? input.first() : input);
      if (input.view.shape[0] != y.view.shape[0]) inputs_here.back() = bias_here(input);
      views.push_back(inputs_here.back().view);
    }
    const Image result = y.first();
    Image expected = result;
    expected.memory = Tensor::empty(result.memory.shape(), result.view.dtype);
    expected.view.data = expected.memory.data();
    on_cpu(views, expected.view);
    if (const int64_t wrong = num_different(result, expected); wrong > 0) {
      std::printf("  %-58s WRONG: %lld elements of the first image\n", name.c_str(),
                  static_cast<long long>(wrong));
      return;
    }
    if (y.view.shape[0] > 1) {
      const double ms = bench::median_ms(context_.stream(), launch),
                   copy_ms = bench::copy_median_ms(bytes, context_.stream());
      std::printf("  %-58s %8.4f ms %7.1f GB/s %5.1f %% of a copy  %s\n", name.c_str(), ms,
                  static_cast<double>(bytes) / ms * 1e-6, 100 * copy_ms / ms, how.c_str());
    } else {
      const auto from = allocate(gpu_, bytes / 2), to = allocate(gpu_, bytes / 2);
      const double us = graph_us(launch),
                   copy_us = graph_us([&] {
                     SOLDER_CUDA(cudaMemcpyAsync(to.get(), from.get(), static_cast<size_t>(bytes / 2),
                                                 cudaMemcpyDeviceToDevice, context_.stream()));
                   });
      std::printf("  %-58s %8.2f us, a copy %.2f us  %s\n", name.c_str(), us, copy_us, how.c_str());
    }
    std::fflush(stdout);
  }

  // y = `region` of x and others: a bias a channel, or a residual that lies like y.
  enum class Other { bias, residual };
  void elementwise(const std::string& name, const Region& region, const std::vector<Other>& others,
                   const Shape& shape, DType from, Lies x_lies, DType to, Lies y_lies) {
    std::vector<Image> inputs{filled(shape, from, x_lies)};
    for (const Other other : others)
      inputs.push_back(other == Other::bias ? filled({1, shape[1], 1, 1}, to, Lies::row_major)
                                            : filled(shape, to, y_lies));
    Image y(shape, to, y_lies, gpu_);
    const TensorType type{shape, to};
    const Program program = lower(region, false, {&type, 1});
    std::vector<TensorView> operands;
    for (const Image& input : inputs) operands.push_back(input.view);
    ElementwisePass pass(program, operands, {&y.view, 1}, &info_);
    std::vector<std::byte> bytes = pass.constants();
    const auto constants = allocate(gpu_, std::max<int64_t>(1, static_cast<int64_t>(bytes.size())));
    copy(constants.get(), gpu_, bytes.data(), Device::cpu(), static_cast<int64_t>(bytes.size()));
    pass.prepare(context_, kernels_, bytes.empty() ? nullptr : constants.get());
    report(name, pass.words(), inputs, y, pass.bind(&context_, operands, {&y.view, 1}, constants.get()),
           [&](const std::vector<TensorView>& views, const TensorView& result) {
             elementwise_cpu(program, bind_elementwise(views, {&result, 1}));
           });
  }

  void pool(const std::string& name, const Pool2d& pool, const Shape& s, DType dtype) {
    const std::vector<Image> x{filled(s, dtype, Lies::channels_last)};
    Image y({s[0], s[1], pool.h.num_windows(s[2], false), pool.w.num_windows(s[3], false)}, dtype,
            Lies::channels_last, gpu_);
    report(
        name, "", x, y, [&] { pool2d_cuda(context_, pool, x[0].view, y.view); },
        [&](const std::vector<TensorView>& views, const TensorView& result) {
          pool2d_cpu(pool, views[0], result, nullptr);
        });
  }

  void global_mean(const std::string& name, const Shape& s, DType from, DType to) {
    const std::vector<Image> x{filled(s, from, Lies::channels_last)};
    Image y({s[0], s[1], 1, 1}, to, Lies::channels_last, gpu_);
    const std::vector<int> axes{2, 3};
    const auto reduce_of = [&](const TensorView& image, const TensorView& result) {
      return Reduce{Reduction::mean, rows_of(image, repeated_over(result, image.shape, axes), axes), from,
                    to};
    };
    const Reduce reduce = reduce_of(x[0].view, y.view);
    const auto scratch = allocate(gpu_, std::max<int64_t>(1, reduce.scratch_bytes()));
    report(
        name, "", x, y, [&] { reduce_cuda(context_, reduce, x[0].view.data, y.view.data, scratch.get()); },
        [&](const std::vector<TensorView>& views, const TensorView& result) {
          const Reduce here = reduce_of(views[0], result);
          std::vector<float> chunks(static_cast<size_t>(here.scratch_bytes() / 4));
          reduce_cpu(here, views[0].data, result.data, chunks.data(), nullptr);
        });
  }

  // To twice the size.
  void resize(const std::string& name, bool is_blended, const Shape& s, DType dtype) {
    const std::vector<Image> x{filled(s, dtype, Lies::channels_last)};
    Image y({s[0], s[1], 2 * s[2], 2 * s[3]}, dtype, Lies::channels_last, gpu_);
    std::vector<ResizeTap> taps;
    for (const int64_t extent : {s[2], s[3]})
      for (int64_t i = 0; i < 2 * extent; ++i)
        taps.push_back(
            {static_cast<int32_t>(i / 2), is_blended && i % 2 == 1 && i / 2 + 1 < extent ? 0.5f : 0.0f});
    const auto bytes = static_cast<int64_t>(taps.size() * sizeof(ResizeTap));
    const auto table = allocate(gpu_, bytes);
    copy(table.get(), gpu_, taps.data(), Device::cpu(), bytes);
    const auto* rows = static_cast<const ResizeTap*>(table.get());
    const Resize resize{is_blended, is_blended ? 1 : 2};
    report(
        name, "", x, y, [&] { resize_cuda(context_, resize, x[0].view, y.view, rows, rows + 2 * s[2]); },
        [&](const std::vector<TensorView>& views, const TensorView& result) {
          resize_cpu(resize, views[0], result, taps.data(), taps.data() + 2 * s[2], nullptr);
        });
  }

 private:
  Image filled(const Shape& shape, DType dtype, Lies lies) {
    Image image(shape, dtype, lies, gpu_);
    // Making random numbers takes long: the same in each image.
    const Tensor one = Tensor::empty({image.memory.num_elems() / shape[0]}, dtype);
    bench::fill_random(one, ++seed_);
    for (int64_t n = 0; n < shape[0]; ++n)
      copy(static_cast<std::byte*>(image.memory.data()) + n * one.num_bytes(), gpu_, one.data(),
           Device::cpu(), one.num_bytes());
    return image;
  }

  Image bias_here(const Image& bias) {
    Image result = bias;
    result.memory = bias.memory.to(Device::cpu());
    result.view.data = result.memory.data();
    return result;
  }

  // Microseconds a call, of 100 in a graph.
  double graph_us(const std::function<void()>& enqueue) {
    cudaGraph_t graph;
    cudaGraphExec_t recording;
    SOLDER_CUDA(cudaStreamBeginCapture(context_.stream(), cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < 100; ++i) enqueue();
    SOLDER_CUDA(cudaStreamEndCapture(context_.stream(), &graph));
    SOLDER_CUDA(cudaGraphInstantiate(&recording, graph, 0));
    const double ms = bench::median_ms(context_.stream(),
                                       [&] { SOLDER_CUDA(cudaGraphLaunch(recording, context_.stream())); });
    cudaGraphExecDestroy(recording);
    cudaGraphDestroy(graph);
    return ms * 10;
  }

  Device gpu_;
  Context context_;
  DeviceInfo info_;
  ElementwiseKernels kernels_;
  uint64_t seed_ = 0;
};

Pool2d window(bool is_max, int64_t size, int64_t stride, int64_t padding) {
  const PoolAxis axis{size, stride, 1, padding, padding};
  return {.is_max = is_max, .h = axis, .w = axis};
}

void run_shape(Bench& bench, const Shape& s, DType narrow) {
  constexpr Lies kRows = Lies::row_major, kLast = Lies::channels_last, kPart = Lies::part;
  constexpr DType kWide = DType::float32;
  std::printf("%s %s\n", to_string(s).c_str(), to_string(narrow));
  using Other = Bench::Other;
  const Region cast{1, {}, {Arg::operand(0)}};
  const Region add_relu{
      2, {{Op::add, Arg::operand(0), Arg::operand(1)}, {Op::relu, Arg::expr(0)}}, {Arg::expr(1)}};
  Region block{3, add_relu.exprs, {Arg::expr(2)}};
  block.exprs.push_back({Op::add, Arg::expr(1), Arg::operand(2)});
  bench.elementwise("copy", cast, {}, s, narrow, kLast, narrow, kLast);
  bench.elementwise("copy into a part of pixels", cast, {}, s, narrow, kLast, narrow, kPart);
  bench.elementwise("copy from a part of pixels", cast, {}, s, narrow, kPart, narrow, kLast);
  bench.elementwise("cast from float32", cast, {}, s, kWide, kLast, narrow, kLast);
  bench.elementwise("cast to float32", cast, {}, s, narrow, kLast, kWide, kLast);
  bench.elementwise("bias, relu", add_relu, {Other::bias}, s, narrow, kLast, narrow, kLast);
  bench.elementwise("residual, relu", add_relu, {Other::residual}, s, narrow, kLast, narrow, kLast);
  bench.elementwise("bias, relu, residual, into a part of pixels", block, {Other::bias, Other::residual}, s,
                    narrow, kLast, narrow, kPart);
  bench.elementwise("edge: row-major float32 to channels last", cast, {}, s, kWide, kRows, narrow, kLast);
  bench.elementwise("edge: row-major to channels last", cast, {}, s, narrow, kRows, narrow, kLast);
  bench.elementwise("edge: channels last to row-major float32", cast, {}, s, narrow, kLast, kWide, kRows);
  bench.elementwise("edge: channels last to row-major", cast, {}, s, narrow, kLast, narrow, kRows);
  bench.pool("max pool 3x3, stride 2", window(true, 3, 2, 1), s, narrow);
  bench.pool("mean pool 3x3, stride 2", window(false, 3, 2, 1), s, narrow);
  bench.pool("max pool 2x2", window(true, 2, 2, 0), s, narrow);
  for (const int64_t size : {5, 9, 13})
    bench.pool("max pool " + std::to_string(size) + "x" + std::to_string(size) + ", stride 1",
               window(true, size, 1, size / 2), s, narrow);
  bench.global_mean("global mean", s, narrow, narrow);
  bench.global_mean("global mean to float32", s, narrow, kWide);
  bench.resize("nearest, 2x", false, s, narrow);
  bench.resize("bilinear, 2x", true, s, narrow);
}

}  // namespace

int main() {
  try {
    std::string why;
    const Device gpu = Device::best(&why);
    if (!gpu.is_cuda()) {
      std::printf("bench_layout: skipped: %s\n", why.c_str());
      return 0;
    }
    Bench bench(gpu);
    for (const DType narrow : {DType::float16, DType::bfloat16}) {
      for (const Shape& s : {Shape{64, 256, 56, 56}, Shape{64, 64, 112, 112}, Shape{1, 256, 14, 14}})
        run_shape(bench, s, narrow);
      for (const int64_t n : {64, 1}) {
        const Shape s{n, 3, 224, 224};
        std::printf("%s %s\n", to_string(s).c_str(), to_string(narrow));
        bench.elementwise("edge: row-major float32 to 8 channels a pixel", {1, {}, {Arg::operand(0)}}, {}, s,
                          DType::float32, Lies::row_major, narrow, Lies::channels_last);
      }
    }
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
