#pragma once
// Pools, resizes and pads that unit tests, GPU tests and benchmarks run.

#include <cmath>
#include <string>
#include <vector>

#include "graph/solder.h"

namespace solder::test {

struct PoolCase {
  std::string name;
  Shape x;
  Pool2dOptions options;
};

inline std::vector<PoolCase> pool_cases() {
  return {
      {"2x2", {2, 3, 8, 10}, {.kernel = 2}},
      {"3x3, stride 2: the stem of ResNet", {1, 4, 15, 18}, {.kernel = 3, .stride = 2, .padding = 1}},
      {"5x5, stride 1", {1, 2, 9, 7}, {.kernel = 5, .stride = 1, .padding = 2}},
      {"13x13 over 13x13", {1, 2, 13, 13}, {.kernel = 13, .stride = 1, .padding = 6}},
      {"ragged", {3, 5, 11, 13}, {.kernel = {2, 3}, .stride = {3, 2}}},
      {"sides that differ", {1, 3, 9, 8}, {.kernel = 3, .stride = 2, .padding = {0, 0, 1, 1}}},
      {"last window reaches out", {1, 2, 6, 8}, {.kernel = 3, .stride = 2, .ceil_mode = true}},
      {"last window would start outside",
       {1, 2, 5, 5},
       {.kernel = 2, .stride = 3, .padding = 1, .ceil_mode = true}},
      {"one window, larger than x", {1, 1, 2, 2}, {.kernel = 3, .stride = 2, .ceil_mode = true}},
      {"padded and rounded up",
       {2, 2, 10, 7},
       {.kernel = {3, 2}, .stride = {4, 2}, .padding = {1, 0, 0, 1}, .ceil_mode = true}},
      {"the same without its padding",
       {2, 2, 10, 7},
       {.kernel = {3, 2},
        .stride = {4, 2},
        .padding = {1, 0, 0, 1},
        .ceil_mode = true,
        .count_include_pad = false}},
      {"padding does not count",
       {1, 3, 6, 6},
       {.kernel = 3, .stride = 1, .padding = 1, .count_include_pad = false}},
      {"windows of padding alone",
       {1, 1, 3, 3},
       {.kernel = 2, .stride = 1, .padding = {3, 2}, .count_include_pad = false}},
      {"dilation", {1, 2, 12, 11}, {.kernel = 3, .stride = {1, 2}, .padding = {2, 1}, .dilation = {2, 3}}},
      {"dilation, rounded up",
       {1, 2, 12, 11},
       {.kernel = {3, 2}, .stride = 3, .padding = {2, 1}, .dilation = {2, 5}, .ceil_mode = true}},
      {"along one axis", {2, 1, 9, 300}, {.kernel = {5, 1}, .stride = 1, .padding = {2, 0}}},
      {"more than a block of columns", {1, 1, 3, 700}, {.kernel = 3, .stride = 1, .padding = 1}},
      {"padding beyond 32 bits of a product: the kernel of 64-bit indices",
       {2, 3, 5, 6},
       {.kernel = {2, 3}, .stride = int64_t{1} << 27, .padding = int64_t{1} << 28}},
      {"one element", {1, 1, 1, 1}, {}},
      {"no images", {0, 2, 5, 5}, {.kernel = 2}},
      {"no channels", {2, 0, 5, 5}, {.kernel = 2}},
  };
}

struct PadCase {
  std::string name;
  Shape x;
  std::vector<int64_t> before, after;
  PadMode mode = PadMode::constant;
  float value = 0;
  std::vector<int64_t> interior = {};  ///< of those that the builder has none for
};

inline std::vector<PadCase> pad_cases() {
  constexpr PadMode kConstant = PadMode::constant, kReflect = PadMode::reflect, kEdge = PadMode::edge;
  return {
      {"an image by a border of zeros", {2, 3, 5, 6}, {0, 0, 1, 1}, {0, 0, 1, 1}},
      {"every axis, by 1.5", {2, 3, 4, 5}, {1, 0, 2, 3}, {0, 2, 1, 1}, kConstant, 1.5f},
      {"by what float16 cannot hold", {2, 7}, {0, 1}, {0, 1}, kConstant, 1e6f},
      {"by NaN", {3, 3}, {1, 1}, {1, 1}, kConstant, NAN},
      {"by -0", {1, 2}, {0, 3}, {0, 3}, kConstant, -0.0f},
      {"cropped", {2, 3, 7, 9}, {0, -1, -2, -3}, {0, -1, -1, 0}},
      {"cropped and padded", {2, 9, 9}, {0, -2, 3}, {0, 2, -4}, kConstant, 2},
      {"cropped beyond itself", {2, 5}, {0, 9}, {0, -7}, kConstant, 3},
      {"cropped to nothing", {2, 5}, {0, -2}, {0, -3}},
      {"reflected", {1, 2, 4, 5}, {0, 0, 3, 4}, {0, 0, 2, 1}, kReflect},
      {"reflected and cropped", {3, 8}, {2, -3}, {-1, 5}, kReflect},
      {"all reflected", {3, 6}, {2, -5}, {2, 5}, kReflect},
      {"edges", {1, 2, 3, 4}, {0, 1, 5, 7}, {0, 0, 9, 1}, kEdge},
      {"edges and cropped", {3, 8}, {2, -9}, {-1, 5}, kEdge},
      {"one element, its edges", {1, 1}, {3, 2}, {0, 40}, kEdge},
      {"nothing to do", {2, 3, 4}, {0, 0, 0}, {0, 0, 0}},
      {"an empty tensor, filled", {2, 0}, {1, 2}, {0, 3}, kConstant, 4},
      {"no images", {0, 3, 4}, {0, 1, 1}, {0, 1, 1}},
      {"rows longer than a vector", {3, 5, 67}, {0, 1, 5}, {0, 0, 3}, kEdge},
      {"six axes", {2, 2, 3, 2, 2, 3}, {1, 0, 1, 0, 1, 0}, {0, 1, 0, 1, 0, 1}, kReflect},
      {"zeros between neighbours", {1, 2, 3, 4}, {0, 0, 2, 1}, {0, 0, 1, 2}, kConstant, 0, {0, 0, 1, 2}},
      {"zeros between and cropped", {2, 3, 5}, {0, -1, -3}, {0, -1, -2}, kConstant, 0, {0, 3, 1}},
      {"between the only one and nothing", {1, 1}, {1, 0}, {0, 1}, kConstant, 5, {7, INT64_MAX - 1}},
  };
}

struct ResizeCase {
  std::string name;
  Shape x;
  ResizeOptions options;
};

/// Those of every coordinate mode, and of nearest every rounding.
inline std::vector<ResizeCase> resize_cases() {
  using enum ResizeCoordinates;
  using enum ResizeRounding;
  std::vector<ResizeCase> cases = {
      {"nearest, 2x", {2, 3, 4, 6}, {.scale = 2}},
      {"nearest, 4x: vectors", {2, 2, 3, 8}, {.scale = 4}},
      {"nearest, 3x by 5x", {1, 3, 4, 5}, {.scale = {3, 5}}},
      {"nearest, 8x", {1, 2, 2, 3}, {.scale = 8}},
      {"bilinear, 2x", {2, 3, 4, 6}, {.scale = 2, .mode = ResizeMode::bilinear}},
      {"from one pixel", {2, 3, 1, 1}, {.size = {5, 7}, .mode = ResizeMode::bilinear}},
      {"nothing to do", {1, 2, 3, 4}, {.size = {3, 4}, .mode = ResizeMode::bilinear}},
      {"rows alone", {1, 2, 3, 5}, {.size = {7, 0}, .scale = {0, 1}, .mode = ResizeMode::bilinear}},
      {"a size and other coordinates", {1, 2, 6, 6}, {.size = 5, .scale = 0.9, .mode = ResizeMode::bilinear}},
      {"no images", {0, 3, 4, 4}, {.scale = 2}},
      {"no columns", {2, 3, 4, 0}, {.scale = 2}},
  };
  const Pair sizes[] = {{9, 14}, {3, 4}, {1, 2}, {12, 7}};
  for (const ResizeCoordinates coordinates :
       {half_pixel, half_pixel_symmetric, pytorch_half_pixel, align_corners, asymmetric}) {
    const std::string name = "coordinates " + std::to_string(static_cast<int>(coordinates));
    for (const Pair size : sizes) {
      cases.push_back(
          {name, {1, 2, 6, 7}, {.size = size, .mode = ResizeMode::bilinear, .coordinates = coordinates}});
      for (const ResizeRounding rounding : {floor, ceil, round_prefer_floor, round_prefer_ceil})
        cases.push_back(
            {name, {1, 2, 6, 7}, {.size = size, .coordinates = coordinates, .rounding = rounding}});
    }
    for (const double scale : {0.6, 1.3, 2.7})
      for (const ResizeMode mode : {ResizeMode::nearest, ResizeMode::bilinear})
        cases.push_back(
            {name, {1, 2, 6, 7}, {.scale = {scale, 1}, .mode = mode, .coordinates = coordinates}});
  }
  return cases;
}

}  // namespace solder::test
