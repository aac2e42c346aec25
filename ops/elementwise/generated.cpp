#include "ops/elementwise/generated.h"

#include <bit>
#include <cmath>

#include "ops/elementwise/value_range.h"
#include "ops/elementwise/walk.h"
#include "runtime/check_cuda.h"
#include "runtime/nvrtc.h"

namespace solder {

using namespace elementwise;

extern const char* const kElementwiseText;  // made by the Makefile from the headers that kernels share

namespace {

constexpr const char* kPrelude = R"(
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using uint32_t = unsigned;
using uint64_t = unsigned long long;
using int64_t = long long;
)";

// "DType::float16": as the text has it.
std::string text_of(DType dtype) { return str("DType::", to_string(dtype)); }

std::string text_of(Access access) {
  return access == Access::scalar    ? "Access::scalar"
         : access == Access::channel ? "Access::channel"
         : access == Access::vectors ? "Access::vectors"
                                     : "Access::strided";
}

// By its bits: NaN, infinities and -0 too.
std::string text_of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return bits == 0 ? "0" : str("__uint_as_float(", bits, "u)");
}

// `known` is where acc lies before the step.
std::string statement(const Step& step, math::Range known, const ElementwiseArgs& args, bool by_rows) {
  const int index = step.index;
  const std::string op = str("Op::", to_string(step.op));
  if (step.op == Op::store_slot) return str("copy(acc, s", index, ");");
  if (step.op == Op::store_output) {
    const DType dtype = args.outputs[step.index].dtype;
    const std::string types = str("<kVec, ", size_of(dtype), ">(p"), of = str(", ", text_of(dtype), ", ");
    return by_rows
               ? str("store_rows", types, ", ", index, of, args.rank, ", places, acc);")
               : str("store_output", types, ".args.outputs[", index, "].data", of, "first, num_elems, acc);");
  }
  if (is_unary(step.op))
    return str("apply_unary<", op, ">(", text_of(step.p), ", ", text_of(step.q), ", acc, {",
               text_of(known.low), ", ", text_of(known.high), "});");
  std::string text, source = str(step.source == Source::slot ? "s" : "x", index);
  if (step.source == Source::immediate) {
    text = str("fill(", text_of(step.p), ", number); ");
    source = "number";
  }
  return text + (step.op == Op::load ? str("copy(", source, ", acc);")
                                     : str("apply_binary<", op, ">(", step.swapped ? "true" : "false",
                                           ", acc, ", source, ");"));
}

}  // namespace

std::string elementwise_source(const Program& program, const ElementwiseArgs& args) {
  std::vector<bool> reads(kMaxOperands);
  reads[0] = true;
  for (const Step& step : program.view())
    if (step.source == Source::operand) reads[step.index] = true;

  const Walk walk = walk_of(args);
  const KernelParams params = params_of(args, walk);
  std::string loads, repeated, unpacks;
  for (int i = 0; i < program.num_operands; ++i) {
    if (!reads[i]) continue;
    const DType dtype = args.operands[i].dtype;
    const Access access = params.access[i];
    repeated += str("  float x", i, "[kElems];\n");
    if (!walk.by_rows && access != Access::dense) {
      repeated += str("  load_repeated<kVec>(p, ", i, ", ", text_of(access), ", ", text_of(dtype), ", ",
                      args.rank, ", places, x", i, ");\n");
      continue;
    }
    const std::string types = str("<kVec, ", size_of(dtype), ">(p");
    loads += str("  Words<", size_of(dtype), "> w", i, ";\n  ");
    loads += walk.by_rows
                 ? str("load_rows", types, ", ", i, ", ", text_of(access), ", ", args.rank, ", places")
                 : str("load_words", types, ".args.operands[", i, "].data, first, num_elems");
    loads += str(", w", i, ");\n");
    unpacks += str("  unpack(", text_of(dtype), ", w", i, ", x", i, ");\n");
  }
  std::string text = str(kPrelude, kElementwiseText, "namespace solder::elementwise {\n",
                         "extern \"C\" __global__ void __launch_bounds__(kThreads)\n",
                         ElementwiseKernel::kName, "(const __grid_constant__ KernelParams p) {\n");
  const std::string places = str("  find_places<kVec>(p, ", args.rank, ", first, places);\n");
  text += str(
      "  follow_previous();\n", "  using Index = ", fits_32_bits(params) ? "uint32_t" : "uint64_t", ";\n",
      "  constexpr int kVec = ", walk.length, ";\n",
      "  const Index first = first_elem<kVec, Index>(), num_elems = static_cast<Index>(p.args.num_elems);\n",
      walk.by_rows ? "  Vector" : "  Row", "Place<Index> places[kElems / kVec];\n");
  // All dense operands are on their way before the places of others are worked out.
  if (walk.by_rows) text += places;
  text += loads;
  if (!walk.by_rows && params.has_channels) text += places;
  text += repeated + unpacks + "  float number[kElems], acc[kElems]";
  for (int slot = 0; slot < program.num_slots; ++slot) text += str(", s", slot, "[kElems]");
  text += ";\n  copy(x0, acc);\n";
  const std::vector<math::Range> known = known_ranges(program);
  for (size_t i = 0; i < known.size(); ++i)
    text += "  " + statement(program.steps[i], known[i], args, walk.by_rows) + "\n";
  return text + "}\n}\n";
}

ElementwiseKernel::ElementwiseKernel(const std::string& code) {
  SOLDER_CUDA(cudaLibraryLoadData(&library_, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  cudaKernel_t kernel = nullptr;
  const cudaError_t status = cudaLibraryGetKernel(&kernel, library_, kName);
  if (status != cudaSuccess) {
    cudaLibraryUnload(library_);
    fail_cuda(status, "cudaLibraryGetKernel", __FILE__, __LINE__);
  }
  function_ = reinterpret_cast<Function>(kernel);
}

ElementwiseKernel::~ElementwiseKernel() { cudaLibraryUnload(library_); }

std::shared_ptr<const ElementwiseKernel> ElementwiseKernels::get(const std::string& source, Device device,
                                                                 std::string* how) {
  const auto [found, is_new] = made_.try_emplace(source);
  Made& made = found->second;
  if (is_new) {
    const DeviceInfo info = device_info(device);
    const CompiledCode compiled = compile_cuda(source, str("sm_", info.cc_major, info.cc_minor));
    if (compiled.code.empty()) {
      made.how = str("interpreted (", compiled.why_not, ")");
    } else {
      made.how = compiled.compile_ms > 0
                     ? str("generated, compiled in ", std::ceil(compiled.compile_ms), " ms")
                     : "generated, from the cache";
      SOLDER_CUDA(cudaSetDevice(device.index));
      made.kernel = std::make_shared<ElementwiseKernel>(compiled.code);
    }
  }
  *how = made.how;
  return made.kernel;
}

}  // namespace solder
