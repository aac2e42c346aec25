// Weights of ONNX files that lie in other files: offsets and lengths are checked, and no path leads out of the model's
// folder.

#include <filesystem>

#include "graph/solder.h"
#include "tests/support/file_testing.h"
#include "tests/support/onnx_writer.h"
#include "tests/support/support.h"

namespace solder::test {
namespace {

namespace fs = std::filesystem;
using namespace onnx_testing;
using file_testing::check_error;
using file_testing::TempFolder;
using file_testing::write_file;

const std::vector<float> kWeights = {9, 9, 1, 2, 3, 4};

// y = x + w, w [4] stored elsewhere; null: without that entry.
File with_external(const std::string& location, const char* offset, const char* length) {
  Message weight = tensor("w", {4}, kFloat).integer(14, 1).message(13, entry("location", location));
  if (offset != nullptr) weight.message(13, entry("offset", offset));
  if (length != nullptr) weight.message(13, entry("length", length));
  File file = one_node(node("Add", {"x", "w"}, {"y"}), {4});
  file.initializers = {weight};
  return file;
}

// w, by way of the model's file in `folder`.
std::vector<float> import(const TempFolder& folder, const std::string& location, const char* offset,
                          const char* length) {
  write_file(folder.path("model.onnx"), with_external(location, offset, length).bytes());
  const OnnxNet net = import_onnx(folder.path("model.onnx"));
  const Tensor zeros = Tensor::from({4}, {0, 0, 0, 0});
  const Tensor y =
      compile(net.graph, net.weights, {.device = Device::cpu()}).session().run({{"x", zeros}}).at("y");
  return {y.floats().begin(), y.floats().end()};
}

void check_refused(const TempFolder& folder, const std::string& location, const char* offset,
                   const char* length) {
  CAPTURE(location);
  CAPTURE(std::string(offset != nullptr ? offset : "none"));
  CAPTURE(std::string(length != nullptr ? length : "none"));
  check_error(ErrorKind::io, {"model.onnx", "node_y"},
              [&] { (void)import(folder, location, offset, length); });
}

std::string name_of(const TempFolder& folder) { return fs::path(folder.path("x")).parent_path().filename(); }

}  // namespace

TEST_CASE("onnx external data: offsets and lengths") {
  const TempFolder folder;
  write_file(folder.path("weights.bin"), bytes_of(kWeights));
  write_file(folder.path("short.bin"), "1234");
  fs::create_directory(folder.path("inner"));
  write_file(folder.path("inner/weights.bin"), bytes_of(kWeights));
  const std::vector<float> want = {1, 2, 3, 4};
  CHECK(import(folder, "weights.bin", "8", "16") == want);
  CHECK(import(folder, "weights.bin", "8", nullptr) == want);
  CHECK(import(folder, "inner/weights.bin", "8", "16") == want);
  CHECK(import(folder, "weights.bin", nullptr, "16") == std::vector<float>{9, 9, 1, 2});

  check_refused(folder, "absent.bin", nullptr, nullptr);
  check_refused(folder, "", nullptr, nullptr);
  check_refused(folder, "inner", nullptr, nullptr);
  check_refused(folder, "short.bin", nullptr, nullptr);
  check_refused(folder, "weights.bin", "12", "16");  // past the end
  check_refused(folder, "weights.bin", "8", "12");   // too few for [4]
  check_refused(folder, "weights.bin", "0", "20");   // too many
  check_refused(folder, "weights.bin", "-8", "16");
  check_refused(folder, "weights.bin", "9223372036854775807", "16");  // the sum overflows
  check_refused(folder, "weights.bin", "18446744073709551608", "16");
  check_refused(folder, "weights.bin", "8x", "16");
  check_refused(folder, "weights.bin", "8", "sixteen");
  check_refused(folder, "weights.bin", "", "16");
}

TEST_CASE("onnx external data: no way out of the model's folder") {
  const TempFolder folder, other;
  for (const TempFolder* each : {&folder, &other}) {
    fs::create_directory(each->path("inner"));
    write_file(each->path("weights.bin"), bytes_of(kWeights));
  }
  // All of these exist and fit.
  const std::string up = "../" + name_of(other) + "/weights.bin";
  fs::create_symlink(other.path("weights.bin"), folder.path("link.bin"));
  fs::create_directory_symlink(fs::path(other.path("x")).parent_path(), folder.path("link"));
  fs::create_symlink("link.bin", folder.path("chain.bin"));
  for (const std::string& location :
       {other.path("weights.bin"), folder.path("weights.bin"), up, "../" + name_of(folder) + "/weights.bin",
        std::string("inner/../weights.bin"), "inner/../" + up, std::string("link.bin"),
        std::string("chain.bin"), std::string("link/weights.bin"), std::string("inner/../link.bin")}) {
    REQUIRE(fs::exists(fs::path(folder.path("x")).parent_path() / location));
    check_refused(folder, location, "8", "16");
  }
  // A name with a zero byte, which the system would cut there.
  check_refused(folder, std::string("weights.bin\0.bin", 16), "8", "16");
  // Devices and pipes are no files of weights.
  fs::create_symlink("/dev/zero", folder.path("zero.bin"));
  check_refused(folder, "zero.bin", "8", "16");
}

TEST_CASE("onnx external data: many small weights beside a file of few bytes") {
  const TempFolder folder;
  constexpr int64_t kElems = 1 << 16, kCount = 20;
  write_file(folder.path("weights.bin"), std::string(sizeof(float) * kElems * kCount, '\0'));
  File file{.inputs = {value_info("v0", {kElems})}, .outputs = {value_info("v20", {kElems})}};
  for (int64_t i = 0; i < kCount; ++i) {
    const auto offset = static_cast<int64_t>(sizeof(float)) * kElems * i;
    file.initializers.push_back(tensor("w" + std::to_string(i), {kElems}, kFloat)
                                    .integer(14, 1)
                                    .message(13, entry("location", "weights.bin"))
                                    .message(13, entry("offset", std::to_string(offset))));
    file.nodes.push_back(
        node("Mul", {"v" + std::to_string(i), "w" + std::to_string(i)}, {"v" + std::to_string(i + 1)}));
  }
  write_file(folder.path("model.onnx"), file.bytes());
  CHECK(import_onnx(folder.path("model.onnx")).weights.size() == kCount);
}

TEST_CASE("onnx external data: bytes in memory have no folder") {
  const std::string bytes = with_external("weights.bin", "8", "16").bytes();
  check_error(ErrorKind::unsupported, {"w", "in memory"},
              [&] { (void)parse_onnx(file_testing::as_bytes(bytes)); });
}

}  // namespace solder::test
