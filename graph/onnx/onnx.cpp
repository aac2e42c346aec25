#include "graph/onnx/onnx.h"

#include <algorithm>

#include "graph/onnx/import.h"
#include "runtime/check.h"

namespace solder {
namespace {

const OnnxRow* find_in(std::span<const OnnxRow> rows, const std::string& op) {
  const auto found = std::ranges::find_if(rows, [&](const OnnxRow& row) { return op == row.op; });
  return found != rows.end() ? &*found : nullptr;
}

}  // namespace

const OnnxRow* find_row(const std::string& op) {
  for (const auto rows : {kElementwiseRows, kShapeRows, kLayerRows, kReduceRows, kResizeRows, kEinsumRows})
    if (const OnnxRow* const row = find_in(rows, op)) return row;
  return nullptr;
}

const OnnxRow* find_fold(const std::string& op) {
  for (const auto rows : {kFoldedArithmetic, kFoldedShapes})
    if (const OnnxRow* const row = find_in(rows, op)) return row;
  return nullptr;
}

void require_foldable(const Shape& shape, OnnxType type) {
  constexpr int64_t kMostReals = 1 << 12;
  if (num_elements(shape) > (is_real(type) ? kMostReals : kMostFoldedElems))
    throw OnnxTooLarge(ErrorKind::unsupported, str("a known tensor of ", to_string(shape),
                                                   " is larger than what is worked out at import"));
}

bool is_default_domain(const OnnxNode& node) { return node.domain.empty() || node.domain == "ai.onnx"; }

bool is_known_operator(const OnnxNode& node) {
  return is_default_domain(node) &&
         (node.op == "If" || find_row(node.op) != nullptr || find_fold(node.op) != nullptr);
}

OnnxNet import_onnx(const std::string& path, const OnnxOptions& options) try {
  const FileSource source(path);
  OnnxFile file(source, path);
  return OnnxImport(file, options).run();
}
SOLDER_HOST_MEMORY("import_onnx()")

OnnxNet parse_onnx(std::span<const std::byte> bytes, const OnnxOptions& options,
                   const std::string& name) try {
  const MemorySource source(bytes, name);
  OnnxFile file(source, "");
  return OnnxImport(file, options).run();
}
SOLDER_HOST_MEMORY("parse_onnx()")

}  // namespace solder
