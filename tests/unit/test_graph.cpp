#include <algorithm>

#include "graph/lower.h"
#include "graph/passes/passes.h"
#include "graph/plan.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

int count_nodes(const Graph& g, NodeKind kind) {
  return static_cast<int>(
      std::count_if(g.nodes().begin(), g.nodes().end(), [&](const Node& n) { return n.kind == kind; }));
}

Graph fused(const Graph& g) {
  Graph result = fuse(remove_dead(g));
  verify(result);
  return result;
}

}  // namespace

TEST_CASE("builder: names are unique, values must exist, dtypes must agree") {
  Graph g;
  const Value x = g.input("x", {2, 3});
  CHECK_ERROR(g.input("x", {1}), invalid_argument, "\"x\"", "already");
  CHECK_ERROR(g.parameter("x", {1}), invalid_argument, "\"x\"");
  CHECK_ERROR(g.input("", {1}), invalid_argument, "name");
  CHECK_ERROR(g.input("z", {-1}), invalid_argument, "negative");
  const Value half = g.input("half", {2, 3}, DType::float16);
  CHECK_ERROR(g.add(x, half), invalid_argument, "float16", "cast");
  CHECK_ERROR(g.add(x, g.input("other", {2, 4})), shape_mismatch, "[2, 3]", "[2, 4]", "broadcast");
  CHECK_ERROR(g.clip(x, 1, -1), invalid_argument, "clip");
  CHECK_ERROR(g.clip(x, NAN, 1), invalid_argument, "clip");
  CHECK_ERROR(g.unary(Op::add, x), invalid_argument, "two arguments");
  CHECK_ERROR(g.binary(Op::mish, x, x), invalid_argument, "one argument");
  CHECK_ERROR(g.mish(Value{}), invalid_argument, "not of this graph");
  CHECK_ERROR(g.mish(Value{0, 1}), invalid_argument, "output 1");
  g.output("y", x);
  CHECK_ERROR(g.output("y", x), invalid_argument, "\"y\"");
}

TEST_CASE("builder: a value of another graph is refused, one of a copy's past is not") {
  Graph encoder, head;
  const Value x = encoder.input("image", {4}), feature = encoder.mish(x);
  head.input("a", {4});
  head.input("b", {4});
  CHECK_ERROR(head.relu(feature), invalid_argument, "not of this graph");
  CHECK_ERROR(head.output("y", feature), invalid_argument, "not of this graph");
  CHECK_ERROR(head.type(feature), invalid_argument, "not of this graph");
  CHECK(head.nodes().size() == 2);
  Graph copy = encoder;
  copy.output("y", copy.relu(feature));
  const Value only_here = encoder.exp(feature);  // stands where the copy has its relu
  CHECK_ERROR(copy.relu(only_here), invalid_argument, "not of this graph");
  CHECK(encoder.type(only_here).shape == Shape{4});
}

TEST_CASE("builder: numbers on either side, {} for no options, shapes of any integers") {
  Graph g;
  const std::vector<int> dims{1, 3, 8, 8};
  const Value x = g.input("x", dims), w = g.parameter("w", {4, 3, 3, 3}), b = g.parameter("b", {4});
  CHECK(g.type(g.conv2d(x, w, {})).shape == Shape{1, 4, 6, 6});
  CHECK(g.type(g.conv2d(x, w, b, {})).shape == Shape{1, 4, 6, 6});
  g.output("y", g.max(1.0f, g.min(6.0f, g.add(1.0f, g.mul(2.0f, x)))));
  const Tensor xt = uniform({1, 3, 8, 8}, 1, -4, 4);
  const TensorMap weights{{"w", uniform({4, 3, 3, 3}, 2)}, {"b", uniform({4}, 3)}};
  const Tensor y = run(g, weights, {{"x", xt}}, {.device = Device::cpu()});
  for (size_t i = 0; i < 192; ++i)
    CHECK(y.floats()[i] == std::max(1.0f, std::min(6.0f, 1.0f + 2.0f * xt.floats()[i])));
}

TEST_CASE("builder: matmul and linear shapes") {
  Graph g;
  const Value a = g.input("a", {5, 2, 3}), b = g.input("b", {3, 4}), batch = g.input("batch", {5, 3, 4});
  CHECK(g.type(g.matmul(a, b)).shape == Shape{5, 2, 4});
  CHECK(g.type(g.matmul(a, batch)).shape == Shape{5, 2, 4});
  const Value w = g.parameter("w", {7, 3}), bias = g.parameter("bias", {7});
  CHECK(g.type(g.linear(a, w, bias)).shape == Shape{5, 2, 7});
  CHECK_ERROR(g.matmul(a, a), shape_mismatch, "matmul", "[5, 2, 3]");
  CHECK_ERROR(g.linear(a, b), shape_mismatch, "[3, 4]", "[out, in]");
  CHECK_ERROR(g.linear(a, w, b), shape_mismatch, "bias", "[7]");
}

TEST_CASE("fuse: mish of mish after a convolution is one node, double_mish in its epilogue") {
  Graph g;
  const Value x = g.input("x", {1, 3, 8, 8}), w = g.parameter("w", {4, 3, 3, 3}), b = g.parameter("b", {4});
  g.output("y", g.mish(g.mish(g.conv2d(x, w, b))));
  const Graph f = fused(g);
  CHECK(f.nodes().size() == 4);
  const Node& conv = f.nodes().back();
  CHECK(conv.kind == NodeKind::conv2d);
  CHECK(conv.epilogue.operand_shapes == std::vector<Shape>{{4, 1, 1}});
  CHECK(to_string(lower(conv.epilogue.region, true, {})) == "add %0, double_mish, store_output 0");
}

TEST_CASE("fuse: three mishes leave one over; a mish that is read elsewhere stays") {
  Graph g;
  const Value x = g.input("x", {9});
  g.output("y", g.mish(g.mish(g.mish(x))));
  CHECK(to_string(lower(fused(g).nodes().back().epilogue.region, false, {})) ==
        "double_mish, mish, store_output 0");
  Graph kept;
  const Value inner = kept.mish(kept.input("x", {9}));
  kept.output("inner", inner);
  kept.output("y", kept.mish(inner));
  const Graph f = fused(kept);
  CHECK(count_nodes(f, NodeKind::elementwise) == 1);
  CHECK(f.nodes().back().outputs.size() == 2);
  CHECK(to_string(lower(f.nodes().back().epilogue.region, false, {})) ==
        "mish, store_output 1, mish, store_output 0");
}

TEST_CASE("fuse: a residual block is two convolutions and nothing else") {
  Graph g;
  const Value x = g.input("x", {1, 8, 6, 6});
  const Value w1 = g.parameter("w1", {8, 8, 3, 3}), b1 = g.parameter("b1", {8});
  const Value w2 = g.parameter("w2", {8, 8, 3, 3}), b2 = g.parameter("b2", {8});
  const Value h = g.relu(g.conv2d(x, w1, b1, {.padding = 1}));
  g.output("y", g.relu(g.add(x, g.conv2d(h, w2, b2, {.padding = 1}))));
  const Graph f = fused(g);
  CHECK(count_nodes(f, NodeKind::conv2d) == 2);
  CHECK(count_nodes(f, NodeKind::elementwise) == 0);
}

TEST_CASE("fuse: what must not be fused is not") {
  // A slice between producer and consumer: merging would make a cycle.
  Graph cycle;
  const Value x = cycle.input("x", {4, 4});
  const Value e = cycle.relu(x);
  cycle.output("y", cycle.add(e, cycle.slice(e, 0, 0, 4)));
  CHECK(count_nodes(fused(cycle), NodeKind::elementwise) == 2);
  // A smaller producer that is broadcast would be recomputed for every element.
  Graph small;
  small.output("y", small.add(small.input("x", {8, 4}), small.exp(small.input("row", {4}))));
  CHECK(count_nodes(fused(small), NodeKind::elementwise) == 2);
  // A convolution whose result is read twice keeps its result.
  Graph shared;
  const Value conv = shared.conv2d(shared.input("x", {1, 1, 4, 4}), shared.parameter("w", {1, 1, 1, 1}));
  shared.output("conv", conv);
  shared.output("y", shared.relu(conv));
  CHECK(count_nodes(fused(shared), NodeKind::elementwise) == 1);
}

TEST_CASE("fuse: a region that does not fit one program is split") {
  Graph g;
  Value v = g.input("x", {5});
  for (int i = 0; i < 3 * kMaxSteps; ++i) v = g.add(v, 1.0f);
  g.output("y", v);
  const Graph f = fused(g);
  CHECK(count_nodes(f, NodeKind::elementwise) >= 3);
  CHECK(count_nodes(f, NodeKind::elementwise) <= 5);
  Graph wide;  // more operands than a program takes
  Value sum = wide.input("x0", {5});
  for (int i = 1; i < 20; ++i) sum = wide.add(sum, wide.input("x" + std::to_string(i), {5}));
  wide.output("y", sum);
  TensorMap inputs;
  for (int i = 0; i < 20; ++i)
    inputs["x" + std::to_string(i)] = Tensor::from({5}, std::vector<float>(5, static_cast<float>(i)));
  for (const Device device : devices()) CHECK(run(wide, {}, inputs, {.device = device}).floats()[4] == 190);
}

TEST_CASE("fuse: what runs unfused runs fused, however many axes the broadcasts have together") {
  Graph g;
  const Value x = g.input("x", {2, 2, 2, 2, 2, 2, 2});
  const Value a = g.input("a", {2, 2, 1, 1, 2, 2, 1}), b = g.input("b", {1, 2, 2, 1, 1, 2, 2});
  g.output("y", g.mul(g.add(x, a), b));  // 4 axes of runs, 5, and 7 together
  const TensorMap inputs{{"x", uniform({2, 2, 2, 2, 2, 2, 2}, 1)},
                         {"a", uniform({2, 2, 1, 1, 2, 2, 1}, 2)},
                         {"b", uniform({1, 2, 2, 1, 1, 2, 2}, 3)}};
  for (const Device device : devices())
    CHECK(same_bits(run(g, {}, inputs, {.device = device}),
                    run(g, {}, inputs, {.device = device, .fuse = false})));
}

TEST_CASE("fuse: a matrix product takes bias and activation as its epilogue") {
  Graph g;
  const Value x = g.input("x", {3, 4}), w = g.parameter("w", {5, 4}), b = g.parameter("b", {5});
  g.output("y", g.mish(g.linear(x, w, b)));
  CHECK(fused(g).nodes().size() == 4);
  const TensorMap weights{{"w", uniform({5, 4}, 1)}, {"b", uniform({5}, 2)}},
      inputs{{"x", uniform({3, 4}, 3)}};
  for (const Device device : devices())
    CHECK(same_bits(run(g, weights, inputs, {.device = device}),
                    run(g, weights, inputs, {.device = device, .fuse = false})));
}

TEST_CASE("remove_dead: unused nodes go, inputs and parameters stay") {
  Graph g;
  const Value x = g.input("x", {3});
  g.input("unused", {3});
  g.exp(x);
  g.output("y", g.relu(x));
  const Graph lean = remove_dead(g);
  CHECK(lean.nodes().size() == 3);
  verify(lean);
}

TEST_CASE("verify: a broken graph is named") {
  Graph g;
  const Value x = g.input("x", {2});
  const Value y = g.relu(x);
  verify(g);
  const auto broken = [&](auto change) {
    Graph copy;
    for (const Node& node : g.nodes()) copy.append(node);
    Node node = copy.nodes()[static_cast<size_t>(y.node)];
    change(node);
    Graph result;
    result.append(copy.nodes()[0]);
    result.append(node);
    return result;
  };
  CHECK_ERROR(verify(broken([](Node& n) { n.inputs[0].node = 1; })), invalid_argument, "relu_1", "earlier");
  CHECK_ERROR(verify(broken([](Node& n) { n.epilogue.region.exprs[0].a.index = 3; })), invalid_argument,
              "relu_1");
  CHECK_ERROR(verify(broken([](Node& n) { n.epilogue.region.exprs[0].op = Op::add; })), invalid_argument,
              "add");
  CHECK_ERROR(verify(broken([](Node& n) { n.epilogue.operand_shapes[0] = {3}; })), invalid_argument, "[3]");
  CHECK_ERROR(verify(broken([](Node& n) { n.outputs.push_back(n.outputs[0]); })), invalid_argument,
              "outputs");
  CHECK_ERROR(verify(broken([](Node& n) { n.outputs[0].shape = {3}; })), invalid_argument, "relu_1", "[3]");
  CHECK_ERROR(verify(broken([](Node& n) { n.epilogue.region.outputs = {Arg::immediate(1)}; })),
              invalid_argument, "relu_1");
  CHECK_ERROR(verify(broken([](Node& n) { n.epilogue.region.exprs[0].a = Arg::result(); })), invalid_argument,
              "relu_1");
  CHECK_ERROR(verify(broken([](Node& n) { n.attributes = MatmulAttributes{}; })), invalid_argument,
              "attributes");
}

TEST_CASE("builder: add_node() refuses what is no node of its kind") {
  Graph g;
  const Value x = g.input("x", {1, 1, 4, 4});
  const auto added = [&](Node node) {
    node.name = "node";
    g.add_node(node);
  };
  CHECK_ERROR(added({.kind = NodeKind::conv2d, .inputs = {x, x}}), invalid_argument, "node", "attributes");
  CHECK_ERROR(added({.kind = NodeKind::reshape, .outputs = {{{4, 4}}}}), invalid_argument, "1 inputs");
  CHECK_ERROR(added({.kind = NodeKind::matmul, .inputs = {x}, .attributes = MatmulAttributes{}}),
              invalid_argument, "2 inputs");
  CHECK_ERROR(added({.kind = NodeKind::concat, .attributes = ConcatAttributes{}}), invalid_argument,
              "one or more");
  CHECK_ERROR(added({.kind = static_cast<NodeKind>(77)}), invalid_argument, "no kind of node 77");
  CHECK(g.nodes().size() == 1);
}

TEST_CASE("verify: the types are those that each kind infers") {
  // A node of `kind` on two inputs, and what it claims to be.
  const auto claims = [](Node node, const Shape& a, const Shape& b, const TensorType& output) {
    Graph g;
    node.inputs = {g.input("a", a), g.input("b", b)};
    if (node.kind == NodeKind::slice) node.inputs.pop_back();
    node.name = "node";
    node.outputs = {output};
    if (node.kind != NodeKind::slice) node.epilogue.region = {0, {}, {Arg::result()}};
    g.append(node);
    verify(g);
  };
  const Node matmul{.kind = NodeKind::matmul, .attributes = MatmulAttributes{}},
      conv{.kind = NodeKind::conv2d, .attributes = Conv2dAttributes{}},
      slice{.kind = NodeKind::slice, .attributes = SliceAttributes{0, 1, 1}};
  CHECK_ERROR(claims(matmul, {2, 3}, {4, 5}, {{7, 7}, DType::float16}), shape_mismatch, "node", "[2, 3]");
  CHECK_ERROR(claims(matmul, {2, 3}, {3, 5}, {{7, 7}, DType::float32}), invalid_argument, "[7, 7]", "[2, 5]");
  claims(matmul, {2, 3}, {3, 5}, {{2, 5}, DType::float32});
  CHECK_ERROR(claims(conv, {1, 2, 4, 4}, {3, 3, 1, 1}, {{1, 3, 4, 4}}), shape_mismatch, "channels");
  CHECK_ERROR(claims(conv, {1, 3, 4, 4}, {3, 3, 1, 1}, {{1, 3, 4, 5}}), invalid_argument, "[1, 3, 4, 5]");
  claims(conv, {1, 3, 4, 4}, {3, 3, 1, 1}, {{1, 3, 4, 4}});
  CHECK_ERROR(claims(slice, {4, 2}, {}, {{4, 2}}), invalid_argument, "leave axis 0");
  CHECK_ERROR(claims(slice, {4, 2}, {}, {{3, 2}, DType::float16}), invalid_argument, "float16");
  claims(slice, {4, 2}, {}, {{3, 2}});
}

TEST_CASE("plan_memory: lifetimes share memory, in place where legal, and nothing overlaps that must not") {
  Graph g;
  const Value x = g.input("x", {1000});
  Value v = x;
  for (int i = 0; i < 6; ++i)
    v = g.matmul(g.input("a" + std::to_string(i), {1, 1000}), g.input("b" + std::to_string(i), {1000, 1000}));
  g.output("y", g.relu(v));
  const Model model = compile(g, {}, {.device = Device::cpu(), .fuse = false});
  const MemoryPlan& plan = model.memory();
  struct Live {
    int64_t begin, end;
    int first, last;
  };
  std::vector<Live> live;
  for (const auto& node : plan.values)
    for (const Placement& p : node)
      if (p.offset_bytes >= 0)
        live.push_back({p.offset_bytes, p.offset_bytes + p.size_bytes, p.first_node, p.last_node});
  for (size_t i = 0; i < live.size(); ++i) {
    CHECK(live[i].begin % kArenaAlignment == 0);
    CHECK(live[i].end <= plan.values_bytes);
    for (size_t j = 0; j < i; ++j) {
      const bool in_time = live[i].first < live[j].last && live[j].first < live[i].last;
      const bool in_space = live[i].begin < live[j].end && live[j].begin < live[i].end;
      CHECK_FALSE((in_time && in_space));
    }
  }
}

TEST_CASE("plan_memory: sizes that no machine has are refused before their sum overflows") {
  Graph g;  // four outputs of 2^62 bytes, 2^64 together
  const Value a = g.input("a", {1 << 30, 1}), b = g.input("b", {1 << 30});
  for (int i = 0; i < 4; ++i) g.output("y" + std::to_string(i), g.add(g.mul(a, b), static_cast<float>(i)));
  CHECK_ERROR(compile(g, {}, {.device = Device::cpu()}), out_of_memory, "2^60");
  Graph sum;  // each of them possible
  const Value c = sum.input("c", {1 << 28, 1}), d = sum.input("d", {1 << 28});
  for (int i = 0; i < 8; ++i)
    sum.output("y" + std::to_string(i), sum.add(sum.mul(c, d), static_cast<float>(i)));
  CHECK_ERROR(compile(sum, {}, {.device = Device::cpu()}), out_of_memory, "2^60");
}

TEST_CASE("plan_memory: a chain of unfused ops runs in place") {
  Graph g;
  Value v = g.input("x", {1 << 16});
  for (int i = 0; i < 5; ++i) v = g.add(g.mish(v), 0.5f);
  g.output("y", v);
  const Model unfused = compile(g, {}, {.device = Device::cpu(), .fuse = false});
  CHECK(unfused.memory().values_bytes == 3 * (4 << 16));  // input, output, one intermediate
  const Model fused_model = compile(g, {}, {.device = Device::cpu()});
  CHECK(fused_model.memory().values_bytes == 2 * (4 << 16));
  const Tensor x = uniform({1 << 16}, 4);
  CHECK(same_bits(unfused.session().run({{"x", x}}).at("y"), fused_model.session().run({{"x", x}}).at("y")));
}

TEST_CASE("lower: programs compute what their regions say, whatever is parked") {
  // (x + y) * (x - y) / (x + y): the sum is needed twice, the difference once.
  const Region region{2,
                      {{Op::add, Arg::operand(0), Arg::operand(1)},
                       {Op::sub, Arg::operand(0), Arg::operand(1)},
                       {Op::mul, Arg::expr(0), Arg::expr(1)},
                       {Op::div, Arg::expr(2), Arg::expr(0)}},
                      {Arg::expr(3)}};
  const std::vector<float> x{1, 2, 3, -5}, y{4, 0.5f, -1, 2};
  // As an epilogue, x being the result, and as a pass.
  Region epilogue{1, region.exprs, region.outputs};
  for (Expr& expr : epilogue.exprs)
    for (Arg* arg : {&expr.a, &expr.b})
      if (arg->kind == Arg::Kind::operand) *arg = arg->index == 0 ? Arg::result() : Arg::operand(0);
  for (const bool in_registers : {false, true}) {
    const Program program = in_registers ? as_pass(lower(epilogue, true, {})) : lower(region, false, {});
    std::vector<float> result(4);
    auto* xp = const_cast<float*>(x.data());
    auto* yp = const_cast<float*>(y.data());
    const std::vector<TensorView> operands{dense_view(xp, DType::float32, {4}),
                                           dense_view(yp, DType::float32, {4})};
    const std::vector<TensorView> outputs{dense_view(result.data(), DType::float32, {4})};
    elementwise_cpu(program, bind_elementwise(operands, outputs));
    for (size_t i = 0; i < 4; ++i) CHECK(result[i] == (x[i] + y[i]) * (x[i] - y[i]) / (x[i] + y[i]));
    int reads = 0;
    for (const Step& step : program.view()) reads += step.source == Source::operand && step.index == 0;
    if (in_registers) CHECK(reads == 0);
  }
  CHECK_FALSE(may_overwrite(
      lower({2,
             {{Op::add, Arg::operand(0), Arg::operand(1)}, {Op::mul, Arg::expr(0), Arg::operand(1)}},
             {Arg::expr(0), Arg::expr(1)}},
            false, {}),
      1, 0));
}

TEST_CASE("lower: what reads a value after it was stored in 16 bits reads what was stored") {
  const auto steps = [](const Region& region, bool from_result, const std::vector<DType>& dtypes) {
    std::vector<TensorType> outputs;
    for (const DType dtype : dtypes) outputs.push_back({{4}, dtype});
    CHECK(fits_program(region, from_result, outputs));
    return to_string(lower(region, from_result, outputs));
  };
  constexpr DType f32 = DType::float32, f16 = DType::float16, bf16 = DType::bfloat16;
  const Expr add{Op::add, Arg::operand(0), Arg::immediate(1)}, sub{Op::sub, Arg::expr(0), Arg::operand(0)};
  const Region kept{1, {add, sub}, {Arg::expr(1), Arg::expr(0)}};
  CHECK(steps(kept, false, {f16, f16}) == "add 1, store_output 1, to_float16, sub %0, store_output 0");
  CHECK(steps(kept, false, {f16, bf16}) == "add 1, store_output 1, to_bfloat16, sub %0, store_output 0");
  CHECK(steps(kept, false, {f16, f32}) == "add 1, store_output 1, sub %0, store_output 0");
  CHECK(steps({1, {add, sub}, {Arg::expr(1)}}, false, {f16}) == "add 1, sub %0, store_output 0");
  // Stored twice, in 16 bits and (a cast of that) in 32; parked.
  CHECK(steps({1, {add}, {Arg::expr(0), Arg::expr(0)}}, false, {f32, f16}) ==
        "add 1, store_output 1, to_float16, store_output 0");
  CHECK(steps({1, {add, {Op::mul, Arg::expr(0), Arg::expr(0)}}, {Arg::expr(1), Arg::expr(0)}}, false,
              {f16, f16}) == "add 1, store_output 1, to_float16, store_slot 0, mul slot0, store_output 0");
  // Rounded already, never read again, or read from memory: nothing to add.
  CHECK(steps({1, {{Op::to_float16, Arg::operand(0)}, {Op::neg, Arg::expr(0)}}, {Arg::expr(1), Arg::expr(0)}},
              false, {f16, f16}) == "to_float16, store_output 1, neg, store_output 0");
  CHECK(steps({1, {add}, {Arg::expr(0), Arg::expr(0)}}, false, {f16, f16}) ==
        "add 1, store_output 0, to_float16, store_output 1");
  CHECK(steps({1, {add}, {Arg::operand(0), Arg::expr(0)}}, false, {f16, f16}) ==
        "store_output 0, add 1, store_output 1");
  // An epilogue's result.
  CHECK(steps({0, {{Op::neg, Arg::result()}}, {Arg::result(), Arg::expr(0)}}, true, {f16, f16}) ==
        "store_output 0, to_float16, neg, store_output 1");
}

TEST_CASE("fusion: a 16-bit value that is given out is the one that its readers used") {
  for (const DType dtype : {DType::float16, DType::bfloat16}) {
    Graph g;
    const Value x = g.input("x", {1}, dtype), a = g.add(x, 1.0f);
    g.output("a", a);
    g.output("a - x", g.sub(a, x));
    g.output("a as float32", g.cast(a, DType::float32));
    const float large = 2048;  // float16 and bfloat16 have no 2049
    for (const bool fuse : {false, true}) {
      const Model model = compile(g, {}, {.device = Device::cpu(), .fuse = fuse});
      if (fuse) CHECK(model.graph().nodes().size() == 2);
      const TensorMap y = model.session().run({{"x", Tensor::from({1}, {&large, 1}).to(dtype)}});
      CHECK(y.at("a").to(DType::float32).floats()[0] == 2048);
      CHECK(y.at("a - x").to(DType::float32).floats()[0] == 0);
      CHECK(y.at("a as float32").floats()[0] == 2048);
    }
  }
}
