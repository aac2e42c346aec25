// libFuzzer target: any bytes give tensors or Error(io), and a refused file takes no more heap
// than its own size and 64 KiB (as long as it describes fewer than a thousand tensors).

#include <cstdint>
#include <cstring>
#include <vector>

#include "runtime/check.h"
#include "runtime/safetensors.h"
#include "tests/fuzz/fuzz_memory.h"

namespace {

void try_parse(std::span<const uint8_t> file) {
  const std::ptrdiff_t file_bytes = std::ssize(file);
  fuzz::start();
  try {
    const solder::TensorMap tensors = solder::parse_safetensors(std::as_bytes(file));
    // Every tensor also has a node in the map and a block of its own.
    const auto num_tensors = static_cast<std::ptrdiff_t>(tensors.size() + tensors.left_out.size());
    fuzz::must(fuzz::stop() <= 2 * file_bytes + 2048 * num_tensors + (64 << 10));
    std::ptrdiff_t total_bytes = 0;
    volatile float read = 0;  // every element, under the sanitizers' eyes
    for (const auto& [name, tensor] : tensors) {
      total_bytes += tensor.num_bytes() + std::ssize(name);
      for (int64_t idx = 0; idx < tensor.num_elems(); ++idx)
        read = solder::load_as_float(tensor.data(), tensor.dtype(), idx);
    }
    static_cast<void>(read);
    fuzz::must(total_bytes < file_bytes);
  } catch (const solder::Error& error) {
    fuzz::must(fuzz::stop() <= file_bytes + (64 << 10));
    fuzz::must(error.kind() == solder::ErrorKind::io);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> file(data, size);
  try_parse(file);
  // Again with the header length made right, or few mutations would get past it: the header ends at the last
  // '}'.
  std::vector<uint8_t> repaired(file.begin(), file.end());
  size_t end = size;
  while (end > 8 && repaired[end - 1] != '}') --end;
  if (end <= 8) return 0;
  const uint64_t header_bytes = end - 8;
  std::memcpy(repaired.data(), &header_bytes, 8);
  try_parse(repaired);
  return 0;
}
