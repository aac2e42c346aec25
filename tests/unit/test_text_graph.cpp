// solder-run's text format. Sees the installed layout, as solder-run does: nothing here may
// include "graph/...", whose declarations it would repeat.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "examples/solder_run/built_ins.h"
#include "examples/solder_run/text_calls.h"
#include "examples/solder_run/text_graph.h"
#include "tests/cases/text_graph_sample.h"

using namespace solder_run;
using samples::kBuilderCalls;
using samples::kEverything;
using solder::DType;
using solder::ErrorKind;
using solder::Graph;
using solder::Op;
using solder::Value;

namespace {

Graph everything() {
  Graph g;
  const Value x = g.input("x", {2, 8, 9, 7}),
              half = g.input("half", {2, 8, 9, 7}, DType::float16, solder::Layout::channels_last);
  const Value scale = g.input("scale", {});
  const Value w = g.parameter("0.weight", {6, 4, 3, 2}), bias = g.parameter("/a-1/bias:0", {6});
  Value y = g.conv2d(
      x, w, bias, {.stride = {2, 1}, .padding = {1, 0, 2, 1}, .dilation = {1, 1}, .groups = 2, .name = "a"});
  y = g.name(g.leaky_relu(y, 0.25f), "b");
  y = g.name(g.elu(y, 1.0f), "c");
  y = g.name(g.clip(y, -1, 6), "d");
  y = g.name(g.sub(1.0f, y), "e");
  y = g.name(g.pow(y, 2.0f), "f");
  g.output("g", g.name(g.add(y, y), "g"));
  const Value h = g.name(g.cast(half, DType::float32), "h");
  const Value k = g.name(g.mul(x, h), "k");
  const Value l = g.name(g.mul(scale, k), "l");
  const Value m = g.name(g.slice(l, 3, 1, 6, 2), "m");
  const Value n = g.name(g.slice(m, 1, 7, INT64_MIN, -1), "n");
  g.output("n", n);
  g.output("turned", n, solder::Layout::channels_last);
  return g;
}

Graph builder_calls() {
  Graph graph;
  const auto output = [&](Value v, const char* name) { graph.output(name, graph.name(v, name)); };
  const Value x = graph.input("x", {1, 4, 6, 6}), w = graph.parameter("w", {4, 2, 2, 2});
  const Value c = graph.parameter("c", {4}), v = graph.parameter("v", {6});
  output(graph.conv_transpose2d(
             x, w, c, {.stride = 2, .padding = {1, 0, 0, 1}, .output_padding = {1, 0}, .groups = 2}),
         "a");
  const Value b = graph.name(graph.reshape(x, {0, -1, 36}), "b"), d = graph.name(graph.flatten(b), "d");
  const Value f = graph.name(graph.squeeze(graph.name(graph.unsqueeze(d, {0, -1}), "e"), {0}), "f");
  const Value f2 = graph.name(graph.squeeze(f), "f2"), g = graph.name(graph.permute(x, {0, 3, 1, 2}), "g");
  output(graph.expand(g, {2, -1, 4, -1}), "h");
  output(graph.tile(f2, {2, 1}), "i");
  const Value k = graph.name(graph.add(x, graph.name(graph.per_channel(c), "j")), "k");
  const Value m = graph.name(graph.gather(graph.name(graph.concat({x, k, x}, 1), "l"), 1, {0, 11, -1}), "m");
  const Value n =
      graph.name(graph.max_pool2d(m, {.kernel = 3, .stride = 2, .padding = 1, .ceil_mode = true}), "n");
  const Value o = graph.name(
      graph.avg_pool2d(n, {.kernel = {2, 1}, .stride = 1, .padding = {1, 0}, .count_include_pad = false}),
      "o");
  output(graph.global_avg_pool(o), "p");
  output(graph.global_max_pool(o), "q");
  output(graph.mean(o, {2, 3}, true), "r");
  output(graph.sum(o, {}), "s");
  output(graph.reduce_max(o, {0}), "t");
  output(graph.reduce_min(o, {}, true), "u");
  const Value b2 = graph.name(graph.log_softmax(graph.name(graph.softmax(o, 1), "a2")), "b2");
  const Value c2 = graph.name(graph.resize(b2, {.scale = 2, .rounding = solder::ResizeRounding::ceil}), "c2");
  const Value d2 = graph.name(graph.resize(c2, {.size = {7, 5},
                                                .mode = solder::ResizeMode::bilinear,
                                                .coordinates = solder::ResizeCoordinates::align_corners}),
                              "d2");
  output(graph.resize(c2, {.size = {7, 0}, .scale = {0, 1.5}}), "d3");
  output(graph.pad(d2, {0, 0, 1, 2}, {0, -1, 2, 1}, solder::PadMode::edge), "e2");
  output(graph.pad(x, {0, 0, 1, 1}, {0, 0, 1, 1}, solder::PadMode::constant, -1.5f), "f3");
  const Value h2 =
      graph.name(graph.depth_to_space(graph.name(graph.space_to_depth(x, 2), "g2"), 2, true), "h2");
  const Value i2 = graph.name(graph.batch_norm(h2, c, c, c, c, 0.001f), "i2");
  const Value j2 = graph.name(graph.layer_norm(i2, v, v, 1, 0.1f), "j2");
  const Value l2 =
      graph.name(graph.lrn(graph.name(graph.group_norm(j2, c, c, 2), "k2"), 3, 0.1f, 0.5f, 2), "l2");
  const Value m2 = graph.name(graph.greater(x, l2), "m2"), n2 = graph.name(graph.less_equal(x, 0.0f), "n2");
  output(graph.where(m2, n2, x), "o2");
  const Value wide = graph.parameter("wide", {5, 6}), five = graph.parameter("five", {5});
  const Value p2 = graph.name(graph.linear(x, wide, five), "p2");
  output(graph.matmul(p2, graph.parameter("back", {5, 2})), "q2");
  return graph;
}

// The error of parsing `text`: "kind: message", empty when there is none.
std::string error_of(const std::string& text, const ShapeOverrides& shapes = {}) {
  try {
    parse_graph(text, "net.txt", shapes);
  } catch (const solder::Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("text graphs: every form of a line makes what the builder makes") {
  const Graph parsed = parse_graph(kEverything, "net.txt");
  CHECK(dump(parsed) == dump(everything()));
  CHECK(parsed == everything());

  const Graph calls = parse_graph(kBuilderCalls, "net.txt");
  CHECK(dump(calls) == dump(builder_calls()));
  CHECK(calls == builder_calls());

  solder::TensorMap weights, inputs{{"x", solder::Tensor::empty({1, 4, 6, 6})}};
  for (size_t i = 0; i < 144; ++i) inputs.at("x").floats()[i] = 1 + static_cast<float>(i % 7);
  for (const solder::Node& node : calls.nodes()) {
    if (node.kind != solder::NodeKind::parameter) continue;
    const solder::Tensor ones = solder::Tensor::empty(node.outputs[0].shape);
    std::fill_n(static_cast<float*>(ones.data()), ones.num_elems(), 1.0f);
    weights[node.name] = ones;
  }
  const solder::TensorMap results =
      compile(calls, weights, {.device = solder::Device::cpu()}).session().run(inputs);
  for (const auto& [name, value] : calls.outputs())
    CHECK(results.at(name).shape() == calls.type(value).shape);

  for (const char* line_end : {"\r\n", "\r"}) {
    std::string text = "\xef\xbb\xbf";  // a byte order mark, as Windows writes it
    for (const char c : kEverything) text += c == '\n' ? line_end : std::string(1, c);
    CHECK(parse_graph(text, "net.txt") == everything());
  }
}

TEST_CASE("text graphs: whatever a checkpoint calls a tensor is a name, and a name comes before a number") {
  for (const std::string name :
       {"0.weight", "layer1.0.bn1.running_mean", "features/conv-1:0", "onnx::Conv_12", "/model.22/cv2[0]",
        "1e3", "nan", "-1", "a\"b", "\u5377\u7a4d.\u91cd\u307f", "input"}) {
    INFO(name);
    const std::string text = "input x 3\nparameter " + name + " 3\ny = add x " + name + "\noutput y\n";
    Graph expected;
    const Value x = expected.input("x", {3});
    expected.output("y", expected.name(expected.add(x, expected.parameter(name, {3})), "y"));
    CHECK(parse_graph(text, "net.txt") == expected);
  }
  for (const std::string name :
       {"a,b", "a=b", "\x01", "\x7f", "\xff", "\xc0\x80", "\xed\xa0\x80", "\xe4\xb8"}) {
    INFO(name);
    CHECK(!is_name(name));
    CHECK(error_of("input " + name + " 3\noutput x\n").starts_with("invalid argument: net.txt:1: "));
  }
  const Graph both =
      parse_graph("input x 3\nparameter 2 3\ny = add x 2\nz = add x 2.0\noutput y\noutput z\n", "net.txt");
  CHECK(both.nodes()[2].inputs.size() == 2);
  CHECK(both.nodes()[3].inputs.size() == 1);
}

TEST_CASE("text graphs: every function by its name") {
  for (const solder::OpInfo& info : solder::kOps) {
    if (!info.is_callable) continue;
    std::string call = std::string(info.name) + (solder::is_binary(info.op) ? " x z" : " x");
    for (int i = 0; i < info.num_params(); ++i)
      if (info.params[i].is_required())
        call += std::string(" ") + info.params[i].name + "=" + std::to_string(i);
    const std::string text = "input x 3\ninput z 3\ny = " + call + "\noutput y\n";
    INFO(text);
    const Graph graph = parse_graph(text, "net.txt");
    CHECK(graph.nodes().back().epilogue.region.exprs.at(0).op == info.op);
    CHECK(grammar().find(info.name) != std::string::npos);
  }
  const Graph products = parse_graph(
      "input a 5,3\ninput b 3,4\nparameter w 7,4\nparameter v 7\n"
      "c = matmul a b\nd = linear c w v\ne = linear c w\noutput d\noutput e",
      "net.txt");
  CHECK(products.type(products.outputs()[0].second).shape == solder::Shape{5, 7});
  CHECK(products.type(products.outputs()[1].second).shape == solder::Shape{5, 7});
}

TEST_CASE("text graphs: every call of the builder is in the grammar and in the sample") {
  const std::string sample = kEverything + kBuilderCalls, text = grammar();
  const auto has = [](const std::string& in, const std::string& word) {
    return in.find(word) != std::string::npos;
  };
  for (const std::string& name : builder_call_names()) {
    INFO(name);
    CHECK((has(text, "\n  " + name + " ") || has(text, "   " + name + " ")));
    CHECK((has(sample, "= " + name + " ") || has(sample, "=" + name + " ")));
  }
}

TEST_CASE("text graphs: a graph as text makes the same graph") {
  for (const std::string& sample : {kEverything, kBuilderCalls}) {
    const Graph graph = parse_graph(sample, "net.txt");
    const GraphText written = text_of_graph(graph);
    INFO(written.text);
    CHECK(parse_graph(written.text, "again.txt") == graph);
    CHECK(written.parameters.at(graph == everything() ? "0.weight" : "w") ==
          (graph == everything() ? "0.weight" : "w"));
  }
}

TEST_CASE("text graphs: names that a text cannot have, and numbers that are names") {
  Graph graph;
  const std::string longest(300, 'l');
  const Value x = graph.input("2", {3}), a = graph.parameter("a b#c", {3}), b = graph.parameter("a_b_c", {3}),
              l = graph.parameter(longest, {3});
  const Value y = graph.name(graph.mul(x, 2.0f), ""), z = graph.name(graph.min(-INFINITY, y), "2");
  const Value clipped = graph.clip(graph.add(graph.add(z, a), b), -INFINITY, 1e-7f);
  graph.output("two words", graph.name(graph.sub(clipped, l), "z"));
  graph.output("first", x);
  const GraphText written = text_of_graph(graph);
  INFO(written.text);
  const Graph again = parse_graph(written.text, "again.txt");
  REQUIRE(again.nodes().size() == graph.nodes().size());
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    CHECK(again.nodes()[i].inputs == graph.nodes()[i].inputs);
    CHECK(again.nodes()[i].epilogue == graph.nodes()[i].epilogue);
  }
  CHECK(again.outputs()[1].first == "first");
  CHECK(again.outputs()[1].second == x);
  for (const auto& names : written.parameters) {
    INFO(names.first);
    const auto has_name = [&](const solder::Node& node) { return node.name == names.second; };
    CHECK(std::count_if(again.nodes().begin(), again.nodes().end(), has_name) == 1);
  }
  CHECK(written.parameters.at("a_b_c") != written.parameters.at("a b#c"));
}

TEST_CASE("text graphs: errors name the file, the line and what would be right") {
  struct Case {
    const char* text;
    const char* start;  // of the error
    const char* word;
  };
  const Case cases[] = {
      {"input x 4\nfoo\n", "invalid argument: net.txt:2: ", "NAME = OP"},
      {"input x\noutput x", "invalid argument: net.txt:1: ", "input NAME SHAPE"},
      {"input x 4,\noutput x", "invalid argument: net.txt:1: ", "\"4,\" is not a shape"},
      {"input x 4,,4\noutput x", "invalid argument: net.txt:1: ", "not a shape"},
      {"input x -4\noutput x", "invalid argument: net.txt:1: ", "not a shape"},
      {"input x 99999999999999999999\noutput x", "invalid argument: net.txt:1: ", "not a shape"},
      {"input x 9223372036854775807,2\noutput x", "invalid argument: net.txt:1: ", ""},
      {"input x 4 int8\noutput x", "invalid argument: net.txt:1: ", "float16"},
      {"input a,b 4\n", "invalid argument: net.txt:1: ", "is not a name"},
      {"input x 1 3 8 8\n", "invalid argument: net.txt:1: ", "with commas, as in 1,3,224,224"},
      {"= mish x\n", "invalid argument: net.txt:1: ", "\"\" is not a name"},
      {"input x 4\ny =\n", "invalid argument: net.txt:2: ", "NAME = OP"},
      {"input x 4\ny z = mish x\n", "invalid argument: net.txt:2: ", "NAME = OP"},
      {"input x 4\ninput x 4\n", "invalid argument: net.txt:2: ", "defined already"},
      {"input x 4\nx = mish x\n", "invalid argument: net.txt:2: ", "defined already"},
      {"y = mish x\n", "invalid argument: net.txt:1: ", "\"x\" is not defined above"},
      {"input x 4\n\n# three\ny = mish\n", "invalid argument: net.txt:4: ", "mish takes 1 argument, not 0"},
      {"input x 4\ny = mish x x\n", "invalid argument: net.txt:2: ", "mish takes 1 argument, not 2"},
      {"input x 4\ny = mosh x\n",
       "invalid argument: net.txt:2: ", "\"mosh\" is not an operation (did you mean \"mish\"?)"},
      {"input x 4\ny = Conv2D x\n", "invalid argument: net.txt:2: ", "did you mean \"conv2d\"?"},
      {"input x 4\ny = mul x, x\n", "invalid argument: net.txt:2: ", "blanks separate arguments"},
      {"input hidden 4\ny = mish hiden\n", "invalid argument: net.txt:2: ", "did you mean \"hidden\"?"},
      {"input net.x 4\ny = mish x\n", "invalid argument: net.txt:2: ", "did you mean \"net.x\"?"},
      {"input x 4\ny = add x nan_\n", "invalid argument: net.txt:2: ", "\"nan_\" is not defined"},
      {"input x 4\ny = add 1 2\n",
       "invalid argument: net.txt:2: ", "\"1\" is a number, and an operation needs a tensor"},
      {"input x 4 layout=nhwc\n", "invalid argument: net.txt:1: ", "\"nhwc\" is not a layout"},
      {"input x 4 layout=channels_last\n", "invalid argument: net.txt:1: ", "[4] has 1 extents"},
      {"input x 4\noutput y x layout=channels_last\n", "invalid argument: net.txt:2: ", "have four"},
      {"input x 4\ny = mish 2\n", "invalid argument: net.txt:2: ", "\"2\" is a number"},
      {"input x 4\ny = add x 1e400\n", "invalid argument: net.txt:2: ", "\"1e400\" is beyond float32"},
      {"input x 4\ny = add x -1e-400\n", "invalid argument: net.txt:2: ", "\"-1e-400\" is beyond float32"},
      {"input x 4\ny = clip x low=0 high=1e39\n",
       "invalid argument: net.txt:2: ", "high=\"1e39\" is beyond float32"},
      {"input x 4\ny = clip x low=0\n", "invalid argument: net.txt:2: ", "high=NUMBER"},
      {"input x 4\ny = clip x low=2 high=1\n", "invalid argument: net.txt:2: y: low 2", "must not be above"},
      {"input x 4\ny = leaky_relu x slope=a\n", "invalid argument: net.txt:2: ", "not a number"},
      {"input x 4\ny = leaky_relu slope=1 x\n", "invalid argument: net.txt:2: ", "put it before"},
      {"input x 4\ny = mish x slope=1\n",
       "invalid argument: net.txt:2: ", "mish has no \"slope\", nor any other KEY=VALUE"},
      {"input x 4\ny = elu x slope=1\n",
       "invalid argument: net.txt:2: ", "elu has no \"slope\"; it has alpha"},
      {"input x 4\ny = mish(x)\n",
       "invalid argument: net.txt:2: ", "\"mish(x)\" is not an operation (did you mean \"mish\"?)"},
      {"input x 4\ny = conv x x\n", "invalid argument: net.txt:2: ", "did you mean \"conv2d\"?"},
      {"input x 4\ny = x + 1\n", "invalid argument: net.txt:2: ", "the operation goes first"},
      {"input x 4\ny = elu x alpha=1 alpha=1\n", "invalid argument: net.txt:2: ", "given twice"},
      {"input x 4\ny = slice x start=1\n", "invalid argument: net.txt:2: ", "slice needs axis=NUMBER"},
      {"input x 4\ny = slice x axis=4294967296\n", "invalid argument: net.txt:2: ", "axis"},
      {"input x 4\ny = cast x\n", "invalid argument: net.txt:2: ", "dtype="},
      {"input x 4\ny = cast x dtype=int8\n", "invalid argument: net.txt:2: ", "\"int8\" is not a dtype"},
      {"input x 4\ny = concat axis=0\n",
       "invalid argument: net.txt:2: ", "concat takes 1 or more arguments, not 0"},
      {"input x 4\ny = concat x x\n", "invalid argument: net.txt:2: ", "concat needs axis=NUMBER"},
      {"input x 4\ny = reshape x\n", "invalid argument: net.txt:2: ", "reshape needs shape=NUMBER,..."},
      {"input x 4\ny = reshape x shape=2,a\n", "invalid argument: net.txt:2: ", "whole numbers with commas"},
      {"input x 4\ny = reshape x shape=3,-1\n", "shape mismatch: net.txt:2: y: ", "[4]"},
      {"input x 4\ny = permute x axes=1\n", "invalid argument: net.txt:2: y: ", "axis 1"},
      {"input x 4\ny = mean x axes=0,0\n", "invalid argument: net.txt:2: y: ", "named twice"},
      {"input x 4\ny = mean x keep_dims=2\n", "invalid argument: net.txt:2: ", "\"2\" is none of 0, 1"},
      {"input x 4\ny = softmax x axis=99999999999\n", "invalid argument: net.txt:2: y: ", "axis"},
      {"input x 4\ny = gather x axis=0 indices=4\n", "invalid argument: net.txt:2: y: ", "4"},
      {"input x 4\ny = max_pool2d x\n", "invalid argument: net.txt:2: ", "max_pool2d needs kernel=NUMBER"},
      {"input x 1,1,4,4\ny = max_pool2d x kernel=5\n", "shape mismatch: net.txt:2: y: ", "reaches over 5"},
      {"input x 1,1,4,4\ny = max_pool2d x kernel=2 count_include_pad=0\n",
       "invalid argument: net.txt:2: ", "max_pool2d has no \"count_include_pad\""},
      {"input x 1,1,4,4\ny = resize x size=2 mode=bilinar\n",
       "invalid argument: net.txt:2: ", "is none of nearest, bilinear (did you mean \"bilinear\"?)"},
      {"input x 1,1,4,4\ny = resize x scale=2,x\n", "invalid argument: net.txt:2: ", "takes a number"},
      {"input x 1,1,4,4\ny = resize x scale=1,2,3\n", "invalid argument: net.txt:2: ", "3 numbers"},
      {"input x 1,1,4,4\ny = resize x scale=nan\n", "invalid argument: net.txt:2: y: ", "scale nan"},
      {"input x 4\ny = pad x before=1 after=1 mode=mirror\n",
       "invalid argument: net.txt:2: ", "none of constant, reflect, edge"},
      {"input x 4\ny = pad x before=1,1 after=1\n", "invalid argument: net.txt:2: y: ", "needs 1 of each"},
      {"input x 4\ny = batch_norm x x x\n",
       "invalid argument: net.txt:2: ", "batch_norm takes 5 arguments, not 3"},
      {"input x 4\ninput z 3\ny = greater x z\n", "shape mismatch: net.txt:3: y: ", "do not broadcast"},
      {"input x 4\ny = where x 1 x\n", "invalid argument: net.txt:2: ", "\"1\" is a number"},
      {"input x 4\ny = max_pol2d x\n", "invalid argument: net.txt:2: ", "did you mean \"max_pool2d\"?"},
      {"input x 4\ninput y 5\nz = add x y\n", "shape mismatch: net.txt:3: ", "do not broadcast"},
      {"input x 1,3,8,8\nparameter w 4,3,3,3\ny = conv2d x w stride=0\n",
       "invalid argument: net.txt:3: ", "stride"},
      {"input x 1,3,8,8\nparameter w 4,3,3,3\ny = conv2d x w stride=1,1,1\n",
       "invalid argument: net.txt:3: ", "3 numbers"},
      {"input x 1,3,8,8\nparameter w 4,3,3,3\ny = conv2d x w stride=1,,1\n",
       "invalid argument: net.txt:3: ", "whole numbers"},
      {"input x 1,3,8,8\nparameter w 4,2,3,3\ny = conv2d x w\n", "shape mismatch: net.txt:3: ", "channels"},
      {"input x 4\noutput y\n", "invalid argument: net.txt:2: ", "not defined"},
      {"input x 4\noutput x\noutput x\n", "invalid argument: net.txt:3: ", "already has one"},
      {"input x 4\n", "invalid argument: net.txt: ", "no output"},
      {"", "invalid argument: net.txt: ", "no nodes"},
      {"# nothing\n\n", "invalid argument: net.txt: ", "no nodes"},
      {"\xff\xfei", "invalid argument: net.txt: ", "UTF-16"},
  };
  for (const Case& c : cases) {
    INFO(std::string(c.text));
    const std::string error = error_of(c.text);
    CHECK(error.substr(0, std::string(c.start).size()) == c.start);
    CHECK(error.find(c.word) != std::string::npos);
  }
  CHECK(error_of(std::string("input x 4\n\0", 11)).find("net.txt: is not text (byte 10 is zero)") !=
        std::string::npos);
  CHECK(error_of(std::string(2 << 20, '#')).find("1 MiB") != std::string::npos);
  std::string many;
  for (int i = 0; i < 10001; ++i) many += solder::str("parameter p", i, " 1\n");
  CHECK(error_of(many).find("more than 10000 nodes") != std::string::npos);
  CHECK(error_of("input " + std::string(201, 'x') + " 1\n").find("is not a name") != std::string::npos);
}

TEST_CASE("text graphs: a shape from outside replaces an input's") {
  const std::string text = "input x 4,4\nparameter p 4\ny = mish x\noutput y\n";
  const Graph graph = parse_graph(text, "net.txt", {{"x", {7}}});
  CHECK(graph.type(graph.outputs()[0].second).shape == solder::Shape{7});
  CHECK(error_of(text, {{"p", {7}}}).find("no input \"p\"") != std::string::npos);
  CHECK(error_of(text, {{"q", {7}}}).find("no input \"q\"") != std::string::npos);
  CHECK(error_of(text, {{"X", {7}}}).find("did you mean \"x\"?") != std::string::npos);
}

// SOLDER_MUTATIONS sets how many (default 20,000): any bytes give a graph or a solder::Error.
TEST_CASE("text graphs: mutated texts") {
  std::vector<std::string> seeds{kEverything, kBuilderCalls};
  for (size_t i = 0; i < kNumBuiltIns; ++i) seeds.push_back(kBuiltIns[i].text);
  const char* const pieces[] = {" ",    "\n",    "=", ",",  "-1",   "0",      "9223372036854775807",
                                "x",    "y",     "#", "\0", "conv", "output", "input ",
                                "1e39", "scalar"};
  const char* const count = std::getenv("SOLDER_MUTATIONS");
  const int num_texts = count != nullptr ? std::atoi(count) : 20000;
  std::mt19937 engine(1);
  const auto below = [&](size_t n) { return engine() % n; };
  int accepted = 0;
  for (int i = 0; i < num_texts; ++i) {
    std::string text = seeds[below(seeds.size())];
    for (size_t edits = 1 + below(4); edits > 0; --edits) {
      const size_t at = below(text.size() + 1);
      switch (below(4)) {
        case 0: text.erase(at, below(12)); break;
        case 1: text.insert(at, pieces[below(std::size(pieces))]); break;
        case 2: text.insert(at, 1, static_cast<char>(below(256))); break;
        default: text.insert(at, text.substr(below(text.size() + 1), below(40))); break;
      }
    }
    try {
      const Graph graph = parse_graph(text, "net.txt");
      CHECK(!graph.outputs().empty());
      ++accepted;
    } catch (const solder::Error&) {
    }
  }
  CHECK(accepted > num_texts / 100);  // or the mutations say nothing about what comes after the first line
  CHECK(accepted < num_texts);
}
