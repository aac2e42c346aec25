#include "gzip.h"

#include <solder/solder.h>

#include <cerrno>
#include <cstring>
#include <memory>

#if KATAGO_WITH_ZLIB
#include <zlib.h>

namespace katago {

const bool kHasZlib = true;

std::string read_gzip(const std::string& path) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (file == nullptr) throw solder::Error(solder::ErrorKind::io, path + ": " + std::strerror(errno));
  constexpr size_t kChunkBytes = size_t{1} << 20;
  std::string bytes;
  for (;;) {
    const size_t before = bytes.size();
    bytes.resize(before + kChunkBytes);
    const int got = gzread(file.get(), bytes.data() + before, kChunkBytes);
    bytes.resize(before + static_cast<size_t>(got > 0 ? got : 0));
    if (got > 0) continue;
    int status = Z_OK;
    const char* const why = gzerror(file.get(), &status);
    if (status != Z_OK && status != Z_STREAM_END)
      throw solder::Error(solder::ErrorKind::io, path + ": " + why);
    return bytes;
  }
}

}  // namespace katago

#else

namespace katago {

const bool kHasZlib = false;

std::string read_gzip(const std::string& path) {
  throw solder::Error(
      solder::ErrorKind::unsupported,
      path + ": built without zlib; install zlib1g-dev (or what your system calls it), then make");
}

}  // namespace katago

#endif
