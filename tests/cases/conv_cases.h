#pragma once
// The convolutions that unit tests, GPU tests and benchmarks run: one list, and a sample of real networks'
// shapes.

#include <array>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "ops/conv/kernels.h"
#include "tests/cases/conformance.h"

namespace solder::test {

struct ConvCase {
  std::string name;
  ConvShape shape;
  bool is_hard = false;  ///< of those that between them take every fused path; small

  /// Whether it takes long by the CPU's loops, or under a sanitizer.
  bool is_large() const { return shape.num_macs() > 30'000'000; }
};

/// x [N,C,H,W], w [K,C/groups,R,S].
inline ConvShape make_shape(const std::array<int64_t, 4>& x, const std::array<int64_t, 3>& w,
                            const Conv2dOptions& o = {}) {
  const auto [N, C, H, W] = x;
  const auto [K, R, S] = w;
  ConvShape s{.N = N, .C = C, .H = H, .W = W, .K = K, .R = R, .S = S, .groups = o.groups};
  s.stride_h = o.stride.h, s.stride_w = o.stride.w, s.dil_h = o.dilation.h, s.dil_w = o.dilation.w;
  s.pad_top = o.padding.top, s.pad_left = o.padding.left;
  s.pad_bottom = o.padding.bottom, s.pad_right = o.padding.right;
  return s;
}

/// x [64,64,256,256] -> conv 3x3 to 128 channels: the model that README's figures are of, and its batch of
/// one.
inline ConvCase headline_case(int64_t batch = 64) {
  return {"headline, batch " + std::to_string(batch), make_shape({batch, 64, 256, 256}, {128, 3, 3})};
}

inline std::vector<ConvCase> conv_cases() {
  return {
      {"plain", make_shape({2, 3, 9, 11}, {5, 3, 3})},
      {"one element", make_shape({1, 1, 1, 1}, {1, 1, 1})},
      {"1x1", make_shape({3, 4, 7, 5}, {6, 1, 1})},
      {"1x1, stride", make_shape({2, 16, 8, 8}, {8, 1, 1}, {.stride = 2})},
      {"7x7 stem", make_shape({1, 3, 20, 18}, {8, 7, 7}, {.stride = 2, .padding = 3})},
      {"5x5", make_shape({2, 2, 12, 13}, {3, 5, 5}, {.padding = 2})},
      {"dilation", make_shape({1, 4, 15, 14}, {4, 3, 3}, {.padding = {2, 3}, .dilation = {2, 3}})},
      {"sides that differ",
       make_shape({2, 3, 10, 9}, {4, 3, 2}, {.stride = {2, 3}, .padding = {0, 1, 3, 2}})},
      {"cropped", make_shape({1, 3, 12, 12}, {4, 3, 3}, {.padding = {-2, -1, 1, -3}})},
      {"groups", make_shape({2, 8, 9, 9}, {12, 3, 3}, {.padding = 1, .groups = 4})},
      {"groups of wide rows",
       make_shape({2, 8, 90, 1000}, {12, 3, 3}, {.stride = {2, 1}, .padding = 1, .groups = 4})},
      {"wide rows, 4x4", make_shape({1, 5, 50, 1027}, {9, 4, 4}, {.padding = {2, 1}})},
      {"depthwise", make_shape({2, 6, 11, 10}, {6, 3, 3}, {.stride = {2, 1}, .padding = 1, .groups = 6})},
      {"depthwise, multiplied", make_shape({1, 3, 8, 8}, {9, 3, 3}, {.groups = 3})},
      {"grouped 1x1", make_shape({2, 8, 6, 6}, {4, 1, 1}, {.groups = 2})},
      {"mostly padding", make_shape({1, 2, 5, 40}, {3, 1, 9}, {.padding = {0, 20}})},
      {"no images", make_shape({0, 2, 5, 5}, {3, 3, 3})},
      {"odd everything", make_shape({1, 33, 17, 19}, {31, 3, 3}, {.padding = 1})},
      {"small headline", make_shape({1, 64, 34, 34}, {128, 3, 3})},
      // Each way the rows kernel cuts a convolution up.
      {"rows: one strip, long runs", make_shape({1, 64, 131, 256}, {128, 3, 3}, {.padding = {1, 0}})},
      {"rows: padding in the slots", make_shape({3, 64, 9, 254}, {64, 3, 3}, {.padding = 1})},
      {"rows: strips, channels that fill no block", make_shape({2, 64, 7, 300}, {72, 3, 3}, {.padding = 1})},
      {"rows: two blocks of channels", make_shape({1, 40, 9, 254}, {200, 3, 3})},
      {"rows: 5x5 of few channels", make_shape({1, 24, 12, 200}, {128, 5, 5}, {.padding = 2})},
      {"rows: dilation", make_shape({2, 16, 20, 100}, {64, 3, 3}, {.dilation = 2})},
      {"rows: 1x1", make_shape({3, 35, 7, 64}, {16, 1, 1})},
      {"rows", make_shape({3, 64, 10, 256}, {128, 3, 3}), true},
      {"window: stride", make_shape({2, 24, 20, 22}, {40, 3, 3}, {.stride = 2, .padding = 1}), true},
      {"window: images share tiles", make_shape({4, 128, 7, 7}, {64, 1, 1}), true},
      {"packed: deep", make_shape({5, 528, 6, 9}, {200, 1, 1}), true},
      {"window: columns in a step", make_shape({2, 3, 33, 35}, {16, 7, 7}, {.stride = 2, .padding = 3}),
       true},
  };
}

inline std::vector<ConvCase> hard_conv_cases() {
  std::vector<ConvCase> cases = conv_cases();
  std::erase_if(cases, [](const ConvCase& c) { return !c.is_hard; });
  return cases;
}

/// Every sixth distinct shape of conv_shapes.csv that has one group and at least 0.5 GMAC (smaller ones
/// measure launches): a systematic sample, so that nobody picks favourites.
inline std::vector<ConvCase> network_conv_cases() {
  constexpr size_t kEvery = 6;
  std::vector<ConvCase> cases;
  std::set<std::string> seen;
  size_t num_eligible = 0;
  for (const CsvRow& row : read_conformance("conv_shapes.csv")) {
    const ConvShape shape = conv_shape(row);
    if (shape.groups != 1 || shape.num_macs() < 500'000'000 || row.at("sym_pad_ok") != "1") continue;
    if (!seen.insert(to_string(shape)).second) continue;
    if (num_eligible++ % kEvery == 0) cases.push_back({row.at("name"), shape});
  }
  return cases;
}

/// Whether a tool of compute-sanitizer runs that cannot follow cuBLAS (tests/gpu/sanitize.sh); then im2col is left out.
inline bool leaves_out_cublas() {
  const char* const sanitized = std::getenv("SOLDER_SANITIZED");
  return sanitized != nullptr && std::string_view(sanitized) == "without_cublas";
}

/// The kernels of this build for float32 by name, "" for what is chosen. All but `cpu` where there is a GPU, `cpu` alone
/// elsewhere.
inline std::vector<std::string> conv_family_names(Device device) {
  std::vector<std::string> names{""};
  for (const ConvFamily& family : conv_families())
    if (family.on_gpu == device.is_cuda() && family.make != nullptr &&
        !(leaves_out_cublas() && family.name == std::string_view("im2col")))
      names.push_back(family.name);
  return names;
}

/// Whether a node's words say that `family` runs ("": any that is not left out).
inline bool runs_family(const std::string& words, const std::string& family) {
  if (leaves_out_cublas() && words.starts_with("im2col,")) return false;
  return family.empty() || words.starts_with(family + ",");
}

/// Shapes of conv_cases() and network_conv_cases() with one group and images.
inline std::vector<ConvShape> one_group_shapes() {
  std::vector<ConvShape> shapes;
  for (const ConvCase& c : conv_cases()) shapes.push_back(c.shape);
  for (const ConvCase& c : network_conv_cases()) shapes.push_back(c.shape);
  std::erase_if(shapes, [](const ConvShape& s) { return s.groups != 1 || s.N == 0; });
  return shapes;
}

}  // namespace solder::test
