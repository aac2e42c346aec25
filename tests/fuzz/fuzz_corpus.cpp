// Writes the sample files of format_samples.h and solder-run's own graphs as seeds for libFuzzer: fuzz_corpus
// FOLDER makes FOLDER/npy, FOLDER/safetensors, FOLDER/text_graph and FOLDER/onnx, and FOLDER/functions.dict with the
// words of every function.
#include <filesystem>
#include <fstream>
#include <vector>

#include "examples/solder_run/built_ins.h"
#include "examples/solder_run/text_calls.h"
#include "examples/solder_run/text_graph.h"
#include "tests/cases/format_samples.h"
#include "tests/cases/text_graph_sample.h"
#include "tests/support/onnx_writer.h"

namespace {

void write_seeds(const std::filesystem::path& folder, const std::vector<std::string_view>& seeds) {
  std::filesystem::create_directories(folder);
  int count = 0;
  for (const std::string_view seed : seeds)
    std::ofstream(folder / std::to_string(count++), std::ios::binary)
        .write(seed.data(), static_cast<std::streamsize>(seed.size()));
}

// Small ONNX files: weights, integers to fold, a subgraph.
std::vector<std::string> onnx_files() {
  using namespace solder::onnx_testing;
  File conv{.nodes = {node("Conv", {"x", "w"}, {"c"}, {{"pads", std::vector<int64_t>{1, 1, 1, 1}}}),
                      node("Relu", {"c"}, {"y"})},
            .inputs = {value_info("x", {1, 1, 4, 4})},
            .outputs = {value_info("y", {1, 2, 4, 4})},
            .initializers = {float_tensor("w", {2, 1, 3, 3}, std::vector<float>(18, 0.5f))}};
  File reshape{
      .nodes = {node("Shape", {"x"}, {"s"}), node("Gather", {"s", "i"}, {"n"}),
                node("Concat", {"n", "m"}, {"t"}, {{"axis", 0}}), node("Reshape", {"x", "t"}, {"y"})},
      .inputs = {value_info("x", {2, 3, 4})},
      .outputs = {value_info("y", {-1, -1})},
      .initializers = {int_tensor("i", {1}, {0}), int_tensor("m", {1}, {-1})}};
  const File branch{.nodes = {node("Neg", {"x"}, {"b"})}, .outputs = {value_info("b", {2})}};
  File condition{.nodes = {node("If", {"c"}, {"y"},
                                {Attribute::graph("then_branch", branch.graph()),
                                 Attribute::graph("else_branch", branch.graph())})},
                 .inputs = {value_info("x", {2})},
                 .outputs = {value_info("y", {2})},
                 .initializers = {tensor("c", {}, kBool).text(9, "1")}};
  return {conv.bytes(), reshape.bytes(), condition.bytes()};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  using namespace samples;
  const std::filesystem::path folder = argv[1];
  write_seeds(folder / "npy",
              {kNpyF4, kNpyF2, kNpyBf16, kNpyScalar, kNpyVector, kNpyEmpty, kNpyFortran, kNpyFortranF2,
               kNpyVersion2, kNpyVersion3, kNpyF8, kNpyI8, kNpyBigEndian, kNpyStructured, kNpyObject});
  write_seeds(folder / "safetensors",
              {kSafetensorsPlain, kSafetensorsMixed, kSafetensorsNames, kSafetensorsNothing});
  std::vector<std::string_view> texts{kEverything, kBuilderCalls, kOuterProducts};
  for (size_t i = 0; i < solder_run::kNumBuiltIns; ++i) texts.push_back(solder_run::kBuiltIns[i].text);
  write_seeds(folder / "text_graph", texts);
  const std::vector<std::string> files = onnx_files();
  write_seeds(folder / "onnx", {files.begin(), files.end()});

  std::ofstream words(folder / "functions.dict");
  for (const std::string& name : solder_run::builder_call_names()) words << '"' << name << " \"\n";
  for (const solder::OpInfo& info : solder::kOps) {
    if (info.is_callable) words << '"' << info.name << " \"\n";
    for (int i = 0; i < info.num_params(); ++i) words << "\" " << info.params[i].name << "=2\"\n";
  }
}
