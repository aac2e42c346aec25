#pragma once

#include <map>
#include <string>
#include <string_view>

namespace solder_triton {

/// A JSON text's strings, numbers and words by their path: {"a": [{"b": "c"}, 1.5]} is a[0].b: c, a[1]: 1.5, and a#: 2,
/// the number of elements.
using JsonPaths = std::map<std::string, std::string>;

/// Throws Error(invalid_argument) on what is no JSON, and on escapes beyond ASCII, which Triton does not write.
JsonPaths read_json(std::string_view text);

/// `text` as a JSON string.
std::string json_string(std::string_view text);

}  // namespace solder_triton
