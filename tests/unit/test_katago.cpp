// KataGo's files as the example reads them: small ones made here, and what is wrong with others.
// NOTE: the installed layout, as in test_networks.cpp.
#include <doctest/doctest.h>
#include <solder/solder.h>

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "examples/katago/gzip.h"
#include "examples/katago/network.h"

namespace solder::test {
namespace {

// A whole network of few channels, written layer by layer.
class File {
 public:
  std::string text;

  File& words(const std::string& line) {
    text += line + "\n";
    return *this;
  }
  File& floats(int64_t count) {
    text += "@BIN@";
    for (int64_t i = 0; i < count; ++i) {
      const float value = 0.25f * std::sin(static_cast<float>(++state_));
      text.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    text += "\n";
    return *this;
  }
  File& conv(const std::string& name, int64_t size, int64_t c, int64_t k) {
    words(str(name, "\n", size, " ", size, "\n", c, " ", k, " 1 1"));
    return floats(size * size * c * k);
  }
  File& matmul(const std::string& name, int64_t c, int64_t k) {
    return words(str(name, "\n", c, " ", k)).floats(c * k);
  }
  File& bias(const std::string& name, int64_t k) { return words(str(name, " ", k)).floats(k); }
  File& norm(const std::string& name, int64_t c, const std::string& activation = "ACTIVATION_MISH") {
    words(str(name, "\n", c, " 1e-20 1 1")).floats(c);
    text += "@BIN@";
    for (int64_t i = 0; i < c; ++i) text.append("\0\0\x80?", 4);  // variances of 1
    text += "\n";
    floats(c).floats(c);
    return words(name + ".act\n" + activation);
  }

 private:
  int state_ = 0;
};

File header(int format = 14) {
  return File().words(str("tiny\n", format, "\n22\n19\n20 20 20 20 40 0.25 150\ntrunk\n3\n4 4 4 4 4"));
}

File tiny() {
  File f = header();
  f.conv("in", 3, 22, 4).matmul("in_global", 19, 4);
  f.words("ordinary_block a").norm("a.n1", 4).conv("a.c1", 3, 4, 4).norm("a.n2", 4).conv("a.c2", 3, 4, 4);
  f.words("gpool_block b").norm("b.n1", 4).conv("b.c1", 3, 4, 4).conv("b.cg", 3, 4, 2).norm("b.ng", 2);
  f.matmul("b.m", 6, 4).norm("b.n2", 4).conv("b.c2", 3, 4, 4);
  f.words("nested_bottleneck_block c\n1").norm("c.n1", 4).conv("c.c1", 1, 4, 2);
  f.words("ordinary_block c.0")
      .norm("c.0.n1", 2)
      .conv("c.0.c1", 3, 2, 2)
      .norm("c.0.n2", 2)
      .conv("c.0.c2", 3, 2, 2);
  f.norm("c.n2", 2).conv("c.c2", 1, 2, 4).norm("tip", 4);
  f.words("policyhead").conv("p1", 1, 4, 2).conv("g1", 1, 4, 2).norm("g1n", 2).matmul("g2b", 6, 2);
  f.norm("p1n", 2).conv("p2", 1, 2, 2).matmul("pass", 6, 2);
  f.words("valuehead").conv("v1", 1, 4, 2).norm("v1n", 2).matmul("v2", 6, 5).bias("v2b", 5);
  f.words("v2a ACTIVATION_RELU").matmul("v3", 5, 3).bias("v3b", 3).matmul("sv3", 5, 6).bias("sv3b", 6);
  return f.conv("own", 1, 2, 1);
}

std::string message(const std::string& file, ErrorKind kind = ErrorKind::io) {
  try {
    katago::read_network(file, "net.bin", 1);
  } catch (const Error& error) {
    CHECK(error.kind() == kind);
    return error.what();
  }
  return "nothing was thrown";
}

bool has(const std::string& text, const std::string& words) {
  CAPTURE(text);
  return text.find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("katago: a file of all kinds of blocks becomes a graph whose outputs have their shapes") {
  const katago::Network net = katago::read_network(tiny().text, "net.bin", 3);
  CHECK(net.name == "tiny");
  CHECK(net.multipliers == std::vector<float>{20, 20, 20, 20, 40, 0.25f, 150});
  const std::map<std::string, Shape> expected = {{"policy", {3, 2, 19, 19}},
                                                 {"pass", {3, 2}},
                                                 {"value", {3, 3}},
                                                 {"score", {3, 6}},
                                                 {"ownership", {3, 1, 19, 19}}};
  CHECK(net.graph.outputs().size() == expected.size());
  for (const auto& [name, value] : net.graph.outputs()) {
    CAPTURE(name);
    CHECK(net.graph.type(value).shape == expected.at(name));
  }
  // [R,S,C,K] in the file: 2 channels to 2, the third tap's second filter of the second channel.
  const Tensor w = net.weights.at("c.0.c1.weight");
  CHECK(w.shape() == Shape{2, 2, 3, 3});
  const std::string& text = tiny().text;
  const size_t begin = text.find("@BIN@", text.find("c.0.c1\n")) + 5;
  float stored[36];
  std::memcpy(stored, text.data() + begin, sizeof stored);
  CHECK(w.floats()[1 * 18 + 1 * 9 + 2] == stored[2 * 4 + 1 * 2 + 1]);
}

TEST_CASE("katago: any batch of a model gives the bits of a model compiled for it") {
  const auto network = [](int64_t n) { return katago::read_network(tiny().text, "net.bin", n); };
  const katago::Network net = network(4);
  const Model model = compile(net.graph, net.weights, {.device = Device::cpu()});
  for (const int64_t n : {1, 2, 3, 16}) {
    TensorMap inputs{{"spatial", Tensor::empty({n, 22, 19, 19})}, {"global", Tensor::empty({n, 19})}};
    int i = 0;
    for (auto& [name, tensor] : inputs)
      for (float& value : tensor.floats()) value = static_cast<float>(++i % 7) / 4;
    const TensorMap
        expected = compile(network(n).graph, net.weights, {.device = Device::cpu()}).session().run(inputs),
        got = model.batch(n).session().run(inputs);
    for (const auto& [name, tensor] : expected) {
      CAPTURE(name);
      CHECK(got.at(name).shape() == tensor.shape());
      CHECK(std::memcmp(got.at(name).data(), tensor.data(), static_cast<size_t>(tensor.num_bytes())) == 0);
    }
  }
}

TEST_CASE("katago: other formats are refused by their number") {
  for (const int format : {8, 13, 15, 16}) {
    const std::string said = message(header(format).text, ErrorKind::unsupported);
    CHECK(has(said, str("of format ", format)));
    CHECK(has(said, "net.bin"));
    CHECK(has(said, "tiny"));
  }
}

TEST_CASE("katago: what is cut, damaged or no such file is an error that says where") {
  const std::string text = tiny().text;
  for (size_t size = 0; size + 1 < text.size(); size += size < 200 ? 1 : 37) {
    if (size == 6) continue;  // format 1
    CAPTURE(size);
    CHECK(has(message(text.substr(0, size)), "net.bin: byte "));
  }
  CHECK(has(message(text + "more"), "the end of the file"));
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string copy = text;
    return message(copy.replace(copy.find(from), from.size(), to));
  };
  CHECK(has(replaced("22\n19\n", "21\n19\n"), "inputs of version 7"));
  CHECK(has(replaced("gpool_block", "other_block"), "not other_block"));
  CHECK(has(replaced("ACTIVATION_RELU", "ACTIVATION_GELU"), "not ACTIVATION_GELU"));
  CHECK(has(replaced("3 3\n22 4 1 1", "3 3\n22 4 2 1"), "no dilation"));
  CHECK(has(replaced("3 3\n22 4", "3 3\n99999999999 99999999999"), "floats"));
  CHECK(has(replaced("3 3\n22 4", "0 3\n22 4"), "floats"));
  CHECK(has(replaced("3 3\n22 4", "-3 3\n22 4"), "an integer, not -3"));
  CHECK(has(replaced("1e-20", "1e-2x"), "a number, not 1e-2x"));
  CHECK(has(replaced("20 20 20", "20 nan 20"), "a number, not nan"));
  std::string infinite = text;
  infinite.replace(infinite.find("@BIN@") + 5, 4, std::string("\0\0\x80\x7f", 4));
  CHECK(has(message(infinite), "finite weights"));
  std::string deep = header().conv("in", 3, 22, 4).matmul("in_global", 19, 4).text;
  for (int depth = 0; depth < 100; ++depth)
    deep += File()
                .words("nested_bottleneck_block c\n1")
                .norm(str("n", depth), 4)
                .conv(str("c", depth), 1, 4, 4)
                .text;
  CHECK(has(message(deep), "not nested as deep"));
}

TEST_CASE("katago: a gzip file is unpacked, and a damaged one is an error" *
          doctest::skip(!katago::kHasZlib)) {
  const std::string path =
      (std::filesystem::temp_directory_path() / str("solder_test_", ::getpid(), ".gz")).string();
  // gzip of "solder\n", stored.
  const std::string packed("\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03", 10);
  const auto read = [&](const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
    return katago::read_gzip(path);
  };
  const std::string stored = packed + std::string("\x01\x07\x00\xf8\xff", 5) + "solder\n";
  const std::string whole = stored + std::string("\xfe\xa9\x08\xe2\x07\x00\x00\x00", 8);
  CHECK(read(whole) == "solder\n");
  for (const std::string& damaged : {stored, whole.substr(0, 16), stored + std::string(8, '\1')}) {
    try {
      read(damaged);
      FAIL_CHECK("nothing was thrown");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::io);
      CHECK(has(error.what(), path));
    }
  }
  std::filesystem::remove(path);
  CHECK_THROWS_AS(katago::read_gzip(path), Error);
}

}  // namespace solder::test
