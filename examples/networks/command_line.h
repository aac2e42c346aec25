#pragma once
// What the programs that run a whole network share: their command line, and weights in the graph's dtype.

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <vector>

#include "../device_option.h"

namespace networks {

constexpr const char* kOptions = R"(
  --device D   cpu, cuda, cuda:N or best (default)
  --math M     fp32 (default), tf32, fp16 or bf16
  --dtype T    float32 (default), float16 or bfloat16: of weights and of all values
)";

struct CommandLine {
  std::vector<std::string> files;
  solder::DType dtype = solder::DType::float32;
  solder::CompileOptions compile;
};

/// Ends the program, with `usage` and the options, unless it is called as `usage` says: with `min` to `max` files.
inline CommandLine parse(int argc, char** argv, const char* usage, size_t min, size_t max) {
  const auto fail = [&](const std::string& message) {
    std::cerr << message << "\nusage: " << usage << kOptions;
    std::exit(2);
  };
  CommandLine line;
  std::string device = "best";
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (!word.starts_with("--")) {
      line.files.push_back(word);
      continue;
    }
    const std::string value = i + 1 < argc ? argv[++i] : "";
    if (word == "--device") {
      device = value;
    } else if (word == "--math") {
      const auto math = solder::math_named(value);
      if (!math) fail(std::string("--math takes ") + solder::kMathNames);
      line.compile.math = *math;
    } else if (word == "--dtype") {
      const solder::DType all[] = {solder::DType::float32, solder::DType::float16, solder::DType::bfloat16};
      const auto* const found =
          std::ranges::find_if(all, [&](auto dtype) { return value == to_string(dtype); });
      if (found == std::end(all)) fail("--dtype takes float32, float16 or bfloat16");
      line.dtype = *found;
    } else {
      fail("no option " + word + " " + value);
    }
  }
  if (line.files.size() < min || line.files.size() > max) fail("wrong number of files");
  const auto found = find_device(device);
  if (!found) fail(std::string("--device takes ") + kDeviceNames);
  line.compile.device = *found;
  return line;
}

/// All tensors in `dtype`, rounded to nearest even.
inline solder::TensorMap converted(solder::TensorMap tensors, solder::DType dtype) {
  for (auto& [name, tensor] : tensors) tensor = tensor.to(dtype);
  return tensors;
}

}  // namespace networks
