// What is refused before anything runs, and how it is said: shape inference and the text of errors.
#include <algorithm>

#include "ops/conv/conv.h"
#include "runtime/text_reader.h"
#include "tests/support/file_testing.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

TEST_CASE("errors: every kind has a name of its own, and starts the message") {
  std::vector<std::string> names;
  for (const ErrorKind kind :
       {ErrorKind::invalid_argument, ErrorKind::shape_mismatch, ErrorKind::unsupported,
        ErrorKind::out_of_memory, ErrorKind::cuda, ErrorKind::device_lost, ErrorKind::io}) {
    const std::string name = to_string(kind);
    CHECK(std::count(names.begin(), names.end(), name) == 0);
    names.push_back(name);
    CHECK(std::string(Error(kind, std::string("why")).what()) == name + ": why");
    CHECK(std::string(Error(kind, "literal").what()) == "literal");
  }
}

TEST_CASE("errors: a convolution of impossible geometry is refused, and the graph stays as it was") {
  Graph g;
  const Value x = g.input("x", {1, 4, 8, 8}), w = g.parameter("w", {6, 4, 3, 3});
  const Graph before = g;
  CHECK_ERROR(g.conv2d(x, w, {.groups = 0}), invalid_argument, "groups is 0");
  CHECK_ERROR(g.conv2d(x, w, {.groups = 3}), shape_mismatch, "groups 3 must divide");
  CHECK_ERROR(g.conv2d(x, w, {.groups = 4}), shape_mismatch, "groups 4 must divide");
  CHECK_ERROR(g.conv2d(x, w, {.groups = 2}), shape_mismatch, "w must be [K, 2, R, S]");
  for (const Pair& pair : {Pair(0, 1), Pair(1, 0), Pair(-1, 1)}) {
    CHECK_ERROR(g.conv2d(x, w, {.stride = pair}), invalid_argument, "strides");
    CHECK_ERROR(g.conv2d(x, w, {.dilation = pair}), invalid_argument, "dilations");
  }
  constexpr int64_t kBeyond = int64_t{1} << 31;
  CHECK_ERROR(g.conv2d(x, w, {.stride = kBeyond}), unsupported, "below 2^31");
  CHECK_ERROR(g.conv2d(x, w, {.padding = kBeyond}), unsupported, "padding must be below 2^31");
  CHECK_ERROR(g.conv2d(x, w, {.padding = -kBeyond}), unsupported, "padding must be below 2^31");
  CHECK_ERROR(g.conv2d(x, w, {.padding = {-3, 0}}), shape_mismatch, "3 rows", "has 2");
  CHECK_ERROR(g.conv2d(x, w, {.padding = {0, -3}}), shape_mismatch, "3 columns", "has 2");
  CHECK_ERROR(g.conv2d(x, w, {.padding = kBeyond - 1, .dilation = 2}), unsupported, "passes 2^63 bytes");
  CHECK(g == before);

  // The same by hand: extents that no tensor has.
  const ConvShape good{.N = 1, .C = 4, .H = 8, .W = 8, .K = 6, .R = 3, .S = 3};
  validate(good, "conv");
  for (int64_t ConvShape::*extent : {&ConvShape::N, &ConvShape::C, &ConvShape::H, &ConvShape::W,
                                     &ConvShape::K, &ConvShape::R, &ConvShape::S}) {
    ConvShape bad = good;
    bad.*extent = -1;
    CHECK_ERROR(validate(bad, "conv"), invalid_argument, "conv", "extents");
    bad.*extent = kBeyond;
    CHECK_ERROR(validate(bad, "conv"), unsupported, "below 2^31");
  }
  ConvShape none = good;
  none.groups = 0;
  CHECK(to_string(none).find("w [6, 4, 3, 3]") != std::string::npos);
  CHECK(std::string(to_string(Math::fp32)) == "fp32");
  CHECK(std::string(to_string(Math::tf32)) == "tf32");
}

TEST_CASE("errors: shapes and dtypes that do not fit are refused by every kind of node") {
  Graph g;
  const Value x = g.input("x", {2, 3, 4}), y = g.input("y", {3, 4, 5}),
              half = g.input("half", {2, 3}, DType::float16);
  const Value flat = g.input("flat", {4}), scalar = g.input("scalar", {}),
              image = g.input("image", {1, 4, 8, 8});
  const Value filter = g.parameter("filter", {6, 4, 3, 3});
  const Graph before = g;
  CHECK_ERROR(g.matmul(x, y), shape_mismatch, "leading extents");
  CHECK_ERROR(g.matmul(flat, flat), shape_mismatch, "[..., m, k]");
  CHECK_ERROR(g.matmul(x, flat), shape_mismatch, "[..., m, k]");
  CHECK_ERROR(g.matmul(half, x), invalid_argument, "differ in dtype");
  CHECK_ERROR(g.matmul(x, half), invalid_argument, "differ in dtype");
  CHECK_ERROR(g.linear(half, x), invalid_argument, "differ in dtype");
  CHECK_ERROR(g.linear(x, half), invalid_argument, "differ in dtype");
  CHECK_ERROR(g.linear(scalar, y), shape_mismatch, "[out, in]");
  CHECK_ERROR(g.linear(x, y), shape_mismatch, "[out, in]");
  CHECK_ERROR(g.linear(x, scalar, flat), shape_mismatch, "[out, in]");
  CHECK_ERROR(g.conv2d(half, filter), invalid_argument, "differ in dtype");
  CHECK_ERROR(g.conv2d(image, half), invalid_argument, "differ in dtype");
  CHECK_ERROR(g.conv2d(x, filter), shape_mismatch, "[N, C, H, W]");
  CHECK_ERROR(g.conv2d(image, x), shape_mismatch, "[K, C / groups, R, S]");
  CHECK_ERROR(g.conv2d(image, scalar, flat), shape_mismatch, "[K, C / groups, R, S]");
  CHECK_ERROR(g.conv2d(image, filter, flat, {.name = "mine"}), shape_mismatch, "mine",
              "bias must be float32 [6]");
  CHECK_ERROR(g.add(x, y), shape_mismatch, "broadcast");
  CHECK_ERROR(g.add(x, half), invalid_argument, "differ in dtype");
  CHECK_ERROR(g.unary(Op::add, x), invalid_argument, "two arguments");
  CHECK_ERROR(g.binary(Op::exp, x, x), invalid_argument, "one argument");
  CHECK_ERROR(g.binary(Op::exp, x, 1.0f), invalid_argument, "one argument");
  CHECK_ERROR(g.binary(Op::exp, 1.0f, x), invalid_argument, "one argument");
  CHECK_ERROR(g.clip(x, 1, 0), invalid_argument, "low 1");
  CHECK_ERROR(g.type({.node = 99}), invalid_argument, "not of this graph");
  CHECK_ERROR(g.type({.node = x.node, .output = 1}), invalid_argument, "no output 1");
  CHECK_ERROR(g.type({.node = x.node, .output = -1}), invalid_argument, "no output -1");
  CHECK_ERROR(g.output("", x), invalid_argument, "needs a name");
  CHECK_ERROR(g.input("", {1}), invalid_argument, "needs a name");
  CHECK_ERROR(g.name(x, "other"), invalid_argument, "keeps it");
  CHECK_ERROR(g.name(filter, "other"), invalid_argument, "keeps it");
  CHECK(g == before);

  const Value conv = g.conv2d(image, filter, {.name = "mine"});
  CHECK(g.cast(conv, DType::float32) == conv);
  const Value narrow = g.cast(g.cast(conv, DType::float16), DType::float32);
  g.output("y", g.add(g.cast(narrow, DType::bfloat16), g.cast(g.mul(narrow, narrow), DType::bfloat16)));
  g.output("z", g.matmul(x, g.input("b", {2, 4, 5})));
  const std::string text = dump(g);
  for (const char* word : {"mine = conv2d(image, filter) : float32 [1, 6, 6, 6]", "to_float16", "matmul",
                           "parameter", "bfloat16 [1, 6, 6, 6]", "output y", "output z"}) {
    CAPTURE(word);
    CHECK(text.find(word) != std::string::npos);
  }
  Node two{.kind = NodeKind::elementwise, .name = "two", .inputs = {x}, .outputs = {g.type(x), g.type(x)}};
  two.epilogue = {{1, {}, {Arg::operand(0), Arg::operand(0)}}, {g.type(x).shape}};
  const Value first = g.append(two);
  g.output("second", {first.node, 1});
  CHECK(dump(g).find("output second = two:1") != std::string::npos);
}

TEST_CASE("errors: a tensor that no memory could hold is refused by name") {
  constexpr int64_t kHuge = int64_t{1} << 62;
  Graph g;
  const Value one = g.input("one", {1, 1}), row = g.input("row", {1, kHuge / 4}),
              column = g.input("column", {8, 1}), image = g.input("image", {1, 1, 2, 2});
  const Graph before = g;
  CHECK_ERROR(g.input("x", {2, -1}), invalid_argument, "input \"x\"", "[2, -1]", "negative");
  CHECK_ERROR(g.parameter("w", {kHuge, 4}), invalid_argument, "parameter \"w\"", "2^63 - 1");
  CHECK_ERROR(g.expand(one, {kHuge, 4}), invalid_argument, "expand_4", "[4611686018427387904, 4]");
  CHECK_ERROR(g.expand(one, {-1, 1, 1}), invalid_argument, "expand_4", "[-1, 1, 1]");
  CHECK_ERROR(g.tile(one, {kHuge, 4}), invalid_argument, "tile_", "2^63 - 1");
  CHECK_ERROR(g.pad(one, {0, kHuge}, {0, 0}), invalid_argument, "pad_4", "2^63 - 1");
  CHECK_ERROR(g.add(row, column), invalid_argument, "add_4", "[8, 1152921504606846976]");
  CHECK_ERROR(g.matmul(column, row), invalid_argument, "matmul_4", "[8, 1152921504606846976]");
  CHECK_ERROR(
      g.conv_transpose2d(image, image, {.stride = (int64_t{1} << 31) - 1, .padding = 1 - (int64_t{1} << 31)}),
      invalid_argument, "conv_transpose2d_4", "2^63 - 1");
  CHECK(g == before);
}

TEST_CASE("errors: more axes than a kernel walks are refused by the node's name") {
  using Make = Value (*)(Graph&, Value);
  for (const Make make : {Make([](Graph&g, Value x) { return g.mish(x); }),
                          Make([](Graph&g, Value x) { return g.softmax(x, 1); }), Make([](Graph&g, Value x) {
                            return g.sum(x, {0, 2, 4, 6, 8, 10, 12});
                          }),
                          Make([](Graph&g, Value x) { return g.gather(x, 7, {1}); })}) {
    Graph g;
    const Value x = g.input("x", Shape(14, 2));
    g.output("y", g.name(make(g, g.permute(x, {13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0})), "mine"));
    CHECK_ERROR(compile(g, {}, {.device = Device::cpu()}), unsupported, "mine: ", "axes", "at most 6");
  }
}

TEST_CASE("errors: texts are in the classic locale, whatever the program's is") {
  const file_testing::GroupingLocale locale;
  CHECK(str(1234567, " ", -7654321, " ", 0.5, " ", 1e6f) == "1234567 -7654321 0.5 1e+06");
  CHECK(to_string(Shape{1000000, 1}) == "[1000000, 1]");
  CHECK_ERROR(Tensor::from({5000}, {1, 2}), shape_mismatch, "[5000]", "5000 values");
  std::ostringstream outside;
  outside << 1234567;
  CHECK(outside.str() == "1.234.567");  // the program's own streams do as it says
}

TEST_CASE("errors: a long name is cut between characters") {
  const std::string name = std::string(99, 'n') + "\u4e16\u754c";
  CHECK(quote_name(name) == "\"" + std::string(99, 'n') + "\"...");
  CHECK(quote_name(std::string(200, '\x80')) == "\"\"...");
}
