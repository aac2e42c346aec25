#pragma once
// One call of conv_nhwc_kernel.

#include "ops/conv/epilogue/epilogue.h"
#include "ops/conv/nhwc/nhwc.h"

namespace solder {

class Context;

/// A tensor of y's shape [N,K,P,Q] in memory: elements from one image, pixel (row by row) and channel to the next.
struct NhwcSurface {
  void* data = nullptr;
  int64_t image = 0, pixel = 0, channel = 0;
  bool is_float32 = false;  ///< otherwise of x's type
  /// 8 channels, from a multiple of 8 on, lie side by side on a 16-byte line, and all pixels one stride apart.
  bool by_vectors = false;
  uint32_t pixel_vectors = 0;  ///< pixel / 8, where it is by vectors
};

struct NhwcCall {
  ConvShape shape;
  NhwcConfig config;
  DType dtype = DType::float16;  ///< of x and the weights
  NhwcStrides x_strides;
  const void* x = nullptr;       ///< 16-byte aligned
  const void* packed = nullptr;  ///< pack_nhwc_weights()
  const float* bias = nullptr;   ///< [K]; null: none
  NhwcSurface y, residual;       ///< residual.data null: none
  ConvChain activation = ConvChain::bias;
  ResidualAt residual_at = ResidualAt::none;
  float slope = 0;
};

/// y = epilogue(conv(x, w)), enqueued.
void conv_nhwc_cuda(const Context& context, const NhwcCall& call);

/// x' of is_stem(), dense, from x of the same type in any strides (elements; N,C,H,W).
void lay_out_stem_cuda(const Context& context, const ConvShape& shape, const int64_t (&x_strides)[4],
                       const void* x, void* blocks);

}  // namespace solder
