// Convolutions and matrix products whose tensors are not what their ops take: in 16 bits, with channels innermost,
// several results. By the bits of the same node on dense float32 tensors, rounded where it stores.

#include <algorithm>

#include "graph/nodes/node_def.h"
#include "tests/cases/conv_cases.h"
#include "tests/support/lying.h"

using namespace solder;
using namespace solder::test;

namespace {

constexpr DType kTypes[] = {DType::float32, DType::float16, DType::bfloat16};

// How tensors [N,C,H,W] lie.
enum class Order { dense, spread, pixels };
constexpr Order kOrders[] = {Order::dense, Order::spread, Order::pixels};

TensorView lying(const Shape& shape, DType dtype, Order order) {
  TensorView view = dense_view(nullptr, dtype, shape);
  if (shape.size() != 4) return view;
  const int64_t pitch = (shape[1] + 7) / 8 * 8;
  if (order == Order::spread) view.strides[0] += 6;
  if (order == Order::pixels) view.strides = {shape[2] * shape[3] * pitch, 1, shape[3] * pitch, pitch};
  return view;
}

int64_t place_of(const TensorView& view, const Shape& index) {
  int64_t place = 0;
  for (size_t axis = 0; axis < index.size(); ++axis) place += index[axis] * view.strides[axis];
  return place;
}

// Memory that a view lies in, full of NaN.
Tensor memory_of(const TensorView& view) {
  Shape last = view.shape;
  for (int64_t& extent : last) --extent;
  return filled({place_of(view, last) + 1}, view.dtype, [](const Shape&) { return NAN; });
}

// One output of the node: its dtype, how it lies, and what of the region it is.
struct Stored {
  DType dtype;
  Order order;
  Arg what;
};

// Runs the node on the CPU with its inputs and outputs as said; the outputs as dense float32 tensors.
std::vector<Tensor> run_node(Node node, const std::vector<Tensor>& tensors, std::vector<TensorView> inputs,
                             const std::vector<Stored>& stored, const Shape& y) {
  node.outputs.clear(), node.epilogue.region.outputs.clear();
  std::vector<TensorView> outputs;
  for (const Stored& output : stored) {
    node.outputs.push_back({y, output.dtype});
    node.epilogue.region.outputs.push_back(output.what);
    outputs.push_back(lying(y, output.dtype, output.order));
  }
  const PlanRequest request{.node = node,
                            .inputs = inputs,
                            .outputs = outputs,
                            .offsets = std::vector<int64_t>(inputs.size() + outputs.size()),
                            .weight = [](size_t) { return ConvWeights(); },
                            .scaled_inputs = std::vector<std::vector<ScaledChannels>>(inputs.size()),
                            .workspace_bytes = 1 << 20};
  const auto run = node_def(node.kind).plan(request);
  std::vector<Tensor> memory;
  const auto place = [&](TensorView& view) {
    memory.push_back(memory_of(view));
    view.data = memory.back().data();
  };
  for (size_t i = 0; i < inputs.size(); ++i) {
    place(inputs[i]);
    for_each_index(inputs[i].shape, [&](const Shape& index) {
      store_from_float(inputs[i].data, inputs[i].dtype, place_of(inputs[i], index),
                       value_at(tensors[i], index));
    });
  }
  for (TensorView& output : outputs) place(output);
  memory.push_back(Tensor::empty({run->plan.workspace_bytes / 4 + 1}));
  std::ranges::fill(memory.back().floats(), NAN);
  run->bind({.inputs = inputs, .outputs = outputs, .scratch = memory.back().data()}, nullptr)();
  std::vector<Tensor> results;
  for (const TensorView& output : outputs)
    results.push_back(filled(y, DType::float32, [&](const Shape& index) {
      return load_as_float(output.data, output.dtype, place_of(output, index));
    }));
  return results;
}

// A node of two inputs with an epilogue: b + s, relu of it, and + r.
struct Case {
  Node node;
  std::vector<Shape> shapes;  // x, w, b, r
  Shape y;
};

Case case_of(NodeKind kind, Attributes attributes, const std::vector<Shape>& shapes, const Shape& y) {
  Node node{
      .kind = kind, .name = "node", .inputs = std::vector<Value>(4), .attributes = std::move(attributes)};
  node.epilogue.region = {.num_operands = 2,
                          .exprs = {{Op::add, Arg::result(), Arg::operand(0), 0, 0},
                                    {Op::relu, Arg::expr(0), {}, 0, 0},
                                    {Op::add, Arg::expr(1), Arg::operand(1), 0, 0}}};
  node.epilogue.operand_shapes = {shapes[2], shapes[3]};
  return {std::move(node), shapes, y};
}

std::vector<Case> cases() {
  return {case_of(NodeKind::conv2d, Conv2dAttributes{.padding = 1, .is_narrow = true},
                  {{3, 5, 6, 7}, {3, 5, 3, 3}, {3, 1, 1}, {3, 3, 6, 7}}, {3, 3, 6, 7}),
          case_of(NodeKind::conv2d, Conv2dAttributes{.stride = 2, .groups = 2, .is_narrow = true},
                  {{1, 4, 6, 7}, {6, 2, 2, 2}, {1, 6, 1, 1}, {1, 6, 3, 3}}, {1, 6, 3, 3}),
          case_of(NodeKind::matmul, MatmulAttributes{.transpose_b = true, .is_narrow = true},
                  {{5, 9}, {4, 9}, Shape(1, 4), {5, 4}}, {5, 4}),
          case_of(NodeKind::matmul, MatmulAttributes{.is_narrow = true},
                  {{2, 3, 5, 9}, {2, 3, 9, 4}, Shape(1, 4), {2, 3, 5, 4}}, {2, 3, 5, 4})};
}

}  // namespace

TEST_CASE("conv2d, matmul: whatever their tensors' types and strides, the bits of dense float32 ones") {
  for (const Case& c : cases()) {
    for (const DType x_type : kTypes)
      for (const DType w_type : kTypes)
        for (const Order x_order : kOrders) {
          if (c.node.kind == NodeKind::matmul && x_order != Order::dense) continue;
          std::vector<Tensor> tensors;
          std::vector<TensorView> dense, mixed;
          for (size_t i = 0; i < c.shapes.size(); ++i) {
            const DType dtype = i == 1 ? w_type : x_type;
            tensors.push_back(uniform(c.shapes[i], i + 1, -2, 2).to(dtype).to(DType::float32));
            dense.push_back(lying(c.shapes[i], DType::float32, Order::dense));
            mixed.push_back(lying(c.shapes[i], dtype, i == 1 ? Order::dense : x_order));
          }
          const auto check = [&](const std::vector<Stored>& stored) {
            std::vector<Stored> plain = stored;
            for (Stored& output : plain) output.dtype = DType::float32, output.order = Order::dense;
            const std::vector<Tensor> got = run_node(c.node, tensors, mixed, stored, c.y);
            for (size_t i = 0; i < stored.size(); ++i) {
              CAPTURE(i);
              Tensor want = run_node(c.node, tensors, dense, {plain[i]}, c.y)[0].to(stored[i].dtype);
              if (stored[i].what == stored[0].what) want = want.to(stored[0].dtype);  // as it is stored
              CHECK(same_bits(got[i], want.to(DType::float32)));
            }
          };
          CAPTURE(std::string(to_string(c.node.kind)));
          CAPTURE(std::string(to_string(x_type)));
          CAPTURE(std::string(to_string(w_type)));
          CAPTURE(static_cast<int>(x_order));
          for (const DType y_type : kTypes)
            for (const Order y_order : kOrders) {
              check({{y_type, y_order, Arg::expr(2)}});
              check({{y_type, y_order, Arg::result()}});
            }
          check(
              {{DType::float16, Order::pixels, Arg::expr(2)}, {DType::float32, Order::dense, Arg::expr(2)}});
          check({{DType::float32, Order::pixels, Arg::result()},
                 {DType::float32, Order::spread, Arg::expr(1)}});
        }
  }
}

TEST_CASE("conv2d: what is converted goes some images at a time, all of them") {
  const Shape x{6, 1, 512, 512}, y{6, 6, 512, 512};  // six filters, too
  const auto conv = [&](Order order) {
    Case c =
        case_of(NodeKind::conv2d, Conv2dAttributes{.is_narrow = true}, {x, {6, 1, 1, 1}, {6, 1, 1}, y}, y);
    std::vector<Tensor> tensors;
    std::vector<TensorView> views;
    for (size_t i = 0; i < 4; ++i) {
      tensors.push_back(uniform(c.shapes[i], i + 1));
      views.push_back(lying(c.shapes[i], DType::float32, i == 0 ? order : Order::dense));
    }
    return run_node(c.node, tensors, views, {{DType::float32, order, Arg::expr(2)}}, y)[0];
  };
  CHECK(same_bits(conv(Order::pixels), conv(Order::dense)));
}
