#pragma once
// What the fused families' choices of a config share.

#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "ops/conv/conv.h"

namespace solder {

/// No config, with the reason.
inline std::nullopt_t refuse(std::string* why_not, std::string reason) {
  *why_not = std::move(reason);
  return std::nullopt;
}

/// Why no fused kernel covers the shape; null where nothing here speaks against it.
inline const char* why_not_fused(const ConvShape& s) {
  if (s.groups != 1) return "groups";  // of a few channels each, which would leave most of a tile empty
  return s.N == 0 || s.H == 0 || s.W == 0 ? "an empty tensor" : nullptr;
}

/// What two things take together: more than either by as much as they hinder each other.
inline double both(double a, double b) { return std::pow(std::pow(a, 4) + std::pow(b, 4), 0.25); }

}  // namespace solder
