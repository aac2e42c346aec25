// solder-run's command line, and what it prints. Sees the installed layout, as solder-run does: nothing here may
// include "graph/...", whose declarations it would repeat.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "examples/solder_run/options.h"
#include "examples/solder_run/pictures.h"
#include "examples/solder_run/repeats.h"
#include "examples/solder_run/report.h"
#include "examples/solder_run/text_graph.h"
#include "tests/support/grouping_locale.h"

using namespace solder_run;

namespace {

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
  CHECK(usage_error_of({"a", "--input", "x=x.npy", "--input", "x=y.npy"}).find("\"x\" twice") !=
        std::string::npos);
  CHECK(usage_error_of({"a", "--output", "y=x.npy", "--output", "y=y.npy"}).find("twice") !=
        std::string::npos);
  CHECK(usage_error_of({"a", "--output", "y=y.npy", "--output", "z=y.npy"}).find("written twice") !=
        std::string::npos);
  CHECK(usage_error_of({"a", "--shape", "x=1", "--shape", "x=2"}).find("\"x\" twice") != std::string::npos);
  CHECK(usage_error_of({"a", "--math", "fp32", "--math=tf32"}).find("--math is given twice") !=
        std::string::npos);
  CHECK(usage_error_of({"a", "--graph", "m.svg", "--memory", "m.svg"}).find("m.svg would be") !=
        std::string::npos);
  CHECK(usage_error_of({"a", "--weigths", "w"}).find("did you mean \"--weights\"?") != std::string::npos);
  CHECK(usage_error_of({"a", "--weights", "w.pt"}).find(".safetensors") != std::string::npos);
  CHECK(usage_error_of({"a", "--no-run=1"}).find("unknown option") != std::string::npos);
  CHECK(usage_error_of({"a", "--graph", "x.png"}).find(".dot or .svg") != std::string::npos);
  CHECK(usage_error_of({"a", "--no-run", "--profile"}).find("--no-run") != std::string::npos);
  CHECK(usage_error_of({"a", "--graph", "m.svg", "--memory", "./m.svg"}).find("m.svg would be") !=
        std::string::npos);
  // Options that would do nothing.
  for (const char* const option : {"--value=x=1", "--override-fixed"}) {
    CHECK(usage_error_of({"a", option}).find("for ONNX files") != std::string::npos);
    CHECK(usage_error_of({"a.onnx", option}) == "");
  }
  CHECK(usage_error_of({"a", "--strip-prefix", "net."}).find("needs --weights") != std::string::npos);
  for (const char* const option : {"--profile", "--describe", "--memory=m.svg", "--output=y.npy"})
    CHECK(usage_error_of({"a", "--show", option}).find("--show leaves nothing") != std::string::npos);
  CHECK(usage_error_of({"a", "--list", "--show"}).find("at a time") != std::string::npos);
  CHECK(usage_error_of({"--help", "-h"}) == "");

  const char* const line[] = {"solder-run",    "net.txt",
                              "--workspace",   "3M",
                              "--shape",       "x=1,2",
                              "--math=tf32",   "--weights",
                              "a.safetensors", "--weights=b.safetensors",
                              "--no-fuse",     "-h"};
  const Options options = parse_options(std::size(line), line);
  CHECK(options.compile.workspace_bytes == 3 << 20);
  CHECK(options.compile.math == solder::Math::tf32);
  CHECK(!options.compile.fuse);
  CHECK(options.weights == std::vector<std::string>{"a.safetensors", "b.safetensors"});
  CHECK(options.shapes.at("x") == solder::Shape{1, 2});
  CHECK(options.action == Options::Action::help);
  const char* const version[] = {"solder-run", "--version"};
  CHECK(parse_options(2, version).action == Options::Action::version);
  CHECK(solder::version().starts_with(solder::kVersion));
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

  // What does the same is one line: times, bytes and bounds add up. Another result, or path, is another line.
  solder::NodeProfile repeat{.name = "layer1.0.conv2", .path = "a way", .shape = {1, 2}, .bytes = 1000000000};
  for (const char* const name : {"layer1.0.conv2", "layer1.10.conv2", "layer1.11.conv2"}) {
    repeat.name = name;
    repeat.spans = {{0, profile.nodes.size() < 4 ? 1.0 : 2.0}};
    profile.nodes.push_back(repeat);
  }
  repeat.name = "turned";
  repeat.shape = {2, 1};
  profile.nodes.push_back(repeat);
  repeat.path = "another way";
  profile.nodes.push_back(repeat);
  squeezed.clear();
  for (const char c : profile_table(profile))
    if (c != ' ' || squeezed.back() != ' ') squeezed += c;
  INFO(squeezed);
  CHECK(squeezed.find("fast elementwise 1000 ") != std::string::npos);
  CHECK(squeezed.find(
            "layer1.*.conv2 x3 elementwise 4000 30.8 750 - 1500 37.5 a way\nturned elementwise 2000 ") !=
        std::string::npos);
  CHECK(squeezed.find("\nturned elementwise 2000 15.4 500 - 500 25.0 another way\nall 13000 100 ") !=
        std::string::npos);
  CHECK(squeezed.find("by kind") == std::string::npos);

  // Of many lines also the kinds, and what takes the most time beyond its bound, of these 0.5 ms.
  for (int64_t i = 0; i < 12; ++i) {
    repeat.name = "n" + std::to_string(i);
    repeat.shape = {3, i};
    repeat.spans = {{0, i == 7 ? 3.5 : 0.75}};
    profile.nodes.push_back(repeat);
  }
  squeezed.clear();
  for (const char c : profile_table(profile))
    if (c != ' ' || squeezed.back() != ' ') squeezed += c;
  INFO(squeezed);
  const size_t kinds = squeezed.find("\nby kind:\nx1 conv2d 4000 "),
               worst = squeezed.find("\nthe most time beyond their bound:\n");
  CHECK(kinds != std::string::npos);
  CHECK(squeezed.find("\nx18 elementwise 20750 ", kinds) < worst);
  CHECK(squeezed.find("beyond their bound:\nn7 elementwise 3500 ", kinds) == worst + 15);
  CHECK(squeezed.find("\nslow conv2d 4000 ", worst) < squeezed.find("\nfast ", worst));
  CHECK(std::ranges::count(squeezed.substr(worst + 1), '\n') == 1 + 10 + 1);  // and what the bound is
  CHECK(common_name({"conv2d_3", "conv2d_31"}) == "conv2d_*");
  CHECK(common_name({"a.1.x", "a.1.y"}) == "a.1.*");
  CHECK(common_name({"one"}) == "one");

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

TEST_CASE("solder-run: what will take long on the CPU says so") {
  solder::Graph g;
  const auto x = g.input("x", {1, 8, 16, 16}), w = g.parameter("w", {8, 8, 3, 3});
  g.output("y", g.mish(g.conv2d(x, w)));
  const solder::TensorMap weights{{"w", solder::Tensor::empty({8, 8, 3, 3})}};
  const auto model = solder::compile(g, weights, {.device = solder::Device::cpu()});
  CHECK(long_run_warning(model, 1) == "");
  const std::string warning = long_run_warning(model, 1 << 30);  // 242 TFLOP
  INFO(warning);
  CHECK(warning.find(" 0.00023 GFLOP a run, ") != std::string::npos);
  CHECK(warning.ends_with(", 1073741824 runs"));
}

namespace {

// conv, mish, add, four times with other weights; block `odd` is different by `how`.
solder::Graph four_blocks(int odd, const std::string& how) {
  solder::Graph g;
  auto x = g.mish(g.input("x", {1, 4, 8, 8}));
  for (int b = 0; b < 4; ++b) {
    const std::string block = "net." + std::to_string(b);
    const auto w = g.parameter(block + ".conv.weight", {4, 4, 3, 3});
    auto y = g.conv2d(x, w, {.padding = 1, .name = block + ".conv"});
    y = b == odd && how == "kind" ? g.relu(y) : g.mish(y);
    if (b == odd && how == "given out") g.output("extra", y);
    y = g.add(y, b == odd && how == "operand" ? y : x);
    x = b == odd && how == "scale" ? g.mul(y, 2.0f) : g.name(y, block);
  }
  g.output("y", x);
  return g;
}

}  // namespace

TEST_CASE("solder-run: blocks that come several times") {
  const auto repeats = find_repeats(four_blocks(-1, ""), {});
  REQUIRE(repeats.size() == 1);
  CHECK(repeats[0].length == 3);
  CHECK(repeats[0].times == 4);
  CHECK(repeats[0].what == "net.0 to net.3");
  CHECK(repeats[0].nodes.size() == 12);
  CHECK(four_blocks(-1, "").nodes()[repeats[0].nodes[3]].name == "net.1.conv");
  for (const char* const how : {"kind", "given out", "operand", "scale"}) {
    INFO(how);
    const auto rest = find_repeats(four_blocks(0, how), {});  // the other three are alike
    REQUIRE(rest.size() == 1);
    CHECK(rest[0].times == 3);
    CHECK(rest[0].what == "net.1 to net.3");
  }
  CHECK(find_repeats(four_blocks(2, "kind"), {}).at(0).what == "net.0 to net.1");
  CHECK(find_repeats(four_blocks(3, "given out"), {}).at(0).times == 4);  // the last may be read

  const std::string dot = [] {
    const auto model = solder::compile(four_blocks(-1, ""),
                                       [] {
                                         solder::TensorMap weights;
                                         for (int b = 0; b < 4; ++b)
                                           weights["net." + std::to_string(b) + ".conv.weight"] =
                                               solder::Tensor::from({4, 4, 3, 3}, std::vector<float>(144));
                                         return weights;
                                       }(),
                                       {.device = solder::Device::cpu()});
    return graph_dot(four_blocks(-1, ""), model, "net");
  }();
  INFO(dot);
  CHECK(dot.find("4 times: net.0 to net.3") != std::string::npos);
  CHECK(dot.find("net.0.conv.weight") != std::string::npos);
  CHECK(dot.find("net.1.conv.weight") == std::string::npos);
}

TEST_CASE("solder-run: names of ONNX files are data in a terminal, JSON, XML and Graphviz's language") {
  CHECK(printable("a b é 中 \xf0\x9f\x98\x80") == "a b é 中 \xf0\x9f\x98\x80");
  CHECK(printable(std::string("\0\n\x1b[\x7f", 5)) == "???[?");
  CHECK(printable("\xc2\x9b\xff\xed\xa0\x80\xef\xbf\xbf\xc2\xa0") == "?????????\xc2\xa0");
  const std::string name = "a&lt;b\n\x1b\xff\"\\";
  solder::Graph graph;
  graph.output(name, graph.name(graph.mish(graph.input(name, {4})), name));
  const auto model = solder::compile(graph, {}, {.device = solder::Device::cpu()});
  const auto holds = [](const std::string& text, const std::string& written) {
    INFO(text);
    CHECK(text.find(written) != std::string::npos);
    CHECK(text.find_first_of("\x1b\xff") == std::string::npos);
  };
  holds(graph_dot(graph, model, name), R"(a&amp;lt;b???\"\\)");
  holds(memory_svg(model, name), R"(a&amp;lt;b???&quot;\)");
  solder::Profile profile;
  profile.nodes.push_back({.name = name, .path = name, .spans = {{0, 1}}});
  holds(chrome_trace(name, model.device(), {}, profile, 0), R"("a&lt;b???\"\\")");
  holds(summary(name, solder::Tensor::from({1}, {1})), R"(a&lt;b???"\ float32 [1])");
}

TEST_CASE("solder-run: what it writes does not depend on the locale") {
  const auto written = [] {
    const solder::Graph graph = parse_graph("input x 1234567\ny = mul x 1234.5\noutput y\n", "net.txt");
    const auto model = solder::compile(graph, {}, {.device = solder::Device::cpu()});
    solder::Profile profile{.copy_bytes_per_s = 1234.5e9};
    profile.nodes.push_back({.name = "y", .bytes = 9876543, .flops = 1234567, .spans = {{1234.5, 5432.25}}});
    const std::vector<float> values(1234, 1234.5f);
    return chrome_trace("net", model.device(), {{"run", 1234.5, 9876.25}}, profile, 1000) +
           profile_table(profile) + summary("y", solder::Tensor::from({1234}, values)) +
           memory_svg(model, "net") + graph_dot(graph, model, "net") + human_bytes(1234567);
  };
  const std::string classic = written();
  CHECK(classic.find("1234.5") != std::string::npos);
  const solder::file_testing::GroupingLocale grouping;
  CHECK(written() == classic);
}
