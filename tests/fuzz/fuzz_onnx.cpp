// libFuzzer target: any bytes are refused as an ONNX file with solder::Error, or give a graph that compiles and runs.
// Bytes are taken twice: as a file, and as a recipe for a well-formed one with operators, attributes and inputs that do
// not fit.

#include <fuzzer/FuzzedDataProvider.h>

#include <cstdint>

#include "graph/solder.h"
#include "tests/fuzz/fuzz_memory.h"
#include "tests/support/onnx_writer.h"

namespace {

using namespace solder::onnx_testing;

constexpr const char* kOps[] = {"Abs",
                                "Acos",
                                "Add",
                                "Attention",
                                "AveragePool",
                                "BatchNormalization",
                                "Cast",
                                "Ceil",
                                "Clip",
                                "Concat",
                                "Constant",
                                "ConstantOfShape",
                                "Conv",
                                "ConvTranspose",
                                "CumSum",
                                "DepthToSpace",
                                "Div",
                                "Dropout",
                                "Einsum",
                                "Elu",
                                "Equal",
                                "Erf",
                                "Expand",
                                "Flatten",
                                "Floor",
                                "Gather",
                                "GatherND",
                                "Gelu",
                                "Gemm",
                                "GlobalAveragePool",
                                "GlobalMaxPool",
                                "Greater",
                                "GroupNormalization",
                                "HardSigmoid",
                                "HardSwish",
                                "Hardmax",
                                "Identity",
                                "If",
                                "InstanceNormalization",
                                "IsInf",
                                "LRN",
                                "LayerNormalization",
                                "LeakyRelu",
                                "Less",
                                "LogSoftmax",
                                "LpNormalization",
                                "MatMul",
                                "Max",
                                "MaxPool",
                                "Mean",
                                "MeanVarianceNormalization",
                                "Min",
                                "Mish",
                                "Mod",
                                "Mul",
                                "Neg",
                                "Not",
                                "PRelu",
                                "Pad",
                                "Pow",
                                "RMSNormalization",
                                "Range",
                                "ReduceLogSumExp",
                                "ReduceMax",
                                "ReduceMean",
                                "ReduceProd",
                                "ReduceSum",
                                "Relu",
                                "Reshape",
                                "Resize",
                                "ScatterND",
                                "Round",
                                "Selu",
                                "Shape",
                                "Shrink",
                                "Sigmoid",
                                "Sign",
                                "Sin",
                                "Size",
                                "Slice",
                                "Softmax",
                                "Softplus",
                                "SpaceToDepth",
                                "Split",
                                "Sqrt",
                                "Squeeze",
                                "Sub",
                                "Sum",
                                "Tanh",
                                "Tile",
                                "Transpose",
                                "Unsqueeze",
                                "Upsample",
                                "Where"};
constexpr const char* kAttributes[] = {"alpha",
                                       "axes",
                                       "axis",
                                       "auto_pad",
                                       "beta",
                                       "blocksize",
                                       "ceil_mode",
                                       "count_include_pad",
                                       "dilations",
                                       "end",
                                       "ends",
                                       "epsilon",
                                       "equation",
                                       "group",
                                       "keepdims",
                                       "kernel_shape",
                                       "mode",
                                       "num_groups",
                                       "num_outputs",
                                       "output_padding",
                                       "output_shape",
                                       "pads",
                                       "perm",
                                       "scales",
                                       "size",
                                       "split",
                                       "start",
                                       "starts",
                                       "strides",
                                       "to",
                                       "transA",
                                       "training_mode",
                                       "transB",
                                       "value_int",
                                       "value_ints",
                                       "nearest_mode",
                                       "coordinate_transformation_mode",
                                       "stash_type",
                                       "allowzero",
                                       "antialias",
                                       "bias",
                                       "cubic_coeff_a",
                                       "exclude_outside",
                                       "extrapolation_value",
                                       "fmod",
                                       "keep_aspect_ratio_policy",
                                       "lambd",
                                       "p",
                                       "ratio"};
constexpr const char* kTexts[] = {"SAME_UPPER",
                                  "SAME_LOWER",
                                  "VALID",
                                  "nearest",
                                  "linear",
                                  "cubic",
                                  "constant",
                                  "reflect",
                                  "align_corners",
                                  "asymmetric",
                                  "floor",
                                  "DCR",
                                  "CRD",
                                  "wrap",
                                  "tf_crop_and_resize",
                                  "half_pixel_symmetric",
                                  "not_larger",
                                  "ab,bc->ac",
                                  "...a,a->...",
                                  "abcd->db",
                                  "a,b"};
constexpr int64_t kMostElems = 1 << 16;

int64_t small_number(FuzzedDataProvider& from) {
  return from.ConsumeIntegralInRange(0, 15) == 0 ? from.ConsumeIntegral<int64_t>()
                                                 : from.ConsumeIntegralInRange<int64_t>(-3, 6);
}

std::vector<int64_t> numbers(FuzzedDataProvider& from, size_t most) {
  std::vector<int64_t> values(from.ConsumeIntegralInRange<size_t>(0, most));
  for (int64_t& value : values) value = small_number(from);
  return values;
}

Attribute attribute(FuzzedDataProvider& from) {
  const std::string name = from.PickValueInArray(kAttributes);
  switch (from.ConsumeIntegralInRange(0, 3)) {
    case 0: return {name, small_number(from)};
    case 1: return {name, from.ConsumeFloatingPoint<float>()};
    case 2: return {name, from.PickValueInArray(kTexts)};
    default: return {name, numbers(from, 8)};
  }
}

File recipe(FuzzedDataProvider& from) {
  std::vector<int64_t> dims;
  for (int rank = from.ConsumeIntegralInRange(0, 5); rank > 0; --rank)
    dims.push_back(from.ConsumeIntegralInRange(0, 5));
  File file{.inputs = {value_info("x", dims)}, .opset = from.ConsumeIntegralInRange(6, 27)};
  std::vector<std::string> names = {"x", "w", "b", "n"};
  file.initializers = {float_tensor("w", {4, 2, 2, 2}, std::vector<float>(32, 0.5f)),
                       float_tensor("b", {4}, {1, 2, 3, 4})};
  const std::vector<int64_t> integers = numbers(from, 6);
  file.initializers.push_back(int_tensor("n", {static_cast<int64_t>(integers.size())}, integers));
  for (int count = from.ConsumeIntegralInRange(1, 5); count > 0; --count) {
    std::vector<std::string> inputs, outputs = {"v" + std::to_string(names.size())};
    for (int i = from.ConsumeIntegralInRange(0, 4); i > 0; --i)
      inputs.push_back(from.ConsumeIntegralInRange(0, 9) == 0
                           ? ""
                           : names[from.ConsumeIntegralInRange<size_t>(0, names.size() - 1)]);
    if (from.ConsumeIntegralInRange(0, 7) == 0) outputs.push_back(outputs[0] + "b");
    std::vector<Attribute> attributes;
    for (int i = from.ConsumeIntegralInRange(0, 3); i > 0; --i) attributes.push_back(attribute(from));
    file.nodes.push_back(node(from.PickValueInArray(kOps), inputs, outputs, attributes));
    names.insert(names.end(), outputs.begin(), outputs.end());
  }
  file.outputs = {value_info(names.back(), {})};
  return file;
}

bool is_small(const solder::Graph& graph) {
  for (const solder::Node& each : graph.nodes())
    for (const solder::TensorType& type : each.outputs)
      if (solder::num_elements(type.shape) > kMostElems) return false;
  return true;
}

void run(const solder::OnnxNet& net) {
  if (net.outputs.empty() || !is_small(net.graph)) return;
  solder::TensorMap inputs;
  for (const auto& [name, type] : net.inputs) {
    inputs[name] = solder::Tensor::empty(type.shape, type.dtype);
    for (int64_t i = 0; i < inputs[name].num_elems(); ++i)
      solder::store_from_float(inputs[name].data(), type.dtype, i, 0.25f);
  }
  const solder::Model model =
      solder::compile(net.graph, net.weights, {.device = solder::Device::cpu(), .threads = 1});
  const solder::TensorMap results = model.session().run(inputs);
  for (const auto& [name, type] : net.outputs) fuzz::must(results.at(name).shape() == type.shape);
}

// What is held beside the file stays below this: the graph of a few nodes, and 64 KiB.
constexpr std::ptrdiff_t kMostBytes = 1 << 20;

void try_import(std::string_view bytes) {
  fuzz::start();
  try {
    const solder::OnnxNet net = solder::parse_onnx(std::as_bytes(std::span(bytes.data(), bytes.size())));
    fuzz::stop();
    // What the importer takes, compile() may still refuse: with Error too.
    run(net);
  } catch (const solder::Error&) {
    fuzz::must(fuzz::stop() <= 2 * std::ssize(bytes) + kMostBytes);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try_import({reinterpret_cast<const char*>(data), size});
  FuzzedDataProvider from(data, size);
  try_import(recipe(from).bytes());
  return 0;
}
