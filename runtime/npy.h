#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "runtime/tensor.h"
#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// Reads a numpy array file (format versions 1.0, 2.0 and 3.0) into a CPU tensor, straight into its storage.
///
///   '<f4' -> float32,  '<f2' -> float16,  '<V2' and '|V2' -> bfloat16
///
/// numpy has no bfloat16: arrays of ml_dtypes.bfloat16 are saved as '<V2', two bytes without a meaning, and
/// other two-byte void arrays cannot be told from them. Nothing is converted: float64, integers and
/// big-endian data are Error(unsupported), which says what to call in numpy. Arrays in Fortran order are
/// transposed to row-major order.
///
/// Throws Error(io) when the file cannot be read or is not exactly what its header says, trailing bytes
/// included. No memory is allocated for a size before the file is known to have it: loading takes at most the
/// file's size and 64 KiB.
Tensor load_npy(const std::string& path);

/// load_npy of bytes in memory; `name` is what messages call them.
Tensor parse_npy(std::span<const std::byte> bytes, const std::string& name = "<memory>");

/// Writes `tensor`, from any device, as format version 1.0 with the dtypes above. In numpy, bfloat16 is
/// read by `numpy.load(path).view(ml_dtypes.bfloat16)`. Error(unsupported) above 64 axes, numpy's limit.
///
/// The file appears complete or not at all: Error(io) with the system's reason leaves an older file as it
/// was. That needs a folder in which a new file can be made. Symbolic links stay; the file that they lead to
/// is replaced, or made where there is none. Its mode stays, and its owner where this process may set it, but
/// no access list, and its other hard links keep the old content. A file that may not be written is refused.
/// Devices, pipes and /dev/stdout are no files to replace: they are written directly.
void save_npy(const std::string& path, const Tensor& tensor);

}  // namespace solder
