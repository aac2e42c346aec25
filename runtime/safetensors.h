#pragma once

#include <cstddef>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "runtime/tensor_map.h"
#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// How a checkpoint's names become those of a graph.
struct CheckpointOptions {
  /// Taken off every name that starts with it ("model.", "module."); other names stay. Error(invalid_argument) where
  /// no name does, and where two names become one.
  std::string strip_prefix;
};

/// Reads every tensor of a .safetensors file into a CPU tensor of its own, straight into its storage.
///
///   F32 -> float32,  F16 -> float16,  BF16 -> bfloat16
///
/// Nothing is converted. A tensor of another dtype (PyTorch keeps I64 counters in its batch norms) is named
/// in TensorMap::left_out, and asking for it is an error that says so. `__metadata__` is checked and ignored.
///
/// Throws Error(io) when the file cannot be read or breaks a rule of the format: a header of at most
/// 100,000,000 bytes, starting with '{', strict JSON in UTF-8 with no name twice, shapes and offsets that
/// agree, data with no overlap, hole or trailing bytes. Also refused, though JSON allows them: unknown
/// members of a tensor's description, and more than 64 axes.
///
/// No memory is allocated for a size before the file is known to have it. Until the whole header has been
/// validated, its bytes and 48 more for each tensor are all that is held.
TensorMap load_safetensors(const std::string& path, const CheckpointOptions& options = {});

/// A checkpoint of several files: load_safetensors({"a.safetensors", "b.safetensors"}). A name stands in one file only:
/// Error(invalid_argument) lists those given twice (TensorMap::merge).
TensorMap load_safetensors(const std::vector<std::string>& paths, const CheckpointOptions& options = {});
TensorMap load_safetensors(std::initializer_list<std::string> paths, const CheckpointOptions& options = {});

/// load_safetensors of bytes in memory; `name` is what messages call them.
TensorMap parse_safetensors(std::span<const std::byte> bytes, const std::string& name = "<memory>");

/// Writes `tensors`, from any device, as the reference implementation does: wider elements first, then by
/// name, each naturally aligned; what was left out on loading stays out. The file appears complete or not at
/// all, as with save_npy: Error(io) with the system's reason leaves an older file as it was.
/// Error(invalid_argument) for a name that is "__metadata__" or not UTF-8, and for names too long for the
/// header's limit; Error(unsupported) above 64 axes.
void save_safetensors(const std::string& path, const TensorMap& tensors);

}  // namespace solder
