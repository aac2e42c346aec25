#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "runtime/tensor_map.h"

namespace solder {

/// Reads every tensor of a .safetensors file into a CPU tensor of its own, straight into its storage.
///
///   F32 -> float32,  F16 -> float16,  BF16 -> bfloat16
///
/// Nothing is converted. A tensor of another dtype (PyTorch keeps I64 counters in its batch norms) is named
/// in TensorMap::left_out, and asking for it is an error that says so. `__metadata__` is checked and ignored.
/// TensorMap::merge() puts together a checkpoint of several files.
///
/// Throws Error(io) when the file cannot be read or breaks a rule of the format: a header of at most
/// 100,000,000 bytes, starting with '{', strict JSON in UTF-8 with no name twice, shapes and offsets that
/// agree, data with no overlap, hole or trailing bytes. Also refused, though JSON allows them: unknown
/// members of a tensor's description, and more than 64 axes.
///
/// No memory is allocated for a size before the file is known to have it. Until the whole header has been
/// validated, its bytes and 48 more for each tensor are all that is held.
TensorMap load_safetensors(const std::string& path);

/// load_safetensors of bytes in memory; `name` is what messages call them.
TensorMap parse_safetensors(std::span<const std::byte> bytes, const std::string& name = "<memory>");

/// Writes `tensors`, from any device, as the reference implementation does: wider elements first, then by
/// name, each naturally aligned; what was left out on loading stays out. The file appears complete or not at
/// all, as with save_npy: Error(io) with the system's reason leaves an older file as it was.
/// Error(invalid_argument) for a name that is "__metadata__" or not UTF-8, and for names too long for the
/// header's limit; Error(unsupported) above 64 axes.
void save_safetensors(const std::string& path, const TensorMap& tensors);

}  // namespace solder
