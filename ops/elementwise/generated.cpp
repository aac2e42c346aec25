#include "ops/elementwise/generated.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "ops/elementwise/value_range.h"
#include "runtime/check_cuda.h"
#include "runtime/nvrtc.h"

namespace solder {

using elementwise::Access;

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
                                     : "Access::strided";
}

// By its bits: NaN, infinities and -0 too.
std::string text_of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return bits == 0 ? "0" : str("__uint_as_float(", bits, "u)");
}

// Neighbours a vector holds: 16 bytes of the widest dense array.
int vector_length(const ElementwiseArgs& args) {
  int64_t widest = 2;
  for (int i = 0; i < args.num_operands; ++i)
    if (access_of(args, args.operands[i]) == Access::dense)
      widest = std::max(widest, size_of(args.operands[i].dtype));
  for (int i = 0; i < args.num_outputs; ++i) widest = std::max(widest, size_of(args.outputs[i].dtype));
  return static_cast<int>(16 / widest);
}

// `known` is where acc lies before the step.
std::string statement(const Step& step, math::Range known, const ElementwiseArgs& args) {
  const int index = step.index;
  const std::string op = str("Op::", to_string(step.op));
  if (step.op == Op::store_slot) return str("copy(acc, s", index, ");");
  if (step.op == Op::store_output && !stores_dense(args))
    return str("store_spread<kVec>(p, ", index, ", ", text_of(args.outputs[step.index].dtype), ", ",
               args.rank, ", ", stores_by_vectors(args, vector_length(args)) ? "true" : "false",
               ", first, acc);");
  if (step.op == Op::store_output)
    return str("store_output<kVec>(p.args.outputs[", index, "].data, ",
               text_of(args.outputs[step.index].dtype), ", first, num_elems, acc);");
  if (is_unary(step.op))
    return str("apply_unary(", op, ", ", text_of(step.p), ", ", text_of(step.q), ", acc, {",
               text_of(known.low), ", ", text_of(known.high), "});");
  std::string text, source = str(step.source == Source::slot ? "s" : "x", index);
  if (step.source == Source::immediate) {
    text = str("fill(", text_of(step.p), ", number); ");
    source = "number";
  }
  return text + (step.op == Op::load ? str("copy(", source, ", acc);")
                                     : str("apply_binary(", op, ", ", step.swapped ? "true" : "false",
                                           ", acc, ", source, ");"));
}

}  // namespace

std::string elementwise_source(const Program& program, const ElementwiseArgs& args) {
  std::vector<bool> reads(kMaxOperands);
  reads[0] = true;
  for (const Step& step : program.view())
    if (step.source == Source::operand) reads[step.index] = true;

  std::string loads, spread, unpacks;
  bool has_channels = false;
  for (int i = 0; i < program.num_operands; ++i) {
    if (!reads[i]) continue;
    const Operand& operand = args.operands[i];
    const std::string dtype = text_of(operand.dtype);
    const Access access = access_of(args, operand);
    has_channels = has_channels || access == Access::channel;
    spread += str("  float x", i, "[kElems];\n");
    if (access == Access::dense) {
      const int64_t size = size_of(operand.dtype);
      loads += str("  Words<", size, "> w", i, ";\n  load_words<kVec, ", size, ">(p.args.operands[", i,
                   "].data, first, num_elems, w", i, ");\n");
      unpacks += str("  unpack(", dtype, ", w", i, ", x", i, ");\n");
    } else {
      spread += str("  load_spread<kVec>(p, ", i, ", ", text_of(access), ", ", dtype, ", ", args.rank,
                    ", first, places, x", i, ");\n");
    }
  }
  std::string text = str(kPrelude, kElementwiseText, "namespace solder::elementwise {\n",
                         "extern \"C\" __global__ void __launch_bounds__(kThreads)\n",
                         ElementwiseKernel::kName, "(const __grid_constant__ KernelParams p) {\n");
  text += str(
      "  using Index = ", fits_32_bits(args.num_elems) ? "uint32_t" : "uint64_t", ";\n",
      "  constexpr int kVec = ", vector_length(args), ";\n",
      "  const Index first = first_elem<kVec, Index>(), num_elems = static_cast<Index>(p.args.num_elems);\n",
      "  RowPlace<Index> places[kElems / kVec];\n");
  text += loads;
  if (has_channels) text += str("  find_rows<kVec>(p, ", args.rank, ", first, places);\n");
  text += spread + unpacks + "  float number[kElems], acc[kElems]";
  for (int slot = 0; slot < program.num_slots; ++slot) text += str(", s", slot, "[kElems]");
  text += ";\n  copy(x0, acc);\n";
  const std::vector<math::Range> known = known_ranges(program);
  for (size_t i = 0; i < known.size(); ++i) text += "  " + statement(program.steps[i], known[i], args) + "\n";
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
