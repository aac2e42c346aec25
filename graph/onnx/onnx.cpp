#include "graph/onnx/onnx.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>

#include "graph/onnx/import.h"
#include "runtime/check.h"

namespace solder {
namespace {

template <class Row>
const Row* find_in(std::initializer_list<std::span<const Row>> tables, const std::string& op) {
  for (const auto rows : tables)
    if (const auto found = std::ranges::find(rows, op, &Row::op); found != rows.end()) return &*found;
  return nullptr;
}

}  // namespace

const OnnxRow* find_row(const std::string& op) {
  return find_in<OnnxRow>({kConstantRows, kElementwiseRows, kShapeRows, kLayerRows, kReduceRows, kResizeRows,
                           kAttentionRows, kEinsumRows, kIndexRows},
                          op);
}

const OnnxFold* find_fold(const std::string& op) {
  return find_in<OnnxFold>({kFoldedArithmetic, kFoldedShapes}, op);
}

std::vector<std::string_view> words_at(std::string_view words, int64_t opset) {
  std::vector<std::string_view> holding;
  while (!words.empty()) {
    const std::string_view word = words.substr(0, words.find(' '));
    words.remove_prefix(std::min(word.size() + 1, words.size()));
    const size_t colon = word.find(':'), dash = word.find('-');
    int64_t first = 0, last = INT64_MAX;
    if (colon != word.npos) {
      std::from_chars(word.data() + colon + 1, word.data() + dash, first);
      std::from_chars(word.data() + dash + 1, word.data() + word.size(), last);
    }
    if (opset >= first && opset <= last) holding.push_back(word.substr(0, colon));
  }
  return holding;
}

void require_foldable(const Shape& shape, OnnxType type) {
  constexpr int64_t kMostReals = 1 << 12;
  if (num_elements(shape) > (is_real(type) ? kMostReals : kMostFoldedElems))
    throw OnnxNotFolded(ErrorKind::unsupported, str("a known tensor of ", to_string(shape),
                                                    " is larger than what is worked out at import"));
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
