#pragma once
// How a consumer warp of conv_rows_kernel writes its part of an output row: whole 128-byte lines.

#include "ops/conv/rows/params.cuh"
#include "ops/ptx/sm80.cuh"

namespace solder::rows {

/// Eight channels of a warp's part of a row on their way to memory. Channel r's part starts `phase(r)` floats
/// past a 128-byte line, so pixel q is staged in column (q + phase) % 32: each window of 32 columns is then a
/// whole line, and what belongs to the next window waits in `carry`. Half a warp writes a line.
struct RowStore {
  static constexpr int kNumWindows = kPartCols / kRowsStageCols;
  float* stage;  // the warp's [8][kRowsStagePitch]
  float* first;  // y, first channel, first column of the part
  int plane;     // of y, elements
  int num_cols;  // 0 where the channels do not exist
  uint32_t phase0, phase_step;
  int lane;
  float2 staged[4], carry[4];

  __device__ uint32_t phase(int r) const { return (phase0 + r * phase_step) & 31; }

  /// Stages N accumulators of channel lane / 4 from pixel `pixel0` on.
  template <int N>
  __device__ void put(int pixel0, const float (&values)[N]) {
    float* row = stage + (lane >> 2) * kRowsStagePitch;
    const uint32_t col0 = phase(lane >> 2) + 2 * (lane & 3) + pixel0;
#pragma unroll
    for (int i = 0; i < N; i += 2) {
      const uint32_t col = col0 + i * 4;
      *reinterpret_cast<float2*>(row + (col & 31)) = make_float2(values[i], values[i + 1]);
    }
  }

  /// The lane's first column of a window.
  __device__ int column() const { return (lane & 15) * 2; }

  /// Reads the window that all lanes have staged.
  __device__ void fetch() {
    const float* own = stage + (lane >> 4) * kRowsStagePitch + column();
#pragma unroll
    for (int i = 0; i < 4; ++i) staged[i] = *reinterpret_cast<const float2*>(own + 2 * i * kRowsStagePitch);
  }

  /// Writes window `window` (of kNumWindows, and one more for the rest), which has been fetched.
  __device__ void write(int window) {
    const bool is_last = window == kNumWindows;
    const int col = column();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = 2 * i + (lane >> 4);
      const int shift = static_cast<int>(phase(r));
      const bool current = col >= shift;  // otherwise the column belongs to the window before
      const int pixel = window * 32 + col - shift;
      float* dst = first + (r * plane + col - shift) + window * 32;
      const bool valid = (window > 0 || current) && (!is_last || !current) && pixel < num_cols;
      sm80::store_if(valid, reinterpret_cast<float2*>(dst), is_last || !current ? carry[i] : staged[i]);
      carry[i] = staged[i];
    }
  }
};

}  // namespace solder::rows
