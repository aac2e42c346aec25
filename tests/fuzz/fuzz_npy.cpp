// libFuzzer target: any bytes give a tensor or Error(io | unsupported), and a refused file takes no more heap
// than its own size and 64 KiB.

#include <cstdint>
#include <vector>

#include "runtime/check.h"
#include "runtime/npy.h"
#include "tests/fuzz/fuzz_memory.h"

namespace {

void try_parse(std::span<const uint8_t> file) {
  const std::ptrdiff_t file_bytes = std::ssize(file);
  fuzz::start();
  try {
    const solder::Tensor tensor = solder::parse_npy(std::as_bytes(file));
    fuzz::must(fuzz::stop() <= file_bytes + (64 << 10));
    fuzz::must(tensor.num_bytes() < file_bytes);
    volatile float read = 0;  // every element, under the sanitizers' eyes
    for (int64_t idx = 0; idx < tensor.num_elems(); ++idx)
      read = solder::load_as_float(tensor.data(), tensor.dtype(), idx);
    static_cast<void>(read);
  } catch (const solder::Error& error) {
    fuzz::must(fuzz::stop() <= file_bytes + (64 << 10));
    fuzz::must(error.kind() == solder::ErrorKind::io || error.kind() == solder::ErrorKind::unsupported);
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
  while (end > 10 && repaired[end - 1] != '}') --end;
  if (end <= 10 || end - 10 > 0xffff) return 0;
  repaired[8] = static_cast<uint8_t>((end - 10) & 255u);
  repaired[9] = static_cast<uint8_t>((end - 10) >> 8);
  try_parse(repaired);
  return 0;
}
