#pragma once
// The --device option of the programs here.

#include <solder/solder.h>

#include <charconv>
#include <iostream>
#include <optional>
#include <string_view>

inline constexpr const char* kDeviceNames = "cpu, cuda, cuda:N or best";

/// A device by one of kDeviceNames; none for another text. "best" is a GPU where there is one, otherwise the CPU,
/// and stderr says why. Throws Error(unsupported) for a GPU that is not there.
inline std::optional<solder::Device> find_device(std::string_view name) {
  if (name == "cpu") return solder::Device::cpu();
  if (name == "cuda") return solder::Device::cuda(0);
  if (name == "best") {
    std::string why_cpu;
    const solder::Device device = solder::Device::best(&why_cpu);
    if (!why_cpu.empty()) std::cerr << "on the CPU: " << why_cpu << "\n";
    return device;
  }
  if (!name.starts_with("cuda:")) return {};
  int index = 0;
  const auto [end, error] = std::from_chars(name.data() + 5, name.data() + name.size(), index);
  if (error != std::errc() || end != name.data() + name.size() || index < 0) return {};
  return solder::Device::cuda(index);
}
