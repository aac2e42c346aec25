// ONNX files as bytes: how weights are stored, files that are cut or lie, what a small file may cost.

#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>

#include "graph/solder.h"
#include "tests/support/file_testing.h"
#include "tests/support/onnx_writer.h"
#include "tests/support/support.h"

namespace solder::test {
namespace {

using namespace std::string_view_literals;
using namespace onnx_testing;
using file_testing::as_bytes;
using file_testing::check_error;
using file_testing::TempFolder;

OnnxNet parse(const File& file, const OnnxOptions& options = {}) {
  return parse_onnx(as_bytes(file.bytes()), options);
}

Tensor run_net(const OnnxNet& net, const Tensor& x) {
  return compile(net.graph, net.weights, {.device = Device::cpu()}).session().run({{"x", x}}).at("y");
}

// y = relu(conv(x, w) + b): x [1,2,3,3], w [2,2,1,1], so that a hand can compute it.
File conv_relu() {
  return {.nodes = {node("Conv", {"x", "w", "b"}, {"c"}, {{"kernel_shape", std::vector<int64_t>{1, 1}}}),
                    node("Relu", {"c"}, {"y"})},
          .inputs = {value_info("x", {1, 2, 3, 3})},
          .outputs = {value_info("y", {1, 2, 3, 3})},
          .initializers = {float_tensor("w", {2, 2, 1, 1}, {1, -2, 0.5f, 3}),
                           float_tensor("b", {2}, {-1, 0.25f})}};
}

void check_conv_relu(const OnnxNet& net) {
  const Tensor x = uniform({1, 2, 3, 3}, 1);
  const Tensor y = run_net(net, x);
  for (size_t i = 0; i < 9; ++i) {
    const double a = x.floats()[i], b = x.floats()[9 + i];
    CHECK(y.floats()[i] == doctest::Approx(std::max(0.0, a - 2 * b - 1)));
    CHECK(y.floats()[9 + i] == doctest::Approx(std::max(0.0, 0.5 * a + 3 * b + 0.25)));
  }
}

// y = x + w with w stored as `weight`; what is added, element by element.
std::vector<float> added(const Message& weight, int type = kFloat) {
  File file = one_node(node("Add", {"x", "w"}, {"y"}), {4});
  file.inputs = {value_info("x", {4}, type)};
  file.outputs = {value_info("y", {4}, type)};
  file.initializers = {weight};
  const DType dtype = type == kFloat16    ? DType::float16
                      : type == kBfloat16 ? DType::bfloat16
                                          : DType::float32;
  const Tensor y = run_net(parse(file), Tensor::from({4}, {0, 0, 0, 0}).to(dtype)).to(DType::float32);
  return {y.floats().begin(), y.floats().end()};
}

// Whether importing these bytes throws Error or succeeds; whatever else it does is a finding.
bool is_refused(std::string_view bytes) {
  try {
    (void)parse_onnx(as_bytes(bytes), {});
    return false;
  } catch (const Error&) {
    return true;
  }
}

// AddressSanitizer keeps what is freed, and pads what is taken.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kMeasuresMemory = false;
#else
constexpr bool kMeasuresMemory = true;
#endif

// MiB that the resident memory of a child process grows by in `call`, which must not throw; -1: it died.
int growth_mib(const std::function<void()>& call) {
  const auto resident_mib = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss >> 10;
  };
  const pid_t child = fork();
  if (child == 0) {
    malloc_trim(0);  // memory that is free already would hide what is taken of it, and so would an old peak
    std::ofstream("/proc/self/clear_refs") << 5;
    const auto before = resident_mib();
    call();
    _exit(static_cast<int>(std::min<long>(250, resident_mib() - before)));
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("onnx file: a convolution and a relu, from bytes and from a file") {
  const OnnxNet net = parse(conv_relu());
  REQUIRE(net.inputs.size() == 1);
  CHECK(net.inputs[0].name == "x");
  CHECK(net.inputs[0].type == TensorType{{1, 2, 3, 3}});
  REQUIRE(net.outputs.size() == 1);
  CHECK(net.outputs[0].name == "y");
  CHECK(net.outputs[0].type == TensorType{{1, 2, 3, 3}});
  check_conv_relu(net);
  const TempFolder folder;
  file_testing::write_file(folder.path("model.onnx"), conv_relu().bytes());
  check_conv_relu(import_onnx(folder.path("model.onnx")));
  check_error(ErrorKind::io, {"absent.onnx"}, [&] { (void)import_onnx(folder.path("absent.onnx")); });
}

TEST_CASE("onnx file: what its writer says of it besides") {
  const File known = one_node(node("Relu", {"x"}, {"y"}));
  const auto said = [](const Message& fields) { return Message().message(14, fields).bytes(); };
  const std::string entries = said(Message().text(1, "classes").text(2, "cat\ndog")) +
                              said(Message().text(2, "MIT").text(1, "licence")) + said(Message());
  const std::map<std::string, std::string> want = {{"classes", "cat\ndog"}, {"licence", "MIT"}, {"", ""}};
  CHECK(parse_onnx(as_bytes(entries + known.bytes()), {}).metadata == want);
  std::string many;
  for (int i = 0; i < 2000; ++i) many += said(Message().text(1, std::to_string(i)));
  check_error(ErrorKind::io, {"more pieces"}, [&] { (void)parse_onnx(as_bytes(known.bytes() + many), {}); });
}

TEST_CASE("onnx file: every way to store a weight") {
  const std::vector<float> want = {1.5f, -2, 0.25f, 1024};
  const auto floats = [&](Message message, int field) {
    for (const float value : want) message.real(field, value);
    return message;
  };
  CHECK(added(float_tensor("w", {4}, want)) == want);
  CHECK(added(tensor("w", {4}, kFloat).text(4, bytes_of(want))) == want);  // float_data, packed
  CHECK(added(floats(tensor("w", {4}, kFloat), 4)) == want);               // one by one
  const std::vector<double> doubles(want.begin(), want.end());
  File file = one_node(node("Cast", {"w"}, {"v"}, {{"to", kFloat}}), {4});
  file.nodes.push_back(node("Add", {"x", "v"}, {"y"}));
  for (const Message& stored : {tensor("w", {4}, kDouble).text(9, bytes_of(doubles)),
                                tensor("w", {4}, kDouble).text(10, bytes_of(doubles))}) {
    file.initializers = {stored};
    const Tensor y = run_net(parse(file), Tensor::from({4}, {0, 0, 0, 0}));
    CHECK(std::vector<float>(y.floats().begin(), y.floats().end()) == want);
  }
  std::vector<int64_t> halves, brains;
  std::vector<uint16_t> half_words, brain_words;
  for (const float value : want) {
    half_words.push_back(float16_from_float(value)), halves.push_back(half_words.back());
    brain_words.push_back(bfloat16_from_float(value)), brains.push_back(brain_words.back());
  }
  CHECK(added(tensor("w", {4}, kFloat16).integers(5, halves), kFloat16) == want);  // int32_data
  CHECK(added(tensor("w", {4}, kFloat16).text(9, bytes_of(half_words)), kFloat16) == want);
  CHECK(added(tensor("w", {4}, kBfloat16).integers(5, brains), kBfloat16) == want);
  CHECK(added(tensor("w", {4}, kBfloat16).text(9, bytes_of(brain_words)), kBfloat16) == want);
}

TEST_CASE("onnx file: weights as Constant nodes, and initializers that are inputs too") {
  File file = one_node(node("Add", {"x", "w"}, {"y"}), {4});
  file.nodes.insert(
      file.nodes.begin(),
      node("Constant", {}, {"w"}, {Attribute::tensor("value", float_tensor("", {4}, {1, 2, 3, 4}))}));
  const Tensor zeros = Tensor::from({4}, {0, 0, 0, 0});
  CHECK(run_net(parse(file), zeros).floats()[3] == 4);
  file = one_node(node("Add", {"x", "w"}, {"y"}), {4});
  file.initializers = {float_tensor("w", {4}, {1, 2, 3, 4})};
  file.inputs.push_back(value_info("w", {4}));
  const OnnxNet net = parse(file);
  CHECK(net.inputs.size() == 1);
  CHECK(run_net(net, zeros).floats()[2] == 3);
}

TEST_CASE("onnx file: elements that do not fit the declared shape") {
  File file = one_node(node("Add", {"x", "w"}, {"y"}), {4});
  const auto check_refused = [&](const Message& weight) {
    file.initializers = {weight};
    check_error(ErrorKind::io, {"w"}, [&] { (void)parse(file); });
  };
  check_refused(float_tensor("w", {4}, {1, 2, 3}));
  check_refused(float_tensor("w", {4}, {1, 2, 3, 4, 5}));
  check_refused(tensor("w", {4}, kFloat).text(9, "123456789012345"));
  check_refused(tensor("w", {4}, kFloat));
  check_refused(tensor("w", {4}, kFloat).real(4, 1));
  check_refused(tensor("w", {4, -1}, kFloat));
  check_refused(float_tensor("w", {INT64_MAX, 2, 4}, {1, 2, 3, 4}));
  check_refused(float_tensor("w", {int64_t{1} << 40}, {1, 2, 3, 4}));
}

TEST_CASE("onnx file: cut at every byte") {
  // The graph before the operator set, and after: each prefix lacks one of them.
  const File file = conv_relu();
  Message reversed;
  reversed.integer(1, 8).message(8, file.opset_import()).message(7, file.graph());
  for (const std::string& bytes : {file.bytes(), reversed.bytes()}) {
    check_conv_relu(parse_onnx(as_bytes(bytes), {}));
    for (size_t size = 0; size < bytes.size(); ++size) {
      CAPTURE(size);
      check_error(ErrorKind::io, {"cut.onnx"}, [&] {
        (void)parse_onnx(as_bytes(std::string_view(bytes).substr(0, size)), {}, "cut.onnx");
      });
    }
  }
}

TEST_CASE("onnx file: every length lies, and every byte") {
  const Message model = conv_relu().model();
  const std::string& bytes = model.bytes();
  int num_refused = 0;
  for (const size_t place : model.length_places())
    for (int value = 0; value < 256; ++value) {
      if (bytes[place] == static_cast<char>(value)) continue;
      std::string lying = bytes;
      lying[place] = static_cast<char>(value);
      num_refused += is_refused(lying);
    }
  CHECK(num_refused > 200 * std::ssize(model.length_places()));  // some lengths of names may be others
  for (size_t place = 0; place < bytes.size(); ++place)
    for (const int change : {0x01, 0x80, 0xff, 0x10}) {
      std::string changed = bytes;
      changed[place] = static_cast<char>(changed[place] ^ change);
      (void)is_refused(changed);
    }
  // A length of 2^63 - 1, of 2^64 - 1, and a number of more than 64 bits.
  for (const std::string& length :
       {Message().varint(INT64_MAX).bytes(), Message().varint(UINT64_MAX).bytes(), std::string(11, '\xff')})
    CHECK(is_refused(Message().tag(7, 2).bytes() + length));
}

TEST_CASE("onnx file: fields that nobody knows, and wire types that nobody uses") {
  // Unknown fields are skipped, as protocol buffers want it.
  const Message known = conv_relu().model();
  const std::string unknown =
      Message().integer(1000, 5).text(1001, "?").real(1002, 1).tag(1003, 1).raw("12345678", 8).bytes();
  check_conv_relu(parse_onnx(as_bytes(unknown + known.bytes() + unknown), {}));
  for (const int wire_type : {3, 4, 6, 7}) {
    const std::string group = known.bytes() + Message().tag(1000, wire_type).bytes();
    check_error(ErrorKind::io, {}, [&] { (void)parse_onnx(as_bytes(group), {}); });
  }
  check_error(ErrorKind::io, {},
              [&] { (void)parse_onnx(as_bytes(known.bytes() + Message().integer(0, 1).bytes()), {}); });
}

TEST_CASE("onnx file: a small file of many pieces does not take much memory" *
          doctest::skip(!kMeasuresMemory || is_sanitized())) {
  CHECK(growth_mib([] { (void)std::string(64 << 20, 'x').find('y'); }) >= 60);  // the meter measures
  // Two bytes an attribute: as objects they would be a hundred times as much. So with names, nodes and dims.
  constexpr size_t kCount = 2'000'000;
  Message attributes = node("Relu", {"x"}, {"y"}), names = node("Concat", {"x"}, {"y"}, {{"axis", 0}}), dims;
  std::string empty_attributes, empty_names;
  for (size_t i = 0; i < kCount; ++i) empty_attributes += "\x2a\x00"sv, empty_names += "\x0a\x00"sv;
  attributes.raw(empty_attributes.data(), empty_attributes.size());
  names.raw(empty_names.data(), empty_names.size());
  Message nodes;
  for (size_t i = 0; i < kCount; ++i) nodes.raw("\x0a\x00", 2);
  const auto check_small = [](const std::string& bytes) {
    const int grown = growth_mib([&] { (void)is_refused(bytes); });
    CHECK(grown >= 0);
    CHECK(grown < 32);
  };
  check_small(one_node(attributes).bytes());
  check_small(one_node(names).bytes());
  check_small(Message().integer(1, 8).message(8, File().opset_import()).message(7, nodes).bytes());
  File file = one_node(node("Add", {"x", "w"}, {"y"}), {4});
  file.initializers = {tensor("w", std::vector<int64_t>(kCount, 1), kFloat).text(9, "1234")};
  check_small(file.bytes());
  file.initializers = {tensor("w", {int64_t{1} << 34}, kFloat)};
  check_small(file.bytes());
}

TEST_CASE("onnx file: what is made large by few bytes is refused or waits for its use" *
          doctest::skip(!kMeasuresMemory || is_sanitized())) {
  // ConstantOfShape, Expand, Tile and Range of 2^34 elements, as arithmetic of shapes.
  const int64_t many = int64_t{1} << 34;
  const auto grows = [](const File& file) { return growth_mib([&] { (void)is_refused(file.bytes()); }); };
  File file{.inputs = {value_info("x", {4})},
            .outputs = {value_info("y", {4})},
            .initializers = {int_tensor("n", {1}, {many})}};
  file.nodes = {node("ConstantOfShape", {"n"}, {"c"}), node("Add", {"x", "c"}, {"y"})};
  CHECK(grows(file) >= 0);
  CHECK(grows(file) < 32);
  file.initializers = {int_tensor("n", {1}, {many}), int_tensor("one", {1}, {1})};
  file.nodes = {node("Expand", {"one", "n"}, {"c"}), node("Gather", {"x", "c"}, {"y"})};
  CHECK(grows(file) >= 0);
  CHECK(grows(file) < 32);
  file.initializers = {int_tensor("n", {}, {many}), int_tensor("zero", {}, {0}), int_tensor("one", {}, {1})};
  file.nodes = {node("Range", {"zero", "n", "one"}, {"c"}), node("Gather", {"x", "c"}, {"y"})};
  CHECK(grows(file) >= 0);
  CHECK(grows(file) < 32);
}

TEST_CASE("onnx file: subgraphs nested without end") {
  Message graph = one_node(node("Relu", {"x"}, {"y"})).graph();
  for (int depth = 0; depth < 20'000; ++depth) {
    // Appended outside in, a message is copied a depth times; names are left out to keep it short.
    Message inner, attribute, outer;
    attribute.text(1, "then_branch")
        .message(6, Message().raw(graph.bytes().data(), graph.bytes().size()))
        .integer(20, 5);
    inner.text(4, "If").message(5, attribute);
    graph = outer.message(1, inner);
    if (graph.bytes().size() > 400'000) break;
  }
  Message model;
  model.integer(1, 8).message(8, File().opset_import()).message(7, graph);
  CHECK(is_refused(model.bytes()));
}

}  // namespace solder::test
