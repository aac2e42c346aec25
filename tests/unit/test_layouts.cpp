// Where values lie: what a graph declares, and what choose_layouts() chooses between nodes. Results are those of the
// same graph with nothing but nchw, bit for bit.

#include <algorithm>
#include <cstring>
#include <set>

#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"
#include "graph/value_view.h"
#include "tests/support/expanded.h"
#include "tests/support/lying.h"

using namespace solder;
using namespace solder::test;

namespace {

constexpr DType kTypes[] = {DType::float32, DType::float16, DType::bfloat16};

// The tensor's bytes in the order [N,H,W,C], and back.
Tensor channels_last(const Tensor& tensor, bool back = false) {
  const Shape& s = tensor.shape();
  Tensor result = Tensor::empty(s, tensor.dtype());
  int64_t i = 0;
  for_each_index(s, [&](const Shape& index) {
    const int64_t turned = ((index[0] * s[2] + index[2]) * s[3] + index[3]) * s[1] + index[1];
    store_from_float(result.data(), tensor.dtype(), back ? i : turned,
                     load_as_float(tensor.data(), tensor.dtype(), back ? turned : i));
    ++i;
  });
  return result;
}

// Names of the nodes whose values lie so.
std::set<std::string> lying_so(const Graph& g, Layout layout) {
  std::set<std::string> names;
  for (const Node& node : g.nodes())
    if (node.layout == layout) names.insert(node.name);
  return names;
}

// A graph of many kinds between convolutions.
struct Network {
  const char* name;
  Value (*build)(Graph& g, Value x, Value y);  // of two convolutions' results [2,8,6,6]
};

const Network kNetworks[] = {
    {"residual", [](Graph& g, Value x, Value y) { return g.relu(g.add(g.mish(x), y)); }},
    {"concat at 8 and 16",
     [](Graph& g, Value x, Value y) {
       return g.concat({x, y, g.mish(x)}, 1);
     }},
    {"concat at 5",
     [](Graph& g, Value x, Value y) {
       return g.concat({g.slice(x, 1, 0, 5), g.mish(y), g.relu(g.slice(x, 1, 5, 8))}, 1);
     }},
    {"concat of rows",
     [](Graph& g, Value x, Value y) {
       return g.concat({x, y}, 2);
     }},
    {"max_pool2d", [](Graph& g, Value x, Value) { return g.max_pool2d(x, {.kernel = 3, .stride = 2}); }},
    {"avg_pool2d", [](Graph& g, Value x, Value) { return g.avg_pool2d(x, {.kernel = 2}); }},
    {"nearest",
     [](Graph& g, Value x, Value y) {
       return g.concat({g.resize(x, {.scale = 2}), g.resize(y, {.scale = 2})}, 1);
     }},
    {"bilinear",
     [](Graph& g, Value x, Value) { return g.resize(x, {.scale = 1.5, .mode = ResizeMode::bilinear}); }},
    {"pad",
     [](Graph& g, Value x, Value) {
       return g.pad(x, {0, 3, 1, 0}, {0, 2, 0, 1}, PadMode::constant, 0.1f);
     }},
    {"slice of channels",
     [](Graph& g, Value x, Value y) { return g.mul(g.slice(x, 1, 3, 7), g.slice(y, 1, 7, 3, -1)); }},
    {"gather",
     [](Graph& g, Value x, Value) {
       return g.gather(x, 1, {7, 7, 0, 3});
     }},
    {"permute",
     [](Graph& g, Value x, Value) {
       return g.permute(g.mish(g.permute(x, {0, 2, 3, 1})), {0, 3, 1, 2});
     }},
    {"reshape",
     [](Graph& g, Value x, Value) {
       return g.reshape(g.mish(g.flatten(x, 2)), {0, 4, 8, -1});
     }},
    {"softmax", [](Graph& g, Value x, Value) { return g.softmax(x, 1); }},
    {"statistics",
     [](Graph& g, Value x, Value y) {
       return g.mul(x, g.sigmoid(g.sub(g.mean(y, {2, 3}, true), g.reduce_max(x, {1, 2, 3}, true))));
     }},
    {"two results",
     [](Graph& g, Value x, Value y) {
       return g.concat({g.add(x, g.mish(x)), y}, 1);
     }},
    {"depth_to_space", [](Graph& g, Value x, Value) { return g.depth_to_space(x, 2); }},
    {"expand",
     [](Graph& g, Value x, Value y) {
       return g.add(g.expand(g.slice(x, 2, 1, 2), {-1, -1, 6, -1}), y);
     }},
    {"matmul", [](Graph& g, Value x, Value y) { return g.matmul(x, y); }},
    {"lrn", [](Graph& g, Value x, Value) { return g.lrn(x, 3); }},
};

// Values that either 16-bit type has.
Tensor in_steps(const Shape& shape, uint64_t seed) {
  const Tensor values = uniform(shape, seed);
  return filled(shape, DType::float32,
                [&](const Shape& i) { return std::round(value_at(values, i) * 64) / 64; });
}

// What the model computes, written out in float32 and nchw.
TensorMap written_out(const Model& model, const TensorMap& weights, const TensorMap& inputs) {
  const Graph g = expanded(model.graph());
  TensorMap mine;  // passes have rounded, folded and renamed none but equal ones
  for (const Node& node : g.nodes())
    if (node.kind == NodeKind::parameter)
      mine[node.name] =
          weights.at(node.name.substr(0, node.name.find_first_of(" '"))).to(node.outputs[0].dtype);
  return compile(g, mine, {.device = Device::cpu(), .fuse = false}).session().run(inputs);
}

TensorMap run_all(const Graph& g, const TensorMap& weights, const TensorMap& inputs, Device device) {
  return compile(g, weights, {.device = device}).session().run(inputs);
}

struct Case {
  Graph graph;
  TensorMap weights, inputs;
};

// x -> two convolutions -> the network -> a convolution; what lies between is given out too, where that is asked for.
Case case_of(const Network& network, DType dtype, int64_t batch, Layout given, bool gives_out) {
  Case c;
  Graph& g = c.graph;
  const auto weights = [&](const std::string& name, const Shape& shape, uint64_t seed) {
    c.weights[name] = in_steps(shape, seed).to(dtype);
    return g.parameter(name, shape, dtype);
  };
  const Value x = g.input("x", {batch, 3, 6, 6}, dtype, given);
  const Tensor image = uniform({batch, 3, 6, 6}, 4, -2, 2).to(dtype);
  c.inputs["x"] = given == Layout::nchw ? image : channels_last(image);
  const Value a = g.conv2d(x, weights("a", {8, 3, 3, 3}, 1), {.padding = 1}),
              b = g.conv2d(x, weights("b", {8, 3, 1, 1}, 2));
  const Value middle = network.build(g, a, b);
  const int64_t channels = g.type(middle).shape[1];
  const Value y = g.conv2d(middle, weights("c", {4, channels, 1, 1}, 3));
  g.output("y", y, given);
  if (gives_out) {
    g.output("middle", middle);
    g.output("b", b);
    g.output("turned", middle, Layout::channels_last);
  }
  return c;
}

}  // namespace

TEST_CASE("layouts: no kind of node changes a bit, whatever is given and given out") {
  for (const Network& network : kNetworks) {
    CAPTURE(std::string(network.name));
    for (const DType dtype : kTypes)
      for (const Math math : {Math::fp32, Math::fp16, Math::bf16})
        for (const bool fuse : {true, false})
          for (const bool gives_out : {true, false}) {
            const auto options = [&](Device device) {
              return CompileOptions{.device = device, .math = math, .fuse = fuse};
            };
            const Case plain = case_of(network, dtype, 2, Layout::nchw, gives_out),
                       turned = case_of(network, dtype, 2, Layout::channels_last, gives_out);
            for (const Device device : devices()) {
              const Model model = compile(plain.graph, plain.weights, options(device));
              const TensorMap want = model.session().run(plain.inputs);
              TensorMap got =
                  compile(turned.graph, turned.weights, options(device)).session().run(turned.inputs);
              for (const char* name : {"y", "turned"})
                if (got.count(name) > 0) got[name] = channels_last(got.at(name), true);
              for (const auto& [name, tensor] : want) {
                CAPTURE(name);
                CHECK(same_bits(got.at(name), name == "turned" ? channels_last(tensor, true) : tensor));
              }
              if (gives_out) CHECK(same_bits(got.at("turned"), got.at("middle")));
              if (device.is_cuda()) continue;
              for (const auto& [name, tensor] : written_out(model, plain.weights, plain.inputs)) {
                CAPTURE(name);
                CHECK(same_bits(want.at(name), name == "turned" ? channels_last(tensor) : tensor));
              }
              const Case other = case_of(network, dtype, 5, Layout::nchw, gives_out);
              const TensorMap
                  alone = compile(other.graph, other.weights, options(device)).session().run(other.inputs),
                  batch = model.batch(5).session().run(other.inputs);
              for (const auto& [name, tensor] : alone) CHECK(same_bits(batch.at(name), tensor));
            }
          }
  }
}

TEST_CASE(
    "layouts: convolutions' results, what follows them, and what only they read have channels innermost") {
  Graph g;
  const Value x = g.input("x", {2, 16, 6, 6});
  const auto conv = [&](Value v, int64_t k, const char* name) {
    const Value w = g.parameter(std::string(name) + ".w", {k, g.type(v).shape[1], 3, 3});
    return g.conv2d(v, w, {.padding = 1, .name = name});
  };
  const Value a = conv(x, 8, "a"), b = conv(x, 5, "b");
  const Value joined = g.name(g.concat({a, b}, 1), "joined");
  const Value pooled = g.name(g.max_pool2d(joined, {.kernel = 2}), "pooled");
  const Value gate = g.name(g.mean(pooled, {2, 3}, true), "gate");
  const Value gated = g.name(g.mul(pooled, gate), "gated");
  const Value c = conv(gated, 4, "c"), d = conv(c, 4, "d");
  const Value rows = g.name(g.softmax(g.flatten(d, 2), 2), "rows");
  g.output("rows", g.linear(rows, g.parameter("v", {2, 9})));
  g.output("c", c);
  g.output("last", conv(d, 4, "last"), Layout::channels_last);
  TensorMap weights;
  for (const Node& node : g.nodes())
    if (node.kind == NodeKind::parameter) weights[node.name] = uniform(node.outputs[0].shape, 1);
  const Model model = compile(g, weights, {.device = Device::cpu(), .math = Math::fp16});
  const Graph& made = model.graph();
  CHECK(lying_so(made, Layout::padded_channels_last) ==
        std::set<std::string>{"x float16", "a", "b", "joined", "pooled", "gated", "c", "d"});
  CHECK(lying_so(made, Layout::channels_last) ==
        std::set<std::string>{"last"});  // by itself, without a copy behind
  CHECK(dump(made).find("float16 [2, 5, 6, 6] padded_channels_last") != std::string::npos);
  for (size_t i = 0; i < made.nodes().size(); ++i) {
    const Node& node = made.nodes()[i];
    if (node.name == "joined") CHECK(model.nodes()[i].path == "in place");  // at 0 and 8
  }
  // A convolution gathers the rows of few channels itself.
  Graph few;
  few.output("y", few.conv2d(few.input("x", {2, 3, 6, 6}), few.parameter("w", {8, 3, 3, 3})));
  const Model stem =
      compile(few, {{"w", uniform({8, 3, 3, 3}, 1)}}, {.device = Device::cpu(), .math = Math::fp16});
  CHECK(lying_so(stem.graph(), Layout::padded_channels_last).empty());
  // In float32 nothing is chosen.
  const Model wide = compile(g, weights, {.device = Device::cpu()});
  CHECK(lying_so(wide.graph(), Layout::padded_channels_last).empty());
  CHECK(lying_so(wide.graph(), Layout::channels_last) == std::set<std::string>{"last"});
}

TEST_CASE("layouts: parts of a concatenation are computed there where they begin at eights of channels") {
  for (const int64_t first : {8, 5, 16}) {
    CAPTURE(first);
    Graph g;
    const Value x = g.input("x", {1, 8, 4, 4}, DType::float16);
    const auto conv = [&](int64_t k, const char* name) {
      return g.conv2d(x, g.parameter(name, {k, 8, 1, 1}, DType::float16));
    };
    const Value joined = g.concat({conv(first, "a"), conv(7, "b")}, 1);
    g.output("y", g.conv2d(joined, g.parameter("c", {1, first + 7, 1, 1}, DType::float16)));
    TensorMap weights{{"a", uniform({first, 8, 1, 1}, 1).to(DType::float16)},
                      {"b", uniform({7, 8, 1, 1}, 2).to(DType::float16)},
                      {"c", uniform({1, first + 7, 1, 1}, 3).to(DType::float16)}};
    const Model model = compile(g, weights, {.device = Device::cpu()});
    for (size_t i = 0; i < model.nodes().size(); ++i)
      if (model.graph().nodes()[i].kind == NodeKind::concat)
        CHECK(model.nodes()[i].path == (first % 8 == 0 ? "in place" : "1 of 2 copied"));
  }
}

TEST_CASE("layouts: a vector of pixels stays one, and memory is that of the pitch") {
  Graph g;
  const Value x = g.input("x", {3, 8, 4, 4}, DType::float16);
  const Value y = g.max_pool2d(g.conv2d(x, g.parameter("w", {16, 8, 1, 1}, DType::float16)), {.kernel = 4});
  g.output("y", g.linear(g.flatten(y), g.parameter("v", {5, 16}, DType::float16)));
  const TensorMap weights{{"w", uniform({16, 8, 1, 1}, 1).to(DType::float16)},
                          {"v", uniform({5, 16}, 2).to(DType::float16)}};
  const Graph made = compile(g, weights, {.device = Device::cpu()}).graph();
  CHECK(std::ranges::none_of(made.nodes(), [](const Node& n) { return n.kind == NodeKind::elementwise; }));

  const TensorView view = own_view({{2, 5, 3, 4}, DType::float16}, Layout::padded_channels_last);
  CHECK(view.strides == Shape{3 * 4 * 8, 1, 4 * 8, 8});
  CHECK(own_bytes(view) == 2 * 3 * 4 * 8 * 2);
  CHECK(own_view({{2, 5, 3, 4}, DType::float16}, Layout::channels_last).strides == Shape{60, 1, 20, 5});
  CHECK(own_view({{2, 5, 3, 4}, DType::float32}, Layout::padded_channels_last).strides ==
        Shape{60, 1, 20, 5});
  CHECK(own_bytes(own_view({{2, 5, 3, 4}, DType::float32}, Layout::nchw)) == 480);
  CHECK(own_bytes(own_view({{2, 0, 3, 4}, DType::float16}, Layout::padded_channels_last)) == 0);
}

TEST_CASE("layouts: inputs and outputs of other ranks, and what only passes choose, are refused") {
  Graph g;
  CHECK_ERROR(g.input("x", {2, 3}, DType::float32, Layout::channels_last), invalid_argument, "input \"x\"",
              "[2, 3]", "four");
  CHECK_ERROR(g.input("x", {2, 3, 4, 4}, DType::float32, Layout::padded_channels_last), invalid_argument,
              "channels_last");
  CHECK_ERROR(g.input("x", {2, 3, 4, 4}, DType::float32, static_cast<Layout>(9)), invalid_argument, "nchw");
  const Value x = g.input("x", {2, 3});
  CHECK_ERROR(g.output("y", x, Layout::channels_last), invalid_argument, "output \"y\"", "four");
  CHECK(g.nodes().size() == 1);
  CHECK(g.outputs().empty());
}

TEST_CASE("layouts: tensors that are given and given out lie as declared, without a convolution too") {
  const Tensor image = uniform({2, 3, 4, 5}, 1);
  for (const DType dtype : kTypes)
    for (const Device device : devices()) {
      Graph g;
      const Value x = g.input("x", {2, 3, 4, 5}, dtype, Layout::channels_last);
      g.output("x", x, Layout::channels_last);
      g.output("nchw", x);
      g.output("mish", g.mish(x), Layout::channels_last);
      g.output("rows", g.permute(x, {0, 2, 3, 1}));
      g.output("parameter", g.parameter("p", {2, 3, 4, 5}, dtype), Layout::channels_last);
      const Tensor given = image.to(dtype), turned = channels_last(given);
      const TensorMap y = run_all(g, {{"p", given}}, {{"x", turned}}, device);
      CHECK(same_bits(y.at("x"), turned));
      CHECK(same_bits(y.at("nchw"), given));
      CHECK(same_bits(y.at("parameter"), turned));
      CHECK(std::memcmp(y.at("rows").data(), turned.data(), static_cast<size_t>(turned.num_bytes())) == 0);
      Graph plain;
      plain.output("mish", plain.mish(plain.input("x", {2, 3, 4, 5}, dtype)));
      CHECK(same_bits(y.at("mish"), channels_last(run_all(plain, {}, {{"x", given}}, device).at("mish"))));
    }
}
