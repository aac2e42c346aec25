// Ops over images whose channels are innermost, of any count, alone or as a part of wider pixels: bit for bit what they
// give for row-major images on the CPU, and nothing around them is touched.

#include "tests/support/channels_last.h"

#include "graph/lower.h"
#include "ops/elementwise/generated.h"
#include "ops/elementwise/walk.h"
#include "ops/pool/pool.h"
#include "ops/reduce/reduce.h"
#include "ops/resize/resize.h"
#include "runtime/context.h"
#include "runtime/parallel.h"
#include "tests/cases/image_cases.h"
#include "tests/cases/programs.h"
#include "tests/cases/view_cases.h"
#include "tests/support/gpu.h"
#include "tests/support/lying.h"

using namespace solder;
using namespace solder::test;

namespace {

const Lie kRowMajor{"row-major"};

// Every way to lie for x with every one for y would be many: each with itself, the next and row-major.
template <class Body>
void for_lies(int64_t channels, const Body& body) {
  const std::vector<Lie> lies = lies_of(channels);
  if (is_sanitized()) {  // one of them, another each time
    static size_t turn = 0;
    const size_t i = turn++ % lies.size();
    return body(lies[i], lies[(i + 1) % lies.size()]);
  }
  for (size_t i = 0; i < lies.size(); ++i) {
    for (const size_t j : {i, (i + 1) % lies.size(), size_t{0}}) {
      INFO("x ", lies[i].name, ", y ", lies[j].name);
      body(lies[i], lies[j]);
    }
  }
}

// A copy or cast, and a bias a channel, an activation and a residual.
Program program_of(bool is_chain, const TensorType& y) {
  Region region{1, {}, {Arg::operand(0)}};
  if (is_chain) {
    region = {3, {}, {Arg::expr(2)}};
    region.exprs = {{Op::add, Arg::operand(0), Arg::operand(1)},
                    {Op::relu, Arg::expr(0)},
                    {Op::add, Arg::expr(1), Arg::operand(2)}};
  }
  return lower(region, false, {&y, 1});
}

// run(program, operands, outputs) on `device`.
template <class Run>
void check_elementwise(Device device, const std::vector<std::pair<DType, DType>>& dtypes, const Run& run) {
  for (const Shape& shape : {Shape{2, 1, 3, 5}, Shape{1, 3, 9, 37}, Shape{2, 5, 4, 4}, Shape{3, 8, 5, 6},
                             Shape{1, 12, 7, 7}, Shape{2, 20, 6, 8}, Shape{1, 64, 19, 11},
                             Shape{2, 40, 16, 33}, Shape{0, 8, 3, 3}, Shape{2, 8, 0, 4}}) {
    for (const auto& cast : dtypes) {
      const DType from = cast.first, to = cast.second;
      const Tensor x = uniform(shape, 1, -3, 3).to(from), bias = uniform({shape[1], 1, 1}, 2).to(to),
                   residual = uniform(shape, 3).to(to);
      const auto view = [](const Tensor& t) { return dense_view(t.data(), t.dtype(), t.shape()); };
      for (const bool is_chain : {false, true}) {
        const Program program = program_of(is_chain, {shape, to});
        const size_t num_operands = is_chain ? 3 : 1;
        const std::vector<TensorView> dense{view(x), view(bias), view(residual)};
        const Tensor expected = Tensor::empty(shape, to);
        const TensorView y_dense = view(expected);
        elementwise_cpu(program, bind_elementwise(std::span(dense).first(num_operands), {&y_dense, 1}));
        INFO(to_string(shape), " ", to_string(from), " to ", to_string(to), is_chain ? " chain" : " copy");
        for_lies(shape[1], [&](const Lie& x_lie, const Lie& y_lie) {
          const PlacedImage x_there(x, x_lie, device), residual_there(residual, y_lie, device),
              y_there(filled(shape, to, [](const Shape&) { return NAN; }), y_lie, device);
          const Tensor bias_there = bias.to(device);
          const std::vector<TensorView> operands{x_there.view, view(bias_there), residual_there.view};
          run(program, std::span(operands).first(num_operands), std::span(&y_there.view, 1));
          CHECK(same_bits(y_there.values(), expected));
        });
      }
    }
  }
}

const std::vector<std::pair<DType, DType>> kCasts{
    {DType::float32, DType::float16}, {DType::float16, DType::float32},  {DType::bfloat16, DType::bfloat16},
    {DType::float16, DType::float16}, {DType::bfloat16, DType::float32}, {DType::float32, DType::bfloat16},
    {DType::float32, DType::float32}, {DType::float16, DType::bfloat16}};

Pool2d pool_of(const Pool2dOptions& o, bool is_max) {
  const Pair stride = o.stride == Pair(0) ? o.kernel : o.stride;
  return {.is_max = is_max,
          .count_padding = o.count_include_pad,
          .h = {o.kernel.h, stride.h, o.dilation.h, o.padding.top, o.padding.bottom},
          .w = {o.kernel.w, stride.w, o.dilation.w, o.padding.left, o.padding.right}};
}

// run(pool, x, y) on `device`.
template <class Run>
void check_pools(Device device, const Run& run) {
  for (const PoolCase& c : pool_cases()) {
    for (const int64_t channels : {3, 8, 12, 20, 64}) {
      for (const DType dtype : all_dtypes()) {
        for (const bool is_max : {true, false}) {
          const Pool2d pool = pool_of(c.options, is_max);
          const Shape x_shape{c.x[0], channels, c.x[2], c.x[3]};
          const Shape shape{c.x[0], channels, pool.h.num_windows(c.x[2], c.options.ceil_mode),
                            pool.w.num_windows(c.x[3], c.options.ceil_mode)};
          const Tensor x = with_specials(x_shape, dtype, 5), y = Tensor::empty(shape, dtype);
          const Device cpu = Device::cpu();
          const PlacedImage x_dense(x, kRowMajor, cpu), expected(y, kRowMajor, cpu);
          pool2d_cpu(pool, x_dense.view, expected.view, nullptr);
          INFO(c.name, ", ", to_string(x_shape), " ", to_string(dtype), is_max ? " max" : " mean");
          for_lies(channels, [&](const Lie& x_lie, const Lie& y_lie) {
            const PlacedImage x_there(x, x_lie, device), y_there(y, y_lie, device);
            run(pool, x_there.view, y_there.view);
            CHECK(same_bits(y_there.values(), expected.values()));
          });
        }
      }
    }
  }
}

// run(reduce, x, y, scratch) on `device`.
template <class Run>
void check_reductions(Device device, const Run& run) {
  for (const Shape& shape :
       {Shape{2, 3, 5, 6}, Shape{3, 8, 8, 8}, Shape{1, 12, 7, 7}, Shape{2, 20, 1, 33}, Shape{1, 64, 49, 47},
        Shape{2, 24, 2, 2}, Shape{0, 8, 3, 3}, Shape{2, 8, 0, 4}}) {
    for (const auto& cast : kCasts) {
      const DType from = cast.first, to = cast.second;
      for (const std::vector<int>& axes :
           {std::vector<int>{2, 3}, std::vector<int>{1}, std::vector<int>{3}}) {
        for (const Reduction reduction : {Reduction::mean, Reduction::sum, Reduction::max, Reduction::min}) {
          Shape y_shape = shape;
          for (const int axis : axes) y_shape[static_cast<size_t>(axis)] = 1;
          const Tensor x = with_specials(shape, from, 7, reduction == Reduction::max),
                       y = Tensor::empty(y_shape, to);
          const auto reduced = [&](const PlacedImage& image, const PlacedImage& result, Device where,
                                   const auto& by) {
            const Reduce reduce{reduction, rows_of(image.view, repeated_over(result.view, shape, axes), axes),
                                from, to};
            const Tensor scratch = Tensor::empty({reduce.scratch_bytes() / 4}, DType::float32, where);
            by(reduce, image.view.data, result.view.data, scratch.data());
            return result.values();
          };
          const Device cpu = Device::cpu();
          const Tensor expected =
              reduced(PlacedImage(x, kRowMajor, cpu), PlacedImage(y, kRowMajor, cpu), cpu,
                      [](const Reduce& reduce, const void* from_x, void* to_y, void* scratch) {
                        reduce_cpu(reduce, from_x, to_y, scratch, nullptr);
                      });
          INFO(to_string(shape), " ", to_string(from), " to ", to_string(to), ", from axis ", axes[0],
               ", reduction ", static_cast<int>(reduction));
          for_lies(shape[1], [&](const Lie& x_lie, const Lie& y_lie) {
            CHECK(
                same_bits(reduced(PlacedImage(x, x_lie, device), PlacedImage(y, y_lie, device), device, run),
                          expected));
          });
        }
      }
    }
  }
}

// run(resize, x, y, rows, columns) on `device`.
template <class Run>
void check_resizes(Device device, const Run& run) {
  struct Case {
    Shape x;
    Pair size;
    bool is_blended;
    int64_t row_repeats = 1;
  };
  for (const Case& c : {Case{{2, 8, 5, 6}, {10, 12}, false, 2}, Case{{1, 64, 4, 3}, {16, 3}, false, 4},
                        Case{{2, 20, 7, 5}, {4, 9}, false}, Case{{1, 3, 7, 5}, {9, 13}, false},
                        Case{{2, 8, 5, 6}, {10, 12}, true}, Case{{1, 12, 7, 9}, {3, 4}, true},
                        Case{{1, 3, 4, 4}, {7, 6}, true}, Case{{3, 64, 3, 5}, {5, 5}, true},
                        Case{{0, 8, 3, 3}, {6, 6}, false, 2}}) {
    // Along one axis: what each place shows, by the ratio of the extents.
    const auto add_taps = [&](std::vector<ResizeTap>* taps, int64_t in, int64_t out) {
      for (int64_t i = 0; i < out; ++i) {
        const double at = static_cast<double>(i * in) / static_cast<double>(out), low = std::floor(at);
        const float weight =
            c.is_blended && low + 1 < static_cast<double>(in) ? static_cast<float>(at - low) : 0;
        taps->push_back({static_cast<int32_t>(low), weight});
      }
    };
    std::vector<ResizeTap> taps;
    add_taps(&taps, c.x[2], c.size.h);
    add_taps(&taps, c.x[3], c.size.w);
    Tensor table = Tensor::empty({static_cast<int64_t>(2 * taps.size())});
    std::memcpy(table.data(), taps.data(), static_cast<size_t>(table.num_bytes()));
    table = table.to(device);
    const auto* rows = static_cast<const ResizeTap*>(table.data());
    const Resize resize{c.is_blended, c.row_repeats};
    for (const DType dtype : all_dtypes()) {
      const Tensor x = with_specials(c.x, dtype, 9),
                   y = Tensor::empty({c.x[0], c.x[1], c.size.h, c.size.w}, dtype);
      const PlacedImage x_dense(x, kRowMajor, Device::cpu()), expected(y, kRowMajor, Device::cpu());
      resize_cpu(resize, x_dense.view, expected.view, taps.data(), taps.data() + c.size.h, nullptr);
      INFO(to_string(c.x), " ", to_string(dtype), c.is_blended ? " blended" : " nearest");
      for_lies(c.x[1], [&](const Lie& x_lie, const Lie& y_lie) {
        const PlacedImage x_there(x, x_lie, device), y_there(y, y_lie, device);
        run(resize, x_there.view, y_there.view, rows, rows + c.size.h);
        CHECK(same_bits(y_there.values(), expected.values()));
      });
    }
  }
}

}  // namespace

TEST_CASE("channels last: each op's loops are right however images lie") {
  ThreadPool pool(2);
  const Device cpu = Device::cpu();
  check_elementwise(cpu, kCasts, [&](const Program& program, auto operands, auto outputs) {
    elementwise_cpu(program, bind_elementwise(operands, outputs), &pool);
  });
  check_pools(cpu,
              [&](const Pool2d& p, const TensorView& x, const TensorView& y) { pool2d_cpu(p, x, y, &pool); });
  check_reductions(cpu, [&](const Reduce& reduce, const void* x, void* y, void* scratch) {
    reduce_cpu(reduce, x, y, scratch, &pool);
  });
  check_resizes(cpu,
                [&](const Resize& resize, const TensorView& x, const TensorView& y, const ResizeTap* rows,
                    const ResizeTap* columns) { resize_cpu(resize, x, y, rows, columns, &pool); });
}

#if SOLDER_WITH_CUDA
GPU_TEST_CASE("channels last: elementwise programs, interpreted and generated, are the loops' bits") {
  const Device gpu = Device::cuda(0);
  check_elementwise(gpu, kCasts, [](const Program& program, auto operands, auto outputs) {
    run_program_on_gpu(program, bind_elementwise(operands, outputs));
  });
  const CacheFolder cache;
  ElementwiseKernels kernels;
  check_elementwise(
      gpu, {kCasts.begin(), kCasts.begin() + 4}, [&](const Program& program, auto operands, auto outputs) {
        const ElementwiseArgs args = bind_elementwise(operands, outputs);
        if (args.num_elems == 0) return;
        std::string how;
        run_program_on_gpu(program, args, kernels.get(elementwise_source(program, args), gpu, &how));
        CHECK(how.starts_with("generated"));
      });
}

GPU_TEST_CASE("channels last: pools, reductions and resizes are the loops' bits") {
  const Context context(Device::cuda(0));
  check_pools(Device::cuda(0), [&](const Pool2d& pool, const TensorView& x, const TensorView& y) {
    pool2d_cuda(context, pool, x, y);
    context.synchronize();
  });
  check_reductions(Device::cuda(0), [&](const Reduce& reduce, const void* x, void* y, void* scratch) {
    reduce_cuda(context, reduce, x, y, scratch);
    context.synchronize();
  });
  check_resizes(Device::cuda(0), [&](const Resize& resize, const TensorView& x, const TensorView& y,
                                     const ResizeTap* rows, const ResizeTap* columns) {
    resize_cuda(context, resize, x, y, rows, columns);
    context.synchronize();
  });
}
#endif
