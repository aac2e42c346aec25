#pragma once
// What the tests of the file formats share.

#include <doctest/doctest.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/check.h"
#include "runtime/tensor.h"
#include "tests/support/grouping_locale.h"

namespace solder::file_testing {

/// A folder that goes away with its contents.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "solder_test_XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string path(const std::string& name) const { return (path_ / name).string(); }
  std::vector<std::string> list() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      names.push_back(entry.path().filename());
    return names;
  }

 private:
  std::filesystem::path path_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_file(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), std::ssize(bytes));
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// Runs `call`, which must throw Error(kind) with every one of `words` in its message.
template <class Call>
void check_error(ErrorKind kind, std::initializer_list<std::string_view> words, Call&& call) {
  try {
    call();
    FAIL_CHECK("nothing was thrown");
  } catch (const Error& error) {
    const std::string message = error.what();
    CAPTURE(message);
    CHECK(std::string_view(to_string(error.kind())) == to_string(kind));
    for (const std::string_view word : words) {
      const std::string expected(word);
      CAPTURE(expected);
      const bool said = message.find(expected) != std::string::npos;
      CHECK(said);
    }
  }
}

/// A tensor whose bytes are 1, 2, 3, ..., so that most elements differ and some are NaN or subnormal.
inline Tensor counting_tensor(const Shape& shape, DType dtype) {
  Tensor tensor = Tensor::empty(shape, dtype);
  for (int64_t idx = 0; idx < tensor.num_bytes(); ++idx)
    static_cast<uint8_t*>(tensor.data())[idx] = static_cast<uint8_t>((idx + 1) * 31);
  return tensor;
}

/// Equal in shape, dtype and every bit.
inline bool same(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         (a.num_bytes() == 0 || std::memcmp(a.data(), b.data(), static_cast<size_t>(a.num_bytes())) == 0);
}

/// The 2 x 3 array of make_format_samples.py; exact in every dtype.
inline Tensor sample_grid(DType dtype) {
  const std::vector<float> values = {-0.5f, -0.25f, 0.0f, 0.25f, 0.5f, 0.75f};
  return Tensor::from({2, 3}, values).to(dtype);
}

}  // namespace solder::file_testing
