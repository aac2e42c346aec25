#include "runtime/tensor_map.h"

#include <vector>

#include "runtime/check.h"
#include "runtime/text_reader.h"

namespace solder {
namespace {

// "a", "b" and 7 more.
std::string listed(const std::vector<std::string>& names) {
  constexpr size_t kMostNames = 12;
  std::string text;
  for (size_t i = 0; i < names.size() && i < kMostNames; ++i)
    text += str(i == 0 ? "" : i + 1 == names.size() ? " and " : ", ", quote_name(names[i]));
  return names.size() > kMostNames ? str(text, " and ", names.size() - kMostNames, " more") : text;
}

}  // namespace

const Tensor& TensorMap::at(const std::string& name) const& try {
  const auto found = find(name);
  if (found == end()) fail(ErrorKind::invalid_argument, why_missing(name));
  return found->second;
}
SOLDER_HOST_MEMORY("TensorMap::at()")

void TensorMap::merge(TensorMap other) try {
  std::vector<std::string> twice;
  for (const auto& [name, tensor] : other)
    if (contains(name) || left_out.contains(name)) twice.push_back(name);
  for (const auto& [name, dtype] : other.left_out)
    if (contains(name)) twice.push_back(name);
  SOLDER_REQUIRE(twice.empty(), invalid_argument, "given twice: ", listed(twice));
  map::merge(other);
  left_out.merge(other.left_out);
}
SOLDER_HOST_MEMORY("TensorMap::merge()")

std::string TensorMap::why_missing(const std::string& name) const {
  if (const auto found = left_out.find(name); found != left_out.end())
    return str(quote_name(name), " is there, as ", found->second, "; solder takes F32, F16 and BF16");
  if (empty()) return str("there is no ", quote_name(name), ", nor any other");
  std::vector<std::string> names;
  for (const auto& named : *this) names.push_back(named.first);
  return str("there is no ", quote_name(name), "; there is ", listed(names));
}

}  // namespace solder
