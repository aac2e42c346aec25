#include "ops/conv/conv.h"

#include "runtime/check.h"

namespace solder {

std::string to_string(const ConvShape& s) {
  return str("x [", s.N, ", ", s.C, ", ", s.H, ", ", s.W, "], w [", s.K, ", ",
             s.groups > 0 ? s.C / s.groups : s.C, ", ", s.R, ", ", s.S, "], stride ", s.stride_h, "x",
             s.stride_w, ", dilation ", s.dil_h, "x", s.dil_w, ", padding top ", s.pad_top, " left ",
             s.pad_left, " bottom ", s.pad_bottom, " right ", s.pad_right, ", groups ", s.groups);
}

void validate(const ConvShape& s, const std::string& node) {
  const auto refuse = [&](ErrorKind kind, const std::string& why) {
    fail(kind, str(node, ": ", why, " (", to_string(s), ")"));
  };
  if (s.groups <= 0)
    refuse(ErrorKind::invalid_argument, str("groups is ", s.groups, "; it must be at least 1"));
  if (s.stride_h <= 0 || s.stride_w <= 0) refuse(ErrorKind::invalid_argument, "strides must be at least 1");
  if (s.dil_h <= 0 || s.dil_w <= 0)
    refuse(ErrorKind::invalid_argument, "dilations must be at least 1 (1 is a dense filter)");
  if (s.N < 0 || s.C <= 0 || s.H < 0 || s.W < 0 || s.K <= 0 || s.R <= 0 || s.S <= 0)
    refuse(ErrorKind::invalid_argument,
           "channels and kernel extents must be at least 1, other extents at least 0");
  if (s.C % s.groups != 0 || s.K % s.groups != 0)
    refuse(ErrorKind::shape_mismatch, str("groups ", s.groups, " must divide the ", s.C,
                                          " input channels and the ", s.K, " output channels"));

  // Every term below 2^31 keeps the sums exact; no image or filter comes near it.
  constexpr int64_t kLimit = int64_t{1} << 31;
  for (const int64_t term : {s.N, s.C, s.H, s.W, s.K, s.R, s.S, s.stride_h, s.stride_w, s.dil_h, s.dil_w}) {
    if (term >= kLimit) refuse(ErrorKind::unsupported, "extents, strides and dilations must be below 2^31");
  }
  for (const int64_t pad : {s.pad_top, s.pad_left, s.pad_bottom, s.pad_right}) {
    if (pad >= kLimit || pad <= -kLimit) refuse(ErrorKind::unsupported, "padding must be below 2^31");
  }
  const auto check_axis = [&](const char* what, int64_t padded, int64_t kernel) {
    if (padded < kernel)
      refuse(ErrorKind::shape_mismatch,
             str("the dilated kernel covers ", kernel, " ", what, " and the padded input has ", padded,
                 ": pad more or use a smaller kernel"));
  };
  check_axis("rows", s.H + s.pad_top + s.pad_bottom, s.dil_h * (s.R - 1) + 1);
  check_axis("columns", s.W + s.pad_left + s.pad_right, s.dil_w * (s.S - 1) + 1);
  const auto check_product = [&](const char* what, const Shape& extents) {
    try {
      num_bytes(extents, DType::float32);
    } catch (const Error&) {
      refuse(ErrorKind::unsupported, str(what, " ", to_string(extents), " passes 2^63 bytes"));
    }
  };
  check_product("the input", {s.N, s.C, s.H, s.W});
  check_product("the output", {s.N, s.K, s.P(), s.Q()});
  check_product("one image's column matrix", {s.gemm_k(), s.gemm_n()});
}

}  // namespace solder
