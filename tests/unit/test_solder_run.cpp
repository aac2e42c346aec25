// solder-run's text format and command line. Sees the installed layout, as solder-run does: nothing here may
// include "graph/...", whose declarations it would repeat.
#include <doctest/doctest.h>

#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "examples/solder_run/options.h"
#include "examples/solder_run/pictures.h"
#include "examples/solder_run/report.h"
#include "examples/solder_run/text_graph.h"
#include "tests/cases/text_graph_sample.h"

using namespace solder_run;
using samples::kEverything;
using solder::DType;
using solder::ErrorKind;
using solder::Graph;
using solder::Op;
using solder::Value;

namespace {

Graph everything() {
  Graph g;
  const Value x = g.input("x", {2, 8, 9, 7}), half = g.input("half", {2, 8, 9, 7}, DType::float16);
  const Value scale = g.input("scale", {});
  const Value w = g.parameter("a.weight", {6, 4, 3, 2}), bias = g.parameter("a.bias", {6});
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
  g.output("l", g.name(g.mul(scale, k), "l"));
  return g;
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

std::string usage_error_of(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "solder-run");
  try {
    parse_options(static_cast<int>(arguments.size()), arguments.data());
  } catch (const UsageError& error) {
    return error.message;
  }
  return "";
}

}  // namespace

TEST_CASE("text graphs: every form of a line makes what the builder makes") {
  const Graph parsed = parse_graph(kEverything, "net.txt");
  CHECK(dump(parsed) == dump(everything()));
  CHECK(parsed == everything());

  std::string crlf;
  for (const char c : kEverything) crlf += c == '\n' ? "\r\n" : std::string(1, c);
  CHECK(parse_graph(crlf, "net.txt") == everything());
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
    CHECK(graph.nodes().back().region.exprs.at(0).op == info.op);
    CHECK(grammar().find(info.name) != std::string::npos);
  }
  const Graph products = parse_graph(
      "input a 5,3\ninput b 3,4\nparameter w 7,4\nparameter v 7\n"
      "c = matmul a b\nd = linear c w v\ne = linear c w\noutput d\noutput e",
      "net.txt");
  CHECK(products.type(products.outputs()[0].second).shape == solder::Shape{5, 7});
  CHECK(products.type(products.outputs()[1].second).shape == solder::Shape{5, 7});
}

TEST_CASE("text graphs: errors name the file, the line and what would be right") {
  struct Case {
    const char* text;
    const char* start;  // of the error
    const char* word;
  };
  const Case cases[] = {
      {"input x 4\nfoo\n", "I/O error: net.txt:2: ", "NAME = OP"},
      {"input x\noutput x", "I/O error: net.txt:1: ", "input NAME SHAPE"},
      {"input x 4,\noutput x", "I/O error: net.txt:1: ", "\"4,\" is not a shape"},
      {"input x 4,,4\noutput x", "I/O error: net.txt:1: ", "not a shape"},
      {"input x -4\noutput x", "I/O error: net.txt:1: ", "not a shape"},
      {"input x 99999999999999999999\noutput x", "I/O error: net.txt:1: ", "not a shape"},
      {"input x 9223372036854775807,2\noutput x", "invalid argument: net.txt:1: ", ""},
      {"input x 4 int8\noutput x", "I/O error: net.txt:1: ", "float16"},
      {"input 4x 4\n", "I/O error: net.txt:1: ", "is not a name"},
      {"input x 4\ninput x 4\n", "I/O error: net.txt:2: ", "defined already"},
      {"input x 4\nx = mish x\n", "I/O error: net.txt:2: ", "defined already"},
      {"y = mish x\n", "I/O error: net.txt:1: ", "\"x\" is not defined above"},
      {"input x 4\n\n# three\ny = mish\n", "I/O error: net.txt:4: ", "mish takes 1 argument, not 0"},
      {"input x 4\ny = mish x x\n", "I/O error: net.txt:2: ", "mish takes 1 argument, not 2"},
      {"input x 4\ny = mosh x\n", "I/O error: net.txt:2: ", "\"mosh\" is not an operation"},
      {"input x 4\ny = add x nan_\n", "I/O error: net.txt:2: ", "\"nan_\" is not defined"},
      {"input x 4\ny = add 1 2\n", "I/O error: net.txt:2: ", "not defined"},
      {"input x 4\ny = clip x low=0\n", "I/O error: net.txt:2: ", "high=NUMBER"},
      {"input x 4\ny = clip x low=2 high=1\n", "invalid argument: net.txt:2: y: low 2", "must not be above"},
      {"input x 4\ny = leaky_relu x slope=a\n", "I/O error: net.txt:2: ", "not a number"},
      {"input x 4\ny = leaky_relu slope=1 x\n", "I/O error: net.txt:2: ", "put it before"},
      {"input x 4\ny = mish x slope=1\n", "I/O error: net.txt:2: ", "mish has no \"slope\""},
      {"input x 4\ny = elu x alpha=1 alpha=1\n", "I/O error: net.txt:2: ", "given twice"},
      {"input x 4\ny = cast x\n", "I/O error: net.txt:2: ", "dtype="},
      {"input x 4\ninput y 5\nz = add x y\n", "shape mismatch: net.txt:3: z: ", "do not broadcast"},
      {"input x 1,3,8,8\nparameter w 4,3,3,3\ny = conv2d x w stride=0\n",
       "invalid argument: net.txt:3: ", "stride"},
      {"input x 1,3,8,8\nparameter w 4,3,3,3\ny = conv2d x w stride=1,1,1\n",
       "I/O error: net.txt:3: ", "3 numbers"},
      {"input x 1,3,8,8\nparameter w 4,2,3,3\ny = conv2d x w\n", "shape mismatch: net.txt:3: ", "channels"},
      {"input x 4\noutput y\n", "I/O error: net.txt:2: ", "not defined"},
      {"input x 4\noutput x\noutput x\n", "invalid argument: net.txt:3: ", "already has one"},
      {"input x 4\n", "I/O error: net.txt:1: ", "no output"},
      {"", "I/O error: net.txt:0: ", "no output"},
  };
  for (const Case& c : cases) {
    INFO(std::string(c.text));
    const std::string error = error_of(c.text);
    CHECK(error.substr(0, std::string(c.start).size()) == c.start);
    CHECK(error.find(c.word) != std::string::npos);
  }
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
}

// SOLDER_MUTATIONS sets how many (default 20,000): any bytes give a graph or a solder::Error.
TEST_CASE("text graphs: mutated texts") {
  std::vector<std::string> seeds{kEverything};
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
  CHECK(accepted > num_texts / 50);  // or the mutations say nothing about what comes after the first line
  CHECK(accepted < num_texts);
}

TEST_CASE("solder-run: command lines that cannot be understood") {
  CHECK(usage_error_of({"headline"}) == "");
  CHECK(usage_error_of({"--list"}) == "");
  CHECK(usage_error_of({}).find("no graph") != std::string::npos);
  CHECK(usage_error_of({"a", "b"}).find("one graph") != std::string::npos);
  CHECK(usage_error_of({"a", "--nope"}).find("--nope") != std::string::npos);
  CHECK(usage_error_of({"a", "--iters"}).find("needs a value") != std::string::npos);
  CHECK(usage_error_of({"a", "--iters", "0"}).find("from 1") != std::string::npos);
  CHECK(usage_error_of({"a", "--iters", "2x"}).find("2x") != std::string::npos);
  CHECK(usage_error_of({"a", "--math", "fp8"}).find("tf32") != std::string::npos);
  CHECK(usage_error_of({"a", "--workspace", "9999999999G"}).find("bytes") != std::string::npos);
  CHECK(usage_error_of({"a", "--shape", "x"}).find("NAME=EXTENTS") != std::string::npos);
  CHECK(usage_error_of({"a", "--input", "x=y.txt"}).find(".npy") != std::string::npos);
  CHECK(usage_error_of({"a", "--input", "x.npy", "--input", "y.npy"}).find("twice") != std::string::npos);
  CHECK(usage_error_of({"a", "--graph", "x.png"}).find(".dot or .svg") != std::string::npos);
  CHECK(usage_error_of({"a", "--no-run", "--profile"}).find("--no-run") != std::string::npos);

  const char* const line[] = {"solder-run", "net.txt", "--workspace", "3M",        "--shape",
                              "x=1,2",      "--math",  "tf32",        "--no-fuse", "-h"};
  const Options options = parse_options(std::size(line), line);
  CHECK(options.compile.workspace_bytes == 3 << 20);
  CHECK(options.compile.math == solder::Math::tf32);
  CHECK(!options.compile.fuse);
  CHECK(options.shapes.at("x") == solder::Shape{1, 2});
  CHECK(options.action == Options::Action::help);
}

TEST_CASE("solder-run: what the table and the summary say") {
  solder::Profile profile{.copy_bytes_per_s = 2e12, .peak_flops_per_s = 1e15};
  profile.nodes.push_back({.name = "slow",
                           .kind = solder::NodeKind::conv2d,
                           .path = "a way",
                           .bytes = 1000000000,
                           .flops = 3000000000000,
                           .spans = {{0, 4}, {10, 14}}});
  profile.nodes.push_back({.name = "fast", .bytes = 1000000000, .spans = {{4, 5}, {14, 15}}});
  const std::string table = profile_table(profile);
  INFO(table);
  // 3 ms of arithmetic outweigh 0.5 ms of memory; the second has memory alone.
  std::string squeezed;
  for (const char c : table)
    if (c != ' ' || squeezed.back() != ' ') squeezed += c;
  CHECK(squeezed.find("slow conv2d 4000 80.0 250 750 3000 75.0 a way\n") != std::string::npos);
  CHECK(squeezed.find("fast elementwise 1000 20.0 1000 - 500 50.0 \n") != std::string::npos);
  CHECK(squeezed.find("all 5000 100 400 600 3500 70.0 \n") != std::string::npos);
  CHECK(squeezed.find("2000 GB/s") != std::string::npos);

  CHECK(short_path("window kernel, 128x32, 2 stages; then one pass") == "window kernel; then one pass");
  CHECK(short_path("im2col + cuBLAS, 1 x 9 pixels (no Hopper)") == "im2col + cuBLAS");
  CHECK(short_path("direct") == "direct");
  CHECK(short_path("one; two, three") == "one; two, three");

  const float inf = INFINITY;
  const float values[] = {1, 2, inf, NAN, -4};
  CHECK(summary("y", solder::Tensor::from({5}, values)) ==
        "y float32 [5]: min -4, max 2, mean -0.333333; 1 2 inf nan ...; 2 of 5 are not finite");
  CHECK(summary("y", solder::Tensor::empty({0, 2})) == "y float32 [0, 2]: empty");
  CHECK(human_bytes(0) == "0 B");
  CHECK(human_bytes(1023) == "1023 B");
  CHECK(human_bytes(1536) == "1.5 KiB");
  CHECK(human_bytes(int64_t{3} << 40) == "3 TiB");
}
