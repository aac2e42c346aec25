#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "runtime/tensor.h"

namespace solder {

/// Named tensors: the weights of a model.
using TensorMap = std::map<std::string, Tensor>;

/// Reads every tensor of a .safetensors file into a CPU tensor of its own, straight into its storage.
///
///   F32 -> float32,  F16 -> float16,  BF16 -> bfloat16
///
/// Nothing is converted. A tensor of another dtype (PyTorch keeps I64 counters in its batch norms) is
/// Error(unsupported) naming it, unless `skipped` is given: it is then left out, and `skipped` receives the
/// names left out, sorted. `__metadata__` is checked and ignored.
///
/// Throws Error(io) when the file cannot be read or breaks a rule of the format: a header of at most
/// 100,000,000 bytes, starting with '{', strict JSON in UTF-8 with no name twice, shapes and offsets that
/// agree, data with no overlap, hole or trailing bytes. Also refused, though JSON allows them: unknown
/// members of a tensor's description, and more than 64 axes.
///
/// No memory is allocated for a size before the file is known to have it. Until the whole header has been
/// validated, its bytes and 48 more for each tensor are all that is held.
TensorMap load_safetensors(const std::string& path, std::vector<std::string>* skipped = nullptr);

/// load_safetensors of bytes in memory; `name` is what messages call them.
TensorMap parse_safetensors(std::span<const std::byte> bytes, const std::string& name = "<memory>",
                            std::vector<std::string>* skipped = nullptr);

/// Writes `tensors`, from any device, as the reference implementation does: wider elements first, then by
/// name, each naturally aligned. The file appears complete or not at all: Error(io) with the system's reason
/// leaves an older file as it was. Error(invalid_argument) for a name that is "__metadata__" or not UTF-8,
/// and for names too long for the header's limit; Error(unsupported) above 64 axes.
void save_safetensors(const std::string& path, const TensorMap& tensors);

}  // namespace solder
