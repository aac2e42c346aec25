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

void TensorMap::strip_prefix(const std::string& prefix) try {
  if (prefix.empty() || (empty() && left_out.empty())) return;
  const auto stripped = [&](const std::string& name) {
    return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
  };
  TensorMap renamed;
  std::vector<std::string> twice;
  bool is_there = false;
  for (const auto& [name, tensor] : *this) {
    is_there |= name.starts_with(prefix);
    if (!renamed.emplace(stripped(name), tensor).second) twice.push_back(stripped(name));
  }
  for (const auto& [name, dtype] : left_out) {
    is_there |= name.starts_with(prefix);
    const bool is_new = renamed.left_out.emplace(stripped(name), dtype).second;
    if (!is_new || renamed.contains(stripped(name))) twice.push_back(stripped(name));
  }
  if (!is_there) {
    std::vector<std::string> names;
    for (const auto& named : *this) names.push_back(named.first);
    fail(ErrorKind::invalid_argument, str("no name starts with ", quote_name(prefix), "; there is ",
                                          names.empty() ? "nothing that solder takes" : listed(names)));
  }
  SOLDER_REQUIRE(twice.empty(), invalid_argument, "without ", quote_name(prefix),
                 " given twice: ", listed(twice));
  *this = std::move(renamed);
}
SOLDER_HOST_MEMORY("TensorMap::strip_prefix()")

std::string TensorMap::why_missing(const std::string& name) const {
  if (const auto found = left_out.find(name); found != left_out.end())
    return str(quote_name(name), " is there, as ", found->second, "; solder takes F32, F16 and BF16");
  if (empty()) return str("there is no ", quote_name(name), ", nor any other");
  std::vector<std::string> names;
  for (const auto& named : *this) names.push_back(named.first);
  return str("there is no ", quote_name(name), "; there is ", listed(names));
}

}  // namespace solder
