// How weights meet float16 columns: scaled, rounded and put into the columns' order once, at compile time.

#include <cmath>
#include <cstring>

#include "ops/conv/im2col/im2col.h"
#include "runtime/divide.h"
#include "runtime/dtype.h"

namespace solder {

int64_t packed_im2col_pitch(const ConvShape& shape) {
  return round_up(shape.gemm_k(), 8);  // 16 bytes, which cuBLAS's fast kernels ask for
}

std::vector<std::byte> pack_weights(const ConvShape& s, const Im2colConfig& config, const float* w,
                                    std::span<const int32_t> exponents) {
  const int64_t pitch = packed_im2col_pitch(s), head = round_up(s.K * int64_t{sizeof(int32_t)}, 256);
  // In units of the columns' rows.
  const Im2colLayout layout = im2col_layout(s, config, 1, 1);
  const int64_t channels = s.C / s.groups;
  std::vector<std::byte> packed(static_cast<size_t>(head + s.K * pitch * int64_t{sizeof(uint16_t)}));
  std::memcpy(packed.data(), exponents.data(), exponents.size_bytes());
  auto* out = reinterpret_cast<uint16_t*>(packed.data() + head);
  for (int64_t k = 0; k < s.K; ++k, out += pitch)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t r = 0; r < s.R; ++r)
        for (int64_t t = 0; t < s.S; ++t, ++w) {
          out[r * layout.block_stride + c * layout.channel_stride + t] =
              float16_from_float(std::ldexp(*w, exponents[static_cast<size_t>(k)]));
        }
  return packed;
}

}  // namespace solder
